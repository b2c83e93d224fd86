"""What the judgements say: counts, the adjusted win rate with its interval, flips and errors."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from models.imitation.errors import TrainingDataInvalid
from models.imitation.judging.agreement import Agreement, measure_agreement
from models.imitation.judging.judgements import Judgement, Outcome
from models.imitation.judging.pairs import Comparison
from models.imitation.statistics import Interval, bootstrap_ratio

OUTCOMES: tuple[Outcome, ...] = ("win", "loss", "tie", "both_bad")
# Neither answer is preferred where both are bad: half a win, as a tie, or exchanging the two
# systems would not turn the rate r into 1 - r.
SCORES: Mapping[str, float] = {"win": 1.0, "loss": 0.0, "tie": 0.5, "both_bad": 0.5}


@dataclass(frozen=True, slots=True)
class RaterResult:
    """One rater's counts. `num_flipped` and `num_errors` are of models, which see both orders."""

    name: str
    is_model: bool
    counts: Mapping[str, int]
    num_flipped: int
    num_errors: int

    @property
    def num_judged(self) -> int:
        """Judgements with an outcome."""
        return sum(self.counts.values())

    def to_json(self) -> dict[str, Any]:
        """Name, kind, counts and the rate of this rater alone."""
        return {
            "name": self.name,
            "kind": "model" if self.is_model else "person",
            **self.counts,
            "num_judged": self.num_judged,
            "win_rate_adjusted": adjusted_win_rate(self.counts),
            "flip_rate": self.num_flipped / self.num_judged
            if self.is_model and self.num_judged
            else None,
            "parse_errors": self.num_errors,
        }


@dataclass(frozen=True, slots=True)
class JudgingResult:
    """The judgements of `raters`, counted together.

    `interval` holds (win + 0.5 (tie + both_bad)) / n, resampled by pair, so that what several
    raters say of one pair stays together. `mean_length_difference` is in words, system less
    baseline, over the judged pairs. `agreement` is of everyone who judged.
    """

    system: str
    baseline: str
    num_pairs: int
    num_judged_pairs: int
    raters: tuple[RaterResult, ...]
    interval: Interval
    mean_length_difference: float
    agreement: Agreement | None

    @property
    def counts(self) -> dict[str, int]:
        """Judgements by outcome."""
        return {name: sum(rater.counts[name] for rater in self.raters) for name in OUTCOMES}

    @property
    def num_errors(self) -> int:
        """Pairs of which a model gave no verdict in one order or both."""
        return sum(rater.num_errors for rater in self.raters)

    @property
    def flip_rate(self) -> float | None:
        """Share of the models' judgements in which the order changed the verdict."""
        models = [rater for rater in self.raters if rater.is_model and rater.num_judged]
        if not models:
            return None
        return sum(r.num_flipped for r in models) / sum(r.num_judged for r in models)

    def to_json(self) -> dict[str, Any]:
        """The result that `mynah tune report --judged` reads."""
        return {
            "system": self.system,
            "baseline": self.baseline,
            **self.counts,
            "num_judgements": sum(self.counts.values()),
            "num_pairs": self.num_pairs,
            "num_judged_pairs": self.num_judged_pairs,
            "win_rate_adjusted": self.interval.mean,
            "interval": self.interval.to_json(),
            "flip_rate": self.flip_rate,
            "parse_errors": self.num_errors,
            "mean_length_difference": self.mean_length_difference,
            "length_unit": "words",
            "raters": [rater.to_json() for rater in self.raters],
            "agreement": None if self.agreement is None else self.agreement.to_json(),
        }


def summarise(
    comparison: Comparison,
    standing: Mapping[str, Mapping[str, Judgement]],
    raters: Collection[str] | None = None,
) -> JudgingResult:
    """The result of `raters`; by default of the people, or of the models where no person judged.

    `standing` is what `JudgementLog.standing` gives. Raises `TrainingDataInvalid` for a rater or a
    pair that is unknown, and where there is no judgement to count.
    """
    chosen = _choose(standing, raters)
    judged = [j for name in chosen for j in standing[name].values()]
    _check_items(comparison, (j for of_rater in standing.values() for j in of_rater.values()))
    outcomes: defaultdict[str, list[Outcome]] = defaultdict(list)
    for judgement in judged:
        if judgement.outcome is not None:
            outcomes[judgement.item].append(judgement.outcome)
    if not outcomes:
        raise TrainingDataInvalid(
            f"no verdict of {', '.join(chosen)} could be read, so there is no result."
        )
    # In the comparison's order: the interval must not depend on who judged first.
    items = [pair.id for pair in comparison.pairs if pair.id in outcomes]
    interval = bootstrap_ratio(
        [sum(SCORES[outcome] for outcome in outcomes[item]) for item in items],
        [float(len(outcomes[item])) for item in items],
    )
    return JudgingResult(
        system=comparison.system,
        baseline=comparison.baseline,
        num_pairs=len(comparison.pairs),
        num_judged_pairs=len(items),
        raters=tuple(_count(name, standing[name].values()) for name in chosen),
        interval=interval,
        mean_length_difference=sum(_length_difference(comparison, item) for item in items)
        / len(items),
        agreement=measure_agreement(
            {
                rater: {i: j.outcome for i, j in of_rater.items() if j.outcome is not None}
                for rater, of_rater in standing.items()
            }
        ),
    )


def adjusted_win_rate(counts: Mapping[str, int]) -> float | None:
    """(win + 0.5 (tie + both_bad)) / n; None without judgements."""
    num = sum(counts.values())
    return sum(SCORES[name] * count for name, count in counts.items()) / num if num else None


def _choose(
    standing: Mapping[str, Mapping[str, Judgement]], raters: Collection[str] | None
) -> list[str]:
    if not any(standing.values()):
        raise TrainingDataInvalid("nobody has judged yet; use --page or --judge-url first.")
    if raters is not None:
        for name in raters:
            if not standing.get(name):
                raise TrainingDataInvalid(
                    f"{name} has judged nothing; those who have: {', '.join(sorted(standing))}.",
                    param="rater",
                )
        return sorted(set(raters))
    people = [name for name in sorted(standing) if not _is_model(standing[name].values())]
    return people or sorted(standing)


def _check_items(comparison: Comparison, judgements: Iterable[Judgement]) -> None:
    for judgement in judgements:
        if judgement.item not in comparison.by_id:
            raise TrainingDataInvalid(
                f"{judgement.rater} has judged the pair {judgement.item}, which is none of the"
                " comparison's; the folder mixes two comparisons."
            )


def _count(name: str, judgements: Collection[Judgement]) -> RaterResult:
    counts = Counter(j.outcome for j in judgements)
    return RaterResult(
        name=name,
        is_model=_is_model(judgements),
        counts={outcome: counts[outcome] for outcome in OUTCOMES},
        num_flipped=sum(
            bool(j.judge.get("flipped")) for j in judgements if j.judge and j.outcome is not None
        ),
        num_errors=counts[None],
    )


def _is_model(judgements: Iterable[Judgement]) -> bool:
    return any(judgement.is_model for judgement in judgements)


def _length_difference(comparison: Comparison, item: str) -> int:
    pair = comparison.by_id[item]
    return len(pair.system.split()) - len(pair.baseline.split())
