"""Trains the sentence reader: `python -m models.imitation.reading --ranked FILE --out FOLDER`.

The tasks are the bundled model's, ranked (`dataset` writes `ranked.pkl`): of each, the sentences
that answer compete with others that were found for the same question, and with there being none,
whose log odds are 0. In a share of them the answer's passage is taken away.
"""

# ruff: noqa: T201 - a command line program prints.

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.embedder import bundled_model_path, quiet_libraries
from models.imitation.dataset import is_kept_back, load_ranked
from models.imitation.embeddings import has_fast_bfloat16
from models.imitation.packs import SOURCE
from models.reader import (
    MAX_QUESTION_TOKENS,
    MAX_SENTENCE_TOKENS,
    join_pairs,
    open_tokenizer,
    to_read,
)
from models.reading_network import ReadingNetwork, load_network

STEPS = 1100
# Questions in a step, and sentences for each of them.
BATCH = 12
NUM_SENTENCES = 6
# Sentences ranked first are the ones hard to tell from an answer.
_NUM_HARD = 4
_MAX_GOLD = 2
_LOST_GOLD_SHARE = 0.3
_PACK_REPEATS = 3
_LEARNING_RATE = 1.2e-4
_WARMUP_STEPS = 100
_LAST_SHARE = 0.02
# Sentences of like length are read together, so that little of a step is padding.
_NUM_PARTS = 4
_SAVE_EVERY = 100


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence's tokens, whether it answers, and the passage it stands in."""

    tokens: list[int]
    is_gold: bool
    passage: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A question's tokens and the sentences that were found for it, best first."""

    source: str
    question: list[int]
    lines: list[Line]
    is_refusal: bool


def read_tasks(path: Path) -> list[Asked]:
    """Every ranked task but those kept back for calibration, as tokens."""
    tokenizer = open_tokenizer(bundled_model_path())
    found = []
    for ranked in load_ranked(path):
        if is_kept_back(ranked.task) or not ranked.ranked:
            continue
        texts = [to_read(item.context, item.sentence.text) for item in ranked.ranked]
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        lines = [
            Line(
                encoding.ids[:MAX_SENTENCE_TOKENS],
                (item.passage, item.sentence.start) in ranked.gold,
                item.passage,
            )
            for item, encoding in zip(ranked.ranked, encodings, strict=True)
        ]
        asked = tokenizer.encode(ranked.task.query, add_special_tokens=False).ids
        question = asked[-MAX_QUESTION_TOKENS:]
        found.append(Asked(ranked.task.source, question, lines, ranked.task.is_refusal))
    return found


def stream(tasks: Sequence[Asked], rng: random.Random) -> Iterator[tuple[Asked, list[Line], int]]:
    """Tasks without end, each with the sentences to compare, of which the first so many answer."""
    while True:
        epoch = [t for t in tasks for _ in range(_PACK_REPEATS if t.source == SOURCE else 1)]
        rng.shuffle(epoch)
        for task in epoch:
            gold = [line for line in task.lines if line.is_gold]
            is_lost = bool(gold) and rng.random() < _LOST_GOLD_SHARE
            lost = {line.passage for line in gold} if is_lost else set()
            others = [x for x in task.lines if not x.is_gold and x.passage not in lost]
            if not (gold or task.is_refusal) or (is_lost and not others):
                continue
            kept = [] if is_lost else rng.sample(gold, min(_MAX_GOLD, len(gold)))
            rest = others[_NUM_HARD:]
            rng.shuffle(rest)
            compared = [*others[:_NUM_HARD], *rest][: NUM_SENTENCES - len(kept)]
            yield task, [*kept, *compared], len(kept)


def measure_loss(odds: Tensor, num_gold: int) -> Tensor:
    """Negative log chance that one of the first `num_gold` sentences answers, or that none does."""
    chances = torch.cat([torch.zeros(1), odds]).log_softmax(0)
    return -(chances[1 : 1 + num_gold].logsumexp(0) if num_gold else chances[0])


def read_parts(network: ReadingNetwork, pairs: Sequence[tuple[list[int], list[int]]]) -> Tensor:
    """Log odds of `pairs`, in order, in bfloat16 where that is fast."""
    is_fast = has_fast_bfloat16()
    order = sorted(range(len(pairs)), key=lambda index: sum(map(len, pairs[index])))
    size = -(-len(order) // _NUM_PARTS)
    parts = []
    for start in range(0, len(order), size):
        batch = join_pairs([pairs[index] for index in order[start : start + size]])
        with torch.autocast("cpu", torch.bfloat16, enabled=is_fast):
            parts.append(network(*batch).float())
    places = torch.empty(len(order), dtype=torch.int64)
    places[torch.tensor(order)] = torch.arange(len(order))
    return torch.cat(parts)[places]


def make_optimizer(network: ReadingNetwork) -> torch.optim.AdamW:
    """AdamW over what is trained; only matrices decay."""
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=_LEARNING_RATE, betas=(0.9, 0.98))


def train(
    tasks: Sequence[Asked],
    folder: Path,
    steps: int,
    *,
    seed: int = 0,
    start_from: Path | None = None,
    rate: float = _LEARNING_RATE,
) -> ReadingNetwork:
    """The trained network, over the weights `start_from`, else over the embedder's.

    Goes on from `folder/last.pt` where that is.
    """
    torch.manual_seed(seed)
    quiet_libraries()
    base = bundled_model_path()
    network = load_network(start_from, base) if start_from else ReadingNetwork(base)
    network.requires_grad_(True).freeze_words()
    network.train()
    optimizer = make_optimizer(network)
    checkpoint, start = folder / "last.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    examples = stream(tasks, random.Random(seed + start))
    mean_loss = 0.0
    for step in range(start, steps):
        share = min(1.0, (step + 1) / _WARMUP_STEPS) * max(_LAST_SHARE, 1 - step / steps)
        for group in optimizer.param_groups:
            group["lr"] = rate * share
        batch = [next(examples) for _ in range(BATCH)]
        odds = read_parts(network, [(t.question, x.tokens) for t, lines, _ in batch for x in lines])
        pieces = torch.split(odds, [len(lines) for _, lines, _ in batch])
        losses = [measure_loss(p, num) for p, (_, _, num) in zip(pieces, batch, strict=True)]
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        mean_loss = loss.item() if step == start else 0.98 * mean_loss + 0.02 * loss.item()
        if step % 25 == 0:
            print(f"step {step}: loss {mean_loss:.3f}", flush=True)
        if (step + 1) % _SAVE_EVERY == 0:
            aside = checkpoint.with_suffix(".part")
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state | {"step": step + 1}, aside)
            aside.replace(checkpoint)
    return network


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train the sentence reader.")
    parser.add_argument("--ranked", type=Path, required=True, help="ranked.pkl of the dataset")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--start", type=Path, help="weights of a reader to go on from")
    parser.add_argument("--rate", type=float, default=_LEARNING_RATE, help="of the first steps")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tasks = read_tasks(options.ranked)
    print(f"{len(tasks)} questions", flush=True)
    target = options.out / "mynah-reader.safetensors"
    train(
        tasks,
        options.out,
        options.steps,
        seed=options.seed,
        start_from=options.start,
        rate=options.rate,
    ).save(target)
    print(target)


if __name__ == "__main__":
    main()
