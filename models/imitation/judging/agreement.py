"""Agreement between raters: the raw share and Cohen's kappa, which takes chance off it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from models.imitation.judging.judgements import Outcome


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Two raters on the `num_items` pairs that both have judged; `kappa` as `measure_kappa`."""

    raters: tuple[str, str]
    num_items: int
    raw: float
    kappa: float | None

    def to_json(self) -> dict[str, Any]:
        """All four figures."""
        return {
            "raters": list(self.raters),
            "num_items": self.num_items,
            "raw": self.raw,
            "kappa": self.kappa,
        }


@dataclass(frozen=True, slots=True)
class Agreement:
    """All pairs of raters with items in common; `raw` and `kappa` are means over them."""

    pairs: tuple[PairAgreement, ...]

    @property
    def raw(self) -> float:
        """Mean share of items on which two raters chose the same."""
        return sum(pair.raw for pair in self.pairs) / len(self.pairs)

    @property
    def kappa(self) -> float | None:
        """Mean over the pairs of raters that have one."""
        known = [pair.kappa for pair in self.pairs if pair.kappa is not None]
        return sum(known) / len(known) if known else None

    def to_json(self) -> dict[str, Any]:
        """The means and every pair of raters."""
        return {
            "raw": self.raw,
            "kappa": self.kappa,
            "pairs": [pair.to_json() for pair in self.pairs],
        }


def measure_agreement(outcomes: Mapping[str, Mapping[str, Outcome]]) -> Agreement | None:
    """Agreement from rater to item to outcome; None unless two raters share an item."""
    found = []
    for first, second in combinations(sorted(outcomes), 2):
        shared = sorted(set(outcomes[first]) & set(outcomes[second]))
        if shared:
            a = [outcomes[first][item] for item in shared]
            b = [outcomes[second][item] for item in shared]
            found.append(
                PairAgreement((first, second), len(shared), _raw(a, b), measure_kappa(a, b))
            )
    return Agreement(tuple(found)) if found else None


def measure_kappa(a: Sequence[str], b: Sequence[str]) -> float | None:
    """(p_o - p_e) / (1 - p_e) of two raters' choices on the same items (Cohen, 1960).

    p_e is the agreement expected of two raters who choose at random as often as these do; where
    it is 1 (both always chose the same one thing) there is no kappa.
    """
    num = len(a)
    of_a, of_b = Counter(a), Counter(b)
    # Whole numbers, so that p_e = 1 is told exactly: p_e = num_expected / num².
    num_expected = sum(of_a[choice] * of_b[choice] for choice in of_a)
    if num_expected == num * num:
        return None
    num_same = sum(x == y for x, y in zip(a, b, strict=True))
    return (num_same * num - num_expected) / (num * num - num_expected)


def _raw(a: Sequence[str], b: Sequence[str]) -> float:
    return sum(x == y for x, y in zip(a, b, strict=True)) / len(a)
