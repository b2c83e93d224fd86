"""Training rows on disk: sources → examples → rows in memory-mapped arrays, and held-out examples.

`python -m models.imitation.dataset --data DATA --guard FILE --tokenizer T --out FOLDER`
"""

# ruff: noqa: T201 - a command line program prints.

from __future__ import annotations

import argparse
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from models.imitation import tokenizer as tokenizers
from models.imitation.examples import (
    Example,
    Question,
    document_examples,
    is_held_out,
    merge,
    qa_examples,
)
from models.imitation.rows import MAX_SEGMENTS, Row, RowBuilder
from models.imitation.sources import Decontaminator, Passage, read_jsonl

FIELDS = ("tokens", "targets", "positions", "segments", "kinds", "questions", "parents")
HELD_OUT_SHARE = 0.03
# Large single-style sources are capped, so that no one way of asking dominates.
CAPS = {"dstc9_faq": 5000, "medquad": 6000, "openstax_glossary": 6000}


@dataclass(frozen=True)
class Stage:
    """One part of the curriculum."""

    name: str
    length: int
    num_rows: int
    max_passages: int
    num_negatives: int


STAGES = (
    Stage("short", 384, 5_000, 1, 3),
    Stage("main", 640, 5_000, 3, 4),
    Stage("long", 1408, 300, 5, 5),
)


def write(rows: Iterator[Row], stage: Stage, folder: Path) -> int:
    """Write up to `stage.num_rows` rows to `folder`, one `.npy` a field; return how many."""
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, list[Any]] = {field: [] for field in FIELDS}
    for row in islice(rows, stage.num_rows):
        for field in FIELDS:
            parts[field].append(getattr(row, field))
    for field in FIELDS:
        np.save(folder / f"{field}.npy", np.stack(parts[field]))
    return len(parts["tokens"])


def save_examples(examples: Iterable[Example], path: Path) -> None:
    """Write examples as JSON lines."""
    with path.open("w", encoding="utf-8") as out:
        for example in examples:
            out.write(json.dumps(asdict(example), ensure_ascii=False) + "\n")


def load_examples(path: Path) -> list[Example]:
    """Return the examples that `save_examples` wrote."""
    return [
        Example(
            row["source"],
            row["group"],
            tuple(Passage(**passage) for passage in row["passages"]),
            tuple(Question(q["text"], tuple(q["gold"]), q["passage"]) for q in row["questions"]),
        )
        for row in read_jsonl(path)
    ]


def capped(examples: list[Example]) -> list[Example]:
    """Return `examples` with at most `CAPS` of each large source, in order."""
    counts: Counter[str] = Counter()
    kept = []
    for example in examples:
        family = example.source.split("/")[0]
        counts[family] += 1
        if counts[family] <= CAPS.get(family, 1_000_000):
            kept.append(example)
    return kept


def interleave(
    parts: list[list[Example]], weights: list[float], rng: random.Random
) -> Iterator[Example]:
    """Yield examples for ever, drawing the list by `weights`, each list in order and again."""
    places = [0] * len(parts)
    while True:
        index = rng.choices(range(len(parts)), weights)[0]
        part = parts[index]
        if places[index] % len(part) == 0:
            rng.shuffle(part)
        yield part[places[index] % len(part)]
        places[index] += 1


def is_wanted(document: dict[str, Any]) -> bool:
    """Leave out old novels and most statute law: their prose is not what people ask about."""
    if "classic-books" in document["source"]:
        return False
    return "law-xml" not in document["source"] or is_held_out(document["path"], 0.15)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Build training rows and held-out examples.")
    parser.add_argument("--data", type=Path, required=True, help="folder with qa/ and corpus/")
    parser.add_argument("--guard", type=Path, nargs="*", default=[], help="files never to train on")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    guard = Decontaminator(options.guard)
    tokenizer = tokenizers.load(options.tokenizer)

    rows = (row for path in sorted((options.data / "qa").glob("*.xz")) for row in read_jsonl(path))
    qa = qa_examples(rows, guard)
    documents = [d for d in read_jsonl(options.data / "corpus/shard-00.jsonl.xz") if is_wanted(d)]
    print(f"{len(qa)} qa rows, {len(documents)} documents", flush=True)

    options.out.mkdir(parents=True, exist_ok=True)
    qa_out = [e for e in qa if is_held_out(e.group, HELD_OUT_SHARE)]
    rng.shuffle(qa_out)
    save_examples(qa_out[:700], options.out / "held-qa.jsonl")
    qa_in = [e for e in qa if not is_held_out(e.group, HELD_OUT_SHARE)]
    rng.shuffle(qa_in)
    qa_in = capped(qa_in)
    by_size: dict[int, list[list[Example]]] = defaultdict(list)
    held: list[Example] = []
    num_dropped = 0
    for document in documents:
        size = (1, 3, 3, 5)[rng.randrange(4)]
        group = f"{document['source']}/{document['path']}"
        if is_held_out(group, HELD_OUT_SHARE):
            held += document_examples(document, guard, rng, 4)
            continue
        made = document_examples(document, guard, rng, size)
        num_dropped += not made
        by_size[size].append(made)
    rng.shuffle(held)
    save_examples(held[:400], options.out / "held-made.jsonl")
    print(
        f"{len(qa_in)} qa rows kept, {len(held)} made held out, {num_dropped} documents empty",
        flush=True,
    )

    counts: Counter[str] = Counter()
    for stage in STAGES:
        merged = merge(qa_in, rng, stage.max_passages)
        made = [example for part in by_size[stage.max_passages] for example in part]
        mixed = counted(interleave([merged, made], [0.55, 0.45], rng), counts)
        builder = RowBuilder(tokenizer, stage.length, rng)
        num_rows = write(builder.rows(mixed, stage.num_negatives), stage, options.out / stage.name)
        print(f"{stage.name}: {len(merged)}+{len(made)} examples, {num_rows} rows", flush=True)
    (options.out / "sources.json").write_text(json.dumps(dict(counts.most_common()), indent=1))
    print(f"{MAX_SEGMENTS} segments a row at most")


def counted(examples: Iterator[Example], counts: Counter[str]) -> Iterator[Example]:
    """Yield `examples`, counting them by source."""
    for example in examples:
        counts[example.source] += 1
        yield example


if __name__ == "__main__":
    main()
