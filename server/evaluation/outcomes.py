"""What became of one question under one condition, and the figures of many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from index.types import Hit
from models.imitation.errors import RunDamaged
from models.imitation.metrics import (
    CitedSentence,
    contains_answer,
    exact_match,
    score_citations,
    token_f1,
)
from models.imitation.statistics import Interval, bootstrap_difference, bootstrap_mean
from server.evaluation.questions import Question
from server.grounding.attribution import find_evidence, measure_support, strip_marks
from server.grounding.drafting import SUPPORT_FLOOR
from server.grounding.grounder import REFUSAL
from server.grounding.types import AnswerEnd

Decision = Literal["answered", "abstained", "ungrounded", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer held against its question; figures that do not apply are None.

    `em`, `f1`: official SQuAD, the answer without citation marks, an abstention as the empty one.
    `contains`: a gold answer stands in it; `strict`: one of every group. `citation_recall` and
    `citation_precision`: ALCE, of answers that state something. `cites_gold`: a passage with the
    evidence is cited; `gold_shown`: one stood in the prompt.
    """

    id: str
    condition: str
    kind: str
    is_answerable: bool
    answer: str
    decision: Decision
    abstained: float
    em: float
    f1: float
    contains: float | None = None
    strict: float | None = None
    citation_recall: float | None = None
    citation_precision: float | None = None
    cites_gold: float | None = None
    gold_shown: float | None = None
    num_tokens: int = 0

    def to_json(self) -> dict[str, Any]:
        """One JSON object; `from_json` gives the outcome back."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Outcome:
        """Raises `RunDamaged` for what is no outcome."""
        if not isinstance(row, Mapping) or set(row) != {field.name for field in fields(cls)}:
            raise RunDamaged("a recorded outcome has other fields than this version writes.")
        return cls(**row)


def is_abstention(text: str, decision: str, refusal: str = REFUSAL) -> bool:
    """Whether an answer declines: the grounder decided so, or it begins with the refusal."""
    said = " ".join(strip_marks(text).split()).casefold()
    return decision == "abstained" or said.startswith(refusal.rstrip(".").casefold())


def score_text(
    question: Question, condition: str, text: str, decision: Decision, refusal: str = REFUSAL
) -> Outcome:
    """The outcome of an answer of which the text alone is known."""
    has_abstained = is_abstention(text, decision, refusal)
    said = "" if has_abstained or decision == "failed" else strip_marks(text).strip()
    is_answerable = question.is_answerable
    gold = question.answers if is_answerable else ()
    # A failed answer is empty as an abstention is, but has declined nothing.
    is_scored = decision != "failed"
    return Outcome(
        id=question.id,
        condition=condition,
        kind=question.kind,
        is_answerable=is_answerable,
        answer=text,
        decision="abstained" if has_abstained else decision,
        abstained=float(has_abstained),
        em=exact_match(said, gold) if is_scored else 0.0,
        f1=token_f1(said, gold) if is_scored else 0.0,
        contains=float(contains_answer(said, gold)) if is_answerable else None,
        strict=float(question.is_answered_in_full(said)) if is_answerable else None,
    )


def score_answer(
    question: Question,
    condition: str,
    end: AnswerEnd,
    *,
    hits: Sequence[Hit],
    gold: frozenset[int],
    refusal: str = REFUSAL,
) -> Outcome:
    """The outcome of a grounded answer; `hits` are the passages of its prompt in their order.

    `gold` are ids of passages that hold the evidence.
    """
    outcome = score_text(question, condition, end.text, end.report.decision, refusal)
    row = {**asdict(outcome), "num_tokens": end.usage.num_completion_tokens}
    if gold:
        row["gold_shown"] = float(any(hit.passage.id in gold for hit in hits))
    if hits and not outcome.abstained:
        sentences = [
            CitedSentence(end.text[s.start : s.end], s.citations) for s in end.report.sentences
        ]
        score = score_citations(
            sentences,
            len(hits),
            lambda claim, numbers: is_supported(claim, [hits[n - 1] for n in numbers]),
        )
        row |= {"citation_recall": score.recall, "citation_precision": score.precision}
        if gold and row["gold_shown"]:
            cited = {hits[n - 1].passage.id for s in sentences for n in s.citations}
            row["cites_gold"] = float(bool(cited & gold))
    return Outcome(**row)


def is_supported(claim: str, hits: Sequence[Hit]) -> bool:
    """Whether passages together back a sentence: one does, or their best spans joined do.

    The checker is the one that the grounder places citations with; it stands where ALCE has an
    NLI model.
    """
    found = [evidence for hit in hits if (evidence := find_evidence(claim, [hit])) is not None]
    if any(evidence.support >= SUPPORT_FLOOR for evidence in found):
        return True
    spans = [
        e.hit.passage.text[e.start - e.hit.passage.start : e.end - e.hit.passage.start]
        for e in found
    ]
    return len(spans) > 1 and measure_support(claim, " ".join(spans)) >= SUPPORT_FLOOR


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
