"""How likely the model found what it said, told with the text it belongs to.

The probabilities are those of the model itself: the softmax of its logits before bias, penalties,
grammar and temperature, so that they compare between requests however those were sampled.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.protocols import TokenChance, TokenLogprob
from models.vocabulary import Vocabulary

Logits = npt.NDArray[np.float32]


def measure_token(token: int, logits: Logits, num_top: int, vocabulary: Vocabulary) -> TokenLogprob:
    """The natural-log probability of `token` and of the `num_top` likeliest tokens, best first.

    `logits` has the shape `(num_vocab,)`; it is summed in float64. What has no probability at all
    gets the least float32, because JSON has no infinity.
    """
    scores = logits.astype(np.float64)
    scores -= scores.max()
    scores -= np.log(np.exp(scores).sum())
    scores = np.maximum(scores, np.finfo(np.float32).min)
    top: list[int] = []
    if num_top:
        # Stable, so that equals stand in the order of their ids.
        nearest = np.flatnonzero(scores >= np.partition(scores, -num_top)[-num_top])
        top = nearest[np.argsort(-scores[nearest], kind="stable")][:num_top].tolist()
    chances = [_chance(t, float(scores[t]), vocabulary) for t in (token, *top)]
    own, *others = chances
    return TokenLogprob(token, own.piece, own.logprob, tuple(others), own.name)


def _chance(token: int, logprob: float, vocabulary: Vocabulary) -> TokenChance:
    piece = vocabulary.piece(token)
    return TokenChance(piece, logprob, "" if piece else vocabulary.text(token))


@dataclass(frozen=True, slots=True)
class _Held:
    start: int
    end: int
    logprob: TokenLogprob


class LogprobTrail:
    """Holds a token's probability back as long as its text is held back."""

    def __init__(self) -> None:
        self._held: deque[_Held] = deque()
        self._end = 0

    def add(self, logprob: TokenLogprob, num_decoded: int, *, is_partial: bool) -> None:
        """Add the next token, with which the text has `num_decoded` characters, shown or not.

        `is_partial`: the token ends inside a character.
        """
        self._held.append(_Held(self._end, num_decoded + is_partial, logprob))
        self._end = num_decoded

    def take(self, num_shown: int) -> tuple[TokenLogprob, ...]:
        """Those whose characters are all among the first `num_shown`."""
        taken: list[TokenLogprob] = []
        while self._held and self._held[0].end <= num_shown:
            taken.append(self._held.popleft().logprob)
        return tuple(taken)

    def take_begun(self, num_shown: int) -> tuple[TokenLogprob, ...]:
        """At a stop string: those of which a character is shown. The rest belongs to the stop."""
        return tuple(held.logprob for held in self._held if held.start < num_shown)

    def take_all(self) -> tuple[TokenLogprob, ...]:
        """At any other end: all that is left."""
        return tuple(held.logprob for held in self._held)
