"""Training runs of the bundled model: rows on disk → checkpoints, resumable at every one of them.

`python -m models.imitation.training --rows FOLDER --tokenizer T --out RUN --steps 5000`
"""

# ruff: noqa: T201 - a command line program prints.

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from models.imitation import tokenizer as tokenizers
from models.imitation.architecture import Decoder, Shape
from models.imitation.batches import Batch, RowReader
from models.imitation.circuits import Tokens, set_circuits
from models.imitation.embeddings import sentence_encoder, set_embeddings, token_texts
from models.imitation.errors import TrainingFailed
from models.imitation.muon import Muon
from models.imitation.rows import ANSWER, FIRST, TEXT

# The first word of an answer chooses the sentence; it is counted apart from the words copied.
KINDS = {"text": TEXT, "answer": ANSWER, "first": FIRST}


@dataclass(frozen=True)
class Plan:
    """What is trained for how long."""

    num_steps: int
    rows_per_step: int = 9
    lr_matrices: float = 0.012
    lr_circuits: float = 0.0012
    lr_embedding: float = 0.002
    lr_norms: float = 5e-4
    warmup_steps: int = 20
    decay_share: float = 0.5
    text_weight: float = 0.05
    first_weight: float = 1.0
    seed: int = 0

    def rate(self, step: int) -> float:
        """Return the factor on the learning rates: warm-up, flat, linear to 2 % at the end."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        left = (self.num_steps - step) / max(1.0, self.decay_share * self.num_steps)
        return max(0.02, min(1.0, left))


def losses(decoder: Decoder, batch: Batch) -> dict[str, Tensor]:
    """Return mean losses in nats by kind, and `right`: how many first words were predicted."""
    hidden = decoder(batch.tokens, batch.positions, batch.mask).flatten(0, 1)[batch.picks]
    logits = decoder.logits(hidden).float()
    each = functional.cross_entropy(logits, batch.targets, reduction="none")
    out = {}
    for name, kind in KINDS.items():
        chosen = (batch.kinds == kind).float()
        out[name] = (each * chosen).sum() / chosen.sum().clamp_min(1)
    is_first = batch.kinds == FIRST
    right = (logits.argmax(-1) == batch.targets) & is_first
    out["right"] = right.sum() / is_first.sum().clamp_min(1)
    return out


class Run:
    """A decoder in training; `save` and `load` make a stop at any checkpoint leave no trace."""

    def __init__(
        self, decoder: Decoder, plan: Plan, reader: RowReader, *, is_half: bool = False
    ) -> None:
        self.decoder = decoder
        self.plan = plan
        self.step = 0
        self.reader = reader
        self._is_half = is_half
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
            dtype=torch.bfloat16 if is_half else torch.float32,
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

    def advance(self) -> dict[str, float]:
        """Take one optimizer step; return its losses. Raises `TrainingFailed` at a loss of NaN."""
        batch = self.reader.batch(self.step)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._is_half):
            out = losses(self.decoder, batch)
        total = (
            out["answer"]
            + self.plan.first_weight * out["first"]
            + self.plan.text_weight * out["text"]
        )
        if not math.isfinite(float(total.detach())):
            raise TrainingFailed(f"the loss of step {self.step} is {float(total.detach())}.")
        self._muon.zero_grad()
        self._adam.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
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
        """Go on from a checkpoint that `save` wrote."""
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


def has_fast_bfloat16() -> bool:
    """Tell whether this processor multiplies bfloat16 faster than float32 (measured, 0.1 s)."""
    times = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(512, 512, dtype=dtype)
        a @ a
        started_s = time.perf_counter()
        for _ in range(20):
            a @ a
        times[dtype] = time.perf_counter() - started_s
    return times[torch.bfloat16] < 0.8 * times[torch.float32]


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
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--rows-per-step", type=int, default=Plan.rows_per_step)
    parser.add_argument("--lr-matrices", type=float, default=Plan.lr_matrices)
    parser.add_argument("--lr-embedding", type=float, default=Plan.lr_embedding)
    parser.add_argument("--lr-circuits", type=float, default=Plan.lr_circuits)
    parser.add_argument("--text-weight", type=float, default=Plan.text_weight)
    parser.add_argument("--first-weight", type=float, default=Plan.first_weight)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--start", type=Path, help="begin with the weights of this checkpoint")
    parser.add_argument("--plain-start", action="store_true", help="no embedder, no circuits")
    parser.add_argument("--stop-after", type=int, default=0, help="end after this many steps")
    parser.add_argument("--save-every-s", type=float, default=240)
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    options = parse_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    plan = Plan(
        options.steps,
        options.rows_per_step,
        options.lr_matrices,
        options.lr_circuits,
        options.lr_embedding,
        text_weight=options.text_weight,
        first_weight=options.first_weight,
        seed=options.seed,
    )
    tokenizer = tokenizers.load(options.tokenizer)
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = options.out / "last.pt"
    if options.start and not checkpoint.exists():
        decoder = load_decoder(options.start)
    else:
        decoder = Decoder(Shape(num_layers=options.layers, hidden=options.hidden), options.seed)
    reader = RowReader(options.rows, plan.rows_per_step, plan.seed)
    is_half = has_fast_bfloat16()
    run = Run(decoder, plan, reader, is_half=is_half)
    num_parameters = sum(p.numel() for p in decoder.parameters())
    print(f"{num_parameters / 1e6:.2f}M parameters, bfloat16 {is_half}", flush=True)
    if checkpoint.exists():
        run.load(checkpoint)
        print(f"resumed at step {run.step}", flush=True)
    elif not options.plain_start and not options.start:
        texts = token_texts(tokenizer, decoder.shape.vocab_size)
        set_embeddings(decoder, sentence_encoder(), texts)
        set_circuits(decoder, Tokens.of(tokenizer))
    log: list[dict[str, float]] = []
    started = saved = time.monotonic()
    first = run.step
    with (options.out / "log.jsonl").open("a") as out:
        while run.step < (options.stop_after or plan.num_steps):
            log.append(run.advance())
            out.write(json.dumps({"step": run.step, **log[-1]}) + "\n")
            now = time.monotonic()
            if run.step % 20 == 0:
                positions = (run.step - first) * plan.rows_per_step * reader.row_length
                speed = positions / (now - started)
                print(run.step, f"{speed:.0f} tok/s", *smoothed(log, 20), flush=True)
                out.flush()
            if now - saved > options.save_every_s or run.step == plan.num_steps:
                run.save(checkpoint)
                saved = now
    run.save(checkpoint)


if __name__ == "__main__":
    main()
