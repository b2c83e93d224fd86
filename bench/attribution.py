"""Attribution on labelled sentences, precision and recall by label, and its time a sentence.

`python -m bench.attribution [SET] [--docs ../shared/eval/dev/docs] [--show]`
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from index.types import Document, Hit, Passage
from server.grounding.attribution import Attribution, Attributor
from server.grounding.support import SUPPORT_FLOOR

LABELLED = Path(__file__).parents[1] / "tests" / "data" / "attribution.jsonl"
_SUPPORTED = ("verbatim", "paraphrased")
_NUM_TIMED = 400


@dataclass(frozen=True, slots=True)
class Judged:
    """A labelled sentence and what was found for it."""

    domain: str
    half: str
    label: str
    text: str
    found: Attribution

    @property
    def is_flagged(self) -> bool:
        """Whether the checker calls the sentence unsupported."""
        return self.found.support < SUPPORT_FLOOR

    @property
    def is_unsupported(self) -> bool:
        """Whether it is."""
        return self.label not in _SUPPORTED


def make_hits(passages: Sequence[str]) -> list[Hit]:
    """Passages as hits of one document each."""
    hits = []
    for number, text in enumerate(passages, 1):
        document = Document(
            f"doc_{number}", "bench", f"{number}.md", "text/markdown", "", 0, 1, 0, None, (), {}
        )
        passage = Passage(number, document.id, 0, 0, len(text), (), None, 0, text)
        hits.append(Hit(passage, document, 1.0, number, None, None))
    return hits


def judge(path: Path) -> list[Judged]:
    """Every labelled sentence of a file against the passages of its group."""
    judged = []
    for line in path.read_text(encoding="utf-8").splitlines():
        group = json.loads(line)
        attributor = Attributor(make_hits(group["passages"]))
        judged += [
            Judged(
                group["domain"],
                group["half"],
                row["label"],
                row["text"],
                attributor.attribute(row["text"]),
            )
            for row in group["sentences"]
        ]
    return judged


def measure(judged: Sequence[Judged]) -> tuple[float, float]:
    """Precision and recall of "unsupported"."""
    flagged = [j for j in judged if j.is_flagged]
    wrong = [j for j in judged if j.is_unsupported]
    both = sum(j.is_unsupported for j in flagged)
    return both / max(1, len(flagged)), both / max(1, len(wrong))


def report(judged: Sequence[Judged]) -> None:
    """Print the figures of both halves, and how each label was judged."""
    for half in ("building", "held", "all"):
        members = [j for j in judged if half in (j.half, "all")]
        precision, recall = measure(members)
        print(f"{half:9} n={len(members):4}  unsupported: P {precision:.3f}  R {recall:.3f}")
        counts: dict[str, Counter[bool]] = defaultdict(Counter)
        for j in members:
            counts[j.label][j.is_flagged == j.is_unsupported] += 1
        for label, count in sorted(counts.items()):
            print(f"    {label:16}{count[True]:4} of {count.total():3} right")


def measure_time(folder: Path) -> None:
    """Print median and p95 of the time a sentence takes over the passages of a folder's files."""
    random_ = random.Random(0)
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.md"))]
    pieces = [text[i : i + 800] for text in texts for i in range(0, len(text), 800)]
    times: list[tuple[float, float]] = []
    reading: list[float] = []
    while len(times) < _NUM_TIMED:
        hits = make_hits(random_.sample(pieces, 6))
        started_s = time.thread_time()
        attributor = Attributor(hits)
        attributor.attribute("Nothing of this stands there.")
        reading.append((time.thread_time() - started_s) * 1000 / len(hits))
        lines = [line for hit in hits for line in hit.passage.text.split(". ") if len(line) > 30]
        for claim in random_.sample(lines, min(5, len(lines))):
            words = claim.split()[:40]
            random_.shuffle(words)
            for said in (claim, " ".join(words[: len(words) * 2 // 3])):
                started_s, cpu_s = time.perf_counter(), time.thread_time()
                attributor.attribute(said)
                times.append((time.thread_time() - cpu_s, time.perf_counter() - started_s))
    print(f"reading a passage, once: median {statistics.median(reading):.2f} ms of this thread")
    print(f"{len(times)} sentences against six passages each:")
    for name, column in (("this thread", 0), ("wall clock", 1)):
        spent = sorted(row[column] * 1000 for row in times)
        print(
            f"    {name:12} median {statistics.median(spent):.2f} ms,"
            f" p95 {spent[len(spent) * 95 // 100]:.2f} ms, longest {spent[-1]:.2f} ms"
        )


def main() -> None:
    """Run the measurement named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("set", type=Path, nargs="?", default=LABELLED)
    parser.add_argument("--docs", type=Path, help="folder of Markdown files for the time taken")
    parser.add_argument("--show", choices=("building", "held"), help="print what went wrong")
    options = parser.parse_args()
    judged = judge(options.set)
    report(judged)
    for j in judged:
        if j.half == options.show and j.is_flagged != j.is_unsupported:
            print(
                f"{j.label:15} {j.found.support:.2f} {j.domain:10} {j.text}  ({j.found.conflict})"
            )
    if options.docs is not None:
        measure_time(options.docs)


if __name__ == "__main__":
    main()
