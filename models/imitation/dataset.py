"""Training rows on disk: sources → tasks → ranked tasks → rows, and held-out tasks.

`python -m models.imitation.dataset --data DATA --guard FILE --tokenizer T --out FOLDER`
"""

# ruff: noqa: T201 - a command line program prints.

from __future__ import annotations

import argparse
import json
import pickle
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from models.imitation import tokenizer as tokenizers
from models.imitation.embeddings import sentence_encoder, word_encoder
from models.imitation.examples import document_examples, is_held_out, qa_examples
from models.imitation.packs import SOURCE, read_packs
from models.imitation.rows import FIELDS, RankedTask, Row, RowBuilder, Variation
from models.imitation.sources import Decontaminator, Passage, read_jsonl
from models.imitation.tasks import (
    Task,
    conversation_tasks,
    dialogue_tasks,
    example_tasks,
    locate_lines,
    with_passages,
)
from models.protocols import Vectors
from models.text.ranking import RankedSentence, ScoredPassage, rank_sentences

HELD_OUT_SHARE = 0.03
# Large single-style sources are capped, so that no one way of asking dominates.
CAPS = {"dstc9_faq": 3000, "medquad": 3500, "openstax_glossary": 3500}
NUM_MADE = 16_000
# The shards that hold handbooks, policies and textbooks.
SHARDS = ("corpus/shard-00.jsonl.xz", "corpus/shard-01.jsonl.xz")
NUM_OF_DOCUMENT = 3
# Whole packs of written conversations on which refusing is calibrated, never trained.
PACKS_HELD_SHARE = 0.12
# Of every epoch: how often a task of a written conversation stands in it, and the share of others.
# More than that and the model knew its examples by heart (LOG.md, run 7).
PACK_REPEATS = 3
OTHERS_SHARE = 1.0
MAX_PASSAGES = 5
ROW_LENGTH = 512


def read_tasks(
    data: Path, guard: Decontaminator, rng: random.Random
) -> tuple[list[Task], list[Task]]:
    """Return tasks of all sources, shuffled: those to train on and those held out."""
    rows = [row for path in sorted((data / "qa").glob("*.xz")) for row in read_jsonl(path)]
    rng.shuffle(rows)
    tasks = [
        *capped(example_tasks(qa_examples(rows, guard))),
        *dialogue_tasks(rows, guard),
        *islice(made_tasks(data, guard, rng), NUM_MADE),
        *(task for conversation in read_packs() for task in conversation_tasks(conversation)),
    ]
    rng.shuffle(tasks)
    held = [task for task in tasks if is_held_out(task.group, HELD_OUT_SHARE)]
    return [task for task in tasks if not is_held_out(task.group, HELD_OUT_SHARE)], held


def identity(task: Task) -> tuple[str, str]:
    """What a task is known by when more are ranked later."""
    return task.group, task.query


def made_tasks(data: Path, guard: Decontaminator, rng: random.Random) -> Iterator[Task]:
    """Yield a few tasks of a document, so that many documents are drawn on."""
    documents = [d for shard in SHARDS for d in read_jsonl(data / shard) if is_wanted(d)]
    rng.shuffle(documents)
    for document in documents:
        tasks = list(example_tasks(document_examples(document, guard, rng, 4)))
        yield from rng.sample(tasks, min(NUM_OF_DOCUMENT, len(tasks)))


def is_wanted(document: dict[str, Any]) -> bool:
    """Leave out old novels and most statute law: their prose is not what people ask about."""
    if "classic-books" in document["source"]:
        return False
    return "law-xml" not in document["source"] or is_held_out(document["path"], 0.15)


def capped(tasks: Iterable[Task]) -> Iterator[Task]:
    """Yield `tasks` with at most `CAPS` of each large source, in order."""
    counts: Counter[str] = Counter()
    for task in tasks:
        family = task.source.split("/")[0]
        counts[family] += 1
        if counts[family] <= CAPS.get(family, 1_000_000):
            yield task


