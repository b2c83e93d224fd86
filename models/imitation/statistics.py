"""Intervals of measured figures: the seeded percentile bootstrap over questions or pairs.

Resampling keeps what belongs together: the i-th values of all samples of a call are drawn as one
(Efron and Tibshirani, "An Introduction to the Bootstrap", chapters 8 and 13).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Statistic = Callable[..., Array]

CONFIDENCE = 0.95
NUM_RESAMPLES = 2000
# Resampled values held in memory at a time: 32 MiB of float64.
_MAX_VALUES = 1 << 22


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure of the sample, `mean`, with the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """`mean`, `low` and `high`; `from_json` gives the interval back."""
        return {"mean": self.mean, "low": self.low, "high": self.high}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Interval:
        """Raises `KeyError`, `TypeError` or `ValueError` where a bound is no number."""
        return cls(float(row["mean"]), float(row["low"]), float(row["high"]))


def bootstrap_mean(
    values: Sequence[float], *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Interval:
    """Mean of `values` with its interval."""
    return bootstrap(lambda a: a.mean(-1), values, num_resamples=num_resamples, seed=seed)


def bootstrap_difference(
    a: Sequence[float],
    b: Sequence[float],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """mean(a) - mean(b), where `a[i]` and `b[i]` are of the same question."""
    return bootstrap(
        lambda x, y: x.mean(-1) - y.mean(-1), a, b, num_resamples=num_resamples, seed=seed
    )


def bootstrap_ratio(
    a: Sequence[float],
    b: Sequence[float],
    *,
    smoothing: float = 0.0,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """(sum(a) + s) / (sum(b) + s), where `a[i]` and `b[i]` are of the same question.

    `smoothing` s > 0 keeps the ratio finite where `b` is all zero and draws it towards 1; without
    it such a ratio, and such bounds, are `inf` (`nan` where `a` is all zero too).
    """

    def divide(x: Array, y: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((x.sum(-1) + smoothing) / (y.sum(-1) + smoothing))

    return bootstrap(divide, a, b, num_resamples=num_resamples, seed=seed)


def bootstrap(
    statistic: Statistic,
    *samples: Sequence[float],
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The statistic of the samples with its percentile interval.

    `statistic` takes one array of shape `(..., n)` a sample and gives shape `(...)`. Raises
    `ValueError` if the samples are empty or differ in length.
    """
    columns = [np.asarray(sample, dtype=np.float64) for sample in samples]
    sizes = {column.size for column in columns}
    if len(sizes) != 1 or 0 in sizes or num_resamples < 1:
        raise ValueError(f"paired samples need one length above 0, not {sorted(sizes)}")
    with np.errstate(invalid="ignore"):
        value = float(statistic(*columns))
        resampled = np.concatenate(
            [
                np.atleast_1d(statistic(*(column[drawn] for column in columns)))
                for drawn in _draw(sizes.pop(), num_resamples, seed)
            ]
        )
        tail = (1 - CONFIDENCE) / 2
        # Order statistics, not interpolation: between two infinite ratios there is no number.
        low, high = np.quantile(resampled, (tail, 1 - tail), method="inverted_cdf")
    # The sums of a resample round otherwise than the sample's; that must not shut the figure out.
    return Interval(value, min(float(low), value), max(float(high), value))


def _draw(num: int, num_resamples: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Indices of shape `(rows, num)`, `num_resamples` rows in all."""
    rng = np.random.default_rng(seed)
    num_rows = max(1, _MAX_VALUES // num)
    for first in range(0, num_resamples, num_rows):
        yield rng.integers(0, num, (min(num_rows, num_resamples - first), num))
