"""The draw of a token: top-k, top-p, min-p, temperature, in the order of llama.cpp's chain.

In NumPy, because llama.cpp's own samplers take candidates of twelve bytes each, which to fill and
to walk costs a small model a tenth of its time for every token of a large vocabulary.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from models.errors import ModelError
from models.protocols import SamplingSettings

Logits = npt.NDArray[np.float32]
_Ids = npt.NDArray[np.intp]

# The likeliest tokens are sorted first: so many, then eight times as many, until they hold top-p.
_FIRST_WIDTH = 256
_GROWTH = 8
# A draw sums up blocks of so many first.
_BLOCK = 256
_BELOW_ONE = float(np.nextafter(1.0, 0.0))
# Below it the best token is drawn anyway, and a float32 comes near to dividing by zero.
_LEAST_TEMPERATURE = 1e-6


class TokenDrawer:
    """Draws from the distribution that the settings leave; equal seeds draw equally."""

    def __init__(self, settings: SamplingSettings) -> None:
        """`settings` have been checked, and their temperature is above 0."""
        self._settings = settings
        seed = settings.seed
        # A seed may be any integer, NumPy's are not negative.
        words = None if seed is None else [abs(seed), int(seed < 0)]
        self._random = np.random.default_rng(words)
        # Kept, as a new array of a vocabulary's size costs more than the arithmetic on it.
        self._buffer = np.empty(0, dtype=np.float32)

    def draw(self, scores: Logits) -> int:
        """The index of one of `scores`, shape `(num_scores,)`; -inf is never drawn.

        Raises `ModelError` where no score is finite, or one is not a number.
        """
        best = float(scores[check_finite(scores, int(np.argmax(scores)))])
        kept = self._cut(scores, best)
        temperature = max(self._settings.temperature, _LEAST_TEMPERATURE)
        weights = self._weigh(scores if kept is None else scores[kept], best, temperature)
        place = self._pick(weights)
        return place if kept is None else int(kept[place])

    def _weigh(self, logits: Logits, best: float, temperature: float = 1.0) -> Logits:
        """What each is worth beside the best one; valid until the next call."""
        if len(self._buffer) < len(logits):
            self._buffer = np.empty(len(logits), dtype=np.float32)
        weights = self._buffer[: len(logits)]
        np.subtract(logits, np.float32(best), out=weights)
        np.multiply(weights, np.float32(1 / temperature), out=weights)
        return np.exp(weights, out=weights)

    def _pick(self, weights: Logits) -> int:
        """An index, drawn by weight: first a block, then one in it, as sums of all take long."""
        blocks = np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK))
        block, rest = _find_place(blocks, self._random.random())
        start = block * _BLOCK
        place, _ = _find_place(weights[start : start + _BLOCK], rest)
        return start + place

    def _cut(self, scores: Logits, best: float) -> _Ids | None:
        """Indices of the scores that top-k, top-p and min-p leave; None for all."""
        settings = self._settings
        kept: _Ids | None = None
        if 0 < settings.top_k < len(scores):
            kept = np.argpartition(scores, -settings.top_k)[-settings.top_k :]
        if settings.top_p < 1.0:
            kept = self._keep_mass(scores, best, kept)
        if settings.min_p > 0.0:
            floor = best + math.log(settings.min_p)
            kept = np.flatnonzero(scores >= floor) if kept is None else kept[scores[kept] >= floor]
        return kept

    def _keep_mass(self, scores: Logits, best: float, among: _Ids | None) -> _Ids:
        """The fewest of the likeliest that hold top-p of the probability; one at least."""
        weights = self._weigh(scores if among is None else scores[among], best)
        wanted = self._settings.top_p * float(weights.sum(dtype=np.float64))
        width = _FIRST_WIDTH
        while True:
            is_whole = width >= len(weights)
            top = np.arange(len(weights)) if is_whole else np.argpartition(weights, -width)[-width:]
            top = top[np.argsort(-weights[top], kind="stable")]
            sums = np.cumsum(weights[top], dtype=np.float64)
            if is_whole or sums[-1] >= wanted:
                break
            width *= _GROWTH
        top = top[: int(np.searchsorted(sums, wanted)) + 1]
        return top if among is None else among[top]


def _find_place(weights: Logits, chance: float) -> tuple[int, float]:
    """The place of `chance` (0 to below 1) among weights that are put one after the other.

    And how far inside its weight it stands, again from 0 to below 1.
    """
    sums = np.cumsum(weights, dtype=np.float64)
    # Rounding may reach the sum itself, where no token stands.
    drawn = min(chance * float(sums[-1]), float(np.nextafter(sums[-1], 0.0)))
    place = int(np.searchsorted(sums, drawn, side="right"))
    before = float(sums[place - 1]) if place else 0.0
    return place, min((drawn - before) / float(sums[place] - before), _BELOW_ONE)


def check_finite(scores: Logits, best: int) -> int:
    """`best`, the index of the highest score. Raises `ModelError` where that is no number."""
    if not math.isfinite(float(scores[best])):
        raise ModelError("The model computed no usable scores for the next token.")
    return best
