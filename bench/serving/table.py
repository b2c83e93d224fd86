"""Figures of the repeats to rows: medians, ratios paired by repeat, the bar and whether it is met.

Every ratio says how much better Mynah is: a rate over the other's, the other's time over ours.
Processor time (`cpu_s` a request or a chat, `first_cpu_s` up to the first text) tells what a busy
machine hides; with one thread and one client it is the time on an idle one.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.serving.servers import LLAMA_CPP_SERVER, LLAMA_SERVER, MYNAH

# By load, clients and figure: the least ratio against each server.
_BARS: Mapping[tuple[str, int, str], Mapping[str, float]] = {
    ("cold", 1, "first_s"): {LLAMA_SERVER: 0.95, LLAMA_CPP_SERVER: 2.0},
    ("cold", 1, "requests_per_s"): {LLAMA_SERVER: 0.95, LLAMA_CPP_SERVER: 2.0},
    ("cold", 8, "first_s"): {LLAMA_SERVER: 0.95, LLAMA_CPP_SERVER: 2.0},
    ("cold", 8, "requests_per_s"): {LLAMA_SERVER: 0.95, LLAMA_CPP_SERVER: 2.0},
    ("warm", 1, "first_s"): {LLAMA_SERVER: 10.0, LLAMA_CPP_SERVER: 20.0},
    ("warm", 8, "requests_per_s"): {LLAMA_SERVER: 3.0, LLAMA_CPP_SERVER: 8.0},
    ("chat", 1, "total_s"): {LLAMA_SERVER: 1.0, LLAMA_CPP_SERVER: 2.0},
}
# A larger model's prefill is a larger part of the wait.
_LARGE_BYTES = 500_000_000
_LARGE_BARS: Mapping[tuple[str, int, str], Mapping[str, float]] = {
    ("warm", 1, "first_s"): {LLAMA_SERVER: 20.0, LLAMA_CPP_SERVER: 20.0},
}
_UNSHOWN = frozenset({"cached_share"})


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. `low` and `high` are the least and the largest ratio of a repeat."""

    model: str
    load: str
    num_clients: int
    figure: str
    against: str
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    bar: float | None

    @property
    def verdict(self) -> str:
        """`met`, `missed`, or nothing where no bar was set."""
        if self.bar is None:
            return ""
        return "met" if self.ratio >= self.bar else "missed"

    def to_json(self) -> dict[str, Any]:
        """Every field, with the verdict."""
        return {**asdict(self), "verdict": self.verdict}


Values = dict[str, list[float]]
# By server, the values of each figure, one a repeat.
Measured = dict[str, Values]


def compare(model: str, load: str, num_clients: int, measured: Measured, *, size: int) -> list[Row]:
    """Rows of Mynah against every other server; `size` is that of the model in bytes."""
    rows = []
    asked = (model, load, num_clients)
    ours = measured.get(MYNAH, {})
    for peer, values in measured.items():
        if peer == MYNAH:
            continue
        for figure in ours:
            if figure in _UNSHOWN:
                continue
            bar = find_bar(load, num_clients, figure, peer, size)
            rows.append(pair(asked, figure, peer, ours[figure], values[figure], bar=bar))
    return rows


def pair(
    asked: tuple[str, str, int],
    figure: str,
    against: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    bar: float | None,
) -> Row:
    """A row of `asked` (model, load, clients) from values paired by repeat.

    A figure whose name ends in `_s` but not in `_per_s` is a time.
    """
    is_time = figure.endswith("_s") and not figure.endswith("_per_s")
    ratios = [b / a if is_time else a / b for a, b in zip(ours, theirs, strict=True)]
    return Row(
        *asked,
        figure,
        against,
        statistics.median(ours),
        statistics.median(theirs),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        bar,
    )


def find_bar(load: str, num_clients: int, figure: str, peer: str, size: int) -> float | None:
    """The ratio that must be shown, None where nothing was promised."""
    key = (load, num_clients, figure)
    bars = _LARGE_BARS.get(key) if size >= _LARGE_BYTES else None
    return (bars or _BARS.get(key, {})).get(peer)


def render(rows: Sequence[Row]) -> str:
    """A Markdown table."""
    lines = [
        "| model | load | clients | figure | Mynah | against | theirs | ratio | range | bar | |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        bar = "" if row.bar is None else f"{row.bar:g}x"
        lines.append(
            f"| {row.model} | {row.load} | {row.num_clients} | {row.figure} | {row.ours:.3f}"
            f" | {row.against} | {row.theirs:.3f} | {row.ratio:.2f}x"
            f" | {row.low:.2f}-{row.high:.2f} | {bar} | {row.verdict} |"
        )
    return "\n".join(lines)