class TaskRanker:
    """Ranks the sentences of tasks as the retriever and the grounder would."""

    def __init__(self, encode: Callable[[list[str]], Vectors]) -> None:
        self._encode = encode
        self._known: dict[str, Any] = {}

    @property
    def num_encoded(self) -> int:
        """Texts that were embedded so far."""
        return len(self._known)

    def rank(self, tasks: Sequence[Task], rng: random.Random, pool: Sequence[Passage]) -> Any:
        """Yield a `RankedTask` for each task, some with a passage of `pool` among theirs."""
        for start in range(0, len(tasks), 64):
            batch = [self._prepare(task, rng, pool) for task in tasks[start : start + 64]]
            # First pass: note what would be embedded; second: embed it at once, then rank.
            wanted: dict[str, None] = {}
            for task, gold in batch:
                self._rank(task, gold, partial(self._note, wanted))
            missing = sorted(wanted, key=len)
            self._known.update(zip(missing, self._encode(missing), strict=True))
            for task, gold in batch:
                ranked = self._rank(task, gold, self._look_up)
                yield RankedTask(task, tuple(ranked), gold)

    def _prepare(
        self, task: Task, rng: random.Random, pool: Sequence[Passage]
    ) -> tuple[Task, frozenset[tuple[int, int]]]:
        others = [rng.choice(pool)] if rng.random() < 0.3 else []
        most = MAX_PASSAGES if len(task.passages) > 4 else 4
        shown = with_passages(task, others, rng, rng.randint(2, most))
        return shown, locate_lines(shown)

    def _rank(
        self, task: Task, gold: frozenset[tuple[int, int]], encode: Any
    ) -> list[RankedSentence]:
        passages = [ScoredPassage(p.text, p.title.rpartition(" > ")[2], 0.5) for p in task.passages]
        return rank_sentences(task.query, passages, encode, max_embedded=9, kept=gold)

    def _note(self, wanted: dict[str, None], texts: Sequence[str]) -> Vectors:
        wanted.update((text, None) for text in texts if text not in self._known)
        return np.zeros((len(texts), 1), np.float32)

    def _look_up(self, texts: Sequence[str]) -> Vectors:
        return np.stack([self._known[text] for text in texts])


def is_kept_back(task: Task) -> bool:
    """Tell whether a written conversation serves calibration and not training."""
    return task.source == SOURCE and is_held_out(task.group, PACKS_HELD_SHARE)


def repeat(tasks: list[RankedTask], num_epochs: int, rng: random.Random) -> Iterator[RankedTask]:
    """Yield `tasks` in a new order for each epoch, written conversations more often."""
    for _ in range(num_epochs):
        epoch = []
        for task in tasks:
            if task.task.source == SOURCE:
                epoch += [task] * PACK_REPEATS
            elif rng.random() < OTHERS_SHARE:
                epoch.append(task)
        rng.shuffle(epoch)
        yield from epoch


def write(rows: Iterator[Row], folder: Path) -> int:
    """Write rows to `folder`, one `.npy` a field; return how many."""
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, list[Any]] = {field: [] for field in FIELDS}
    for row in rows:
        for field in FIELDS:
            parts[field].append(getattr(row, field))
    for field in FIELDS:
        np.save(folder / f"{field}.npy", np.stack(parts[field]))
    return len(parts["tokens"])


def save_ranked(tasks: list[RankedTask], path: Path) -> None:
    """Write ranked tasks, aside and then renamed; only this program reads them again."""
    aside = path.with_suffix(".part")
    aside.write_bytes(pickle.dumps(tasks))
    aside.replace(path)


def load_ranked(path: Path) -> list[RankedTask]:
    """Return what `save_ranked` wrote."""
    found: list[RankedTask] = pickle.loads(path.read_bytes())  # noqa: S301 - our own file
    return found


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Build training rows and held-out tasks.")
    parser.add_argument("--data", type=Path, required=True, help="folder with qa/ and corpus/")
    parser.add_argument("--guard", type=Path, nargs="*", default=[], help="files never to train on")
    parser.add_argument("--tokenizer", type=Path, help="without it no rows are cut")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rank", type=int, default=1_000_000, help="most tasks to rank now")
    parser.add_argument(
        "--by",
        choices=("sentences", "words"),
        default="sentences",
        help="rank by the embedder as the server does, or much faster by its word table",
    )
    parser.add_argument("--block-share", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    cache = options.out / "ranked.pkl"
    ranked = load_ranked(cache) if cache.exists() else []
    known = {identity(task.task) for task in ranked}
    training, held = read_tasks(options.data, Decontaminator(options.guard), rng)
    training = [task for task in training if identity(task) not in known][: options.rank]
    print(
        f"{len(ranked)} tasks ranked before, {len(training)} more, {len(held)} held out", flush=True
    )
    if training:
        pool = [rng.choice(task.passages) for task in training]
        ranker = TaskRanker(sentence_encoder() if options.by == "sentences" else word_encoder())
        started_s = time.monotonic()
        for task in ranker.rank(training, rng, pool):
            ranked.append(task)
            if len(ranked) % 1280 == 0:
                speed = ranker.num_encoded / (time.monotonic() - started_s)
                print(f"{len(ranked)} tasks ranked, {speed:.0f} texts/s", flush=True)
                save_ranked(ranked, cache)  # ranking is what takes long
        save_ranked(ranked, cache)
        held_out = options.out / "held.pkl"
        if held and not held_out.exists():
            save_ranked(list(ranker.rank(held, rng, pool)), held_out)
    counts = Counter(task.task.source for task in ranked)
    (options.out / "sources.json").write_text(json.dumps(dict(counts.most_common()), indent=1))
    if options.tokenizer is None:
        return
    builder = RowBuilder(
        tokenizers.load(options.tokenizer),
        ROW_LENGTH,
        rng,
        Variation(block_share=options.block_share),
    )
    shown = [task for task in ranked if not is_kept_back(task.task)]
    num_rows = write(builder.rows(repeat(shown, options.epochs, rng)), options.out / "rows")
    print(f"{num_rows} rows of {ROW_LENGTH}")


if __name__ == "__main__":
    main()
