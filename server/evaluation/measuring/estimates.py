"""Figures of many questions with their intervals, and their differences between two runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.imitation.statistics import NUM_RESAMPLES, Interval, bootstrap
from server.evaluation.measuring.metrics import Metric, Reading, Statistic
from server.evaluation.measuring.retrieval import RetrievalRow
from server.evaluation.outcomes import Outcome

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure with its interval, over `num_questions` questions that it applies to."""

    interval: Interval
    num_questions: int

    def to_json(self) -> dict[str, Any]:
        """`mean` (the figure), `low`, `high` and `num_questions`."""
        return {**self.interval.to_json(), "num_questions": self.num_questions}


def measure(metric: Metric, rows: Sequence[Any]) -> Measured | None:
    """The figure of the rows with its interval; None if it applies to none of them."""
    readings = [reading for row in rows if (reading := metric.read(row)) is not None]
    num = sum(weight > 0 for _, weight in readings)
    if not num:
        return None
    columns = list(zip(*readings, strict=True))
    return Measured(_bootstrap(metric.statistic, *columns), num)


def measure_difference(
    metric: Metric, a: Mapping[str, Any], b: Mapping[str, Any]
) -> Measured | None:
    """The figure of `a` less that of `b` over the questions of both, drawn in pairs.

    Both map question id to row. Each side keeps the questions that the figure applies to there, so
    that the difference is that of the two figures; `num_questions` counts those of either side.
    """
    ids = [id_ for id_ in a if id_ in b]
    pairs = [(metric.read(a[id_]), metric.read(b[id_])) for id_ in ids]
    pairs = [pair for pair in pairs if pair != (None, None)]
    filled = [(*_fill(x), *_fill(y)) for x, y in pairs]
    columns = list(zip(*filled, strict=True))
    if not columns or not any(columns[1]) or not any(columns[3]):
        return None
    return Measured(_bootstrap(metric.statistic, *columns), len(pairs))


def _fill(reading: Reading) -> tuple[float, float]:
    return reading or (0.0, 0.0)


def _bootstrap(statistic: Statistic, *columns: Sequence[float]) -> Interval:
    """Of (value, weight) columns: the figure of the first pair, less that of a second pair."""
    single = _quantile(float(statistic[1:]) / 100) if statistic != "share" else _share
    whole = [
        float(single(np.asarray(values, np.float64), np.asarray(weights, np.float64), 0.0))
        for values, weights in zip(columns[::2], columns[1::2], strict=True)
    ]

    def combine(*drawn: Array) -> Array:
        # A resample without any question that counts says nothing new: it has the sample's figure.
        figures = [single(drawn[2 * i], drawn[2 * i + 1], filler) for i, filler in enumerate(whole)]
        return figures[0] if len(figures) == 1 else figures[0] - figures[1]

    return bootstrap(combine, *columns, num_resamples=NUM_RESAMPLES)


def _share(values: Array, weights: Array, filler: float) -> Array:
    total = weights.sum(-1)
    return np.where(total > 0, values.sum(-1) / np.where(total > 0, total, 1.0), filler)


def _quantile(share: float) -> Callable[[Array, Array, float], Array]:
    def measure_quantile(values: Array, weights: Array, filler: float) -> Array:
        counts = weights > 0
        if counts.all():
            return np.asarray(np.quantile(values, share, axis=-1))
        kept = np.where(counts, values, np.nan)
        kept = np.where(counts.any(-1, keepdims=True), kept, filler)
        return np.asarray(np.nanquantile(kept, share, axis=-1))

    return measure_quantile


def measure_all(metrics: Sequence[Metric], rows: Sequence[Any]) -> dict[str, Any]:
    """Name to figure in JSON types, for those that apply."""
    return {m.name: found.to_json() for m in metrics if (found := measure(m, rows)) is not None}


def by_id(rows: Sequence[Outcome] | Sequence[RetrievalRow]) -> dict[str, Any]:
    """Question id to row."""
    return {row.id: row for row in rows}
