"""The figures of many outcomes: means with intervals, by kind of question, paired by question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.imitation.statistics import Interval, bootstrap_difference, bootstrap_mean
from server.evaluation.outcomes import Outcome

Reader = Callable[[Outcome], float | None]
# Figure to what an outcome says of it; None leaves the outcome out.
FIGURES: dict[str, Reader] = {
    "em": lambda o: o.em,
    "f1": lambda o: o.f1,
    "em_answerable": lambda o: o.em if o.is_answerable else None,
    "f1_answerable": lambda o: o.f1 if o.is_answerable else None,
    "contains": lambda o: o.contains,
    "strict": lambda o: o.strict,
    "abstained_unanswerable": lambda o: None if o.is_answerable else o.abstained,
    "abstained_answerable": lambda o: o.abstained if o.is_answerable else None,
    "citation_recall": lambda o: o.citation_recall,
    "citation_precision": lambda o: o.citation_precision,
    "cites_gold": lambda o: o.cites_gold,
    "gold_shown": lambda o: o.gold_shown,
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean with its interval, over `num_questions` questions."""

    interval: Interval
    num_questions: int

    def to_json(self) -> dict[str, Any]:
        """`mean`, `low`, `high` and `num_questions`."""
        return {**self.interval.to_json(), "num_questions": self.num_questions}


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one condition, those alone that apply, and by kind of question."""

    condition: str
    num_questions: int
    num_failed: int
    figures: Mapping[str, Figure]
    kinds: Mapping[str, Mapping[str, Figure]]

    def to_json(self) -> dict[str, Any]:
        """The summary in JSON types."""
        return {
            "condition": self.condition,
            "num_questions": self.num_questions,
            "num_failed": self.num_failed,
            "figures": {name: figure.to_json() for name, figure in self.figures.items()},
            "kinds": {
                kind: {name: figure.to_json() for name, figure in figures.items()}
                for kind, figures in self.kinds.items()
            },
        }


def summarise(condition: str, outcomes: Sequence[Outcome]) -> Summary:
    """All figures of one condition."""
    kinds: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        kinds[outcome.kind].append(outcome)
    return Summary(
        condition=condition,
        num_questions=len(outcomes),
        num_failed=sum(outcome.decision == "failed" for outcome in outcomes),
        figures=_measure(outcomes, FIGURES),
        kinds={
            kind: _measure(kinds[kind], ("em", "f1", "contains", "abstained_unanswerable"))
            for kind in sorted(kinds)
        },
    )


def _measure(outcomes: Sequence[Outcome], names: Iterable[str]) -> dict[str, Figure]:
    values = {name: list(read_figure(outcomes, name).values()) for name in names}
    return {name: Figure(bootstrap_mean(v), len(v)) for name, v in values.items() if v}


def read_figure(outcomes: Iterable[Outcome], name: str) -> dict[str, float]:
    """Question id to value, for the outcomes that the figure applies to."""
    read = FIGURES[name]
    values = {outcome.id: read(outcome) for outcome in outcomes}
    return {id_: value for id_, value in values.items() if value is not None}


def pair_figures(
    a: Iterable[Outcome], b: Iterable[Outcome], name: str
) -> tuple[list[float], list[float]]:
    """The values of the questions that both have, in one order."""
    first, second = read_figure(a, name), read_figure(b, name)
    both = [id_ for id_ in first if id_ in second]
    return [first[id_] for id_ in both], [second[id_] for id_ in both]


def compare(a: Iterable[Outcome], b: Iterable[Outcome], name: str) -> Figure | None:
    """The figure of `a` less that of `b`, paired by question; None without common questions."""
    first, second = pair_figures(a, b, name)
    return Figure(bootstrap_difference(first, second), len(first)) if first else None
