"""What became of one question under one condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from server.evaluation.questions import Question
from server.grounding.attribution import find_evidence, measure_support, strip_marks
from server.grounding.drafting import SUPPORT_FLOOR
from server.grounding.rules import REFUSAL
from server.grounding.types import AnswerEnd

# Counted up when `Outcome` changes, so that what another version recorded is asked again.
OUTCOME_VERSION = 2

Decision = Literal["answered", "abstained", "ungrounded", "failed"]


@dataclass(frozen=True, slots=True)
class Quote:
    """A cited span: the passage's number in the answer, where it stands, and its words."""

    number: int
    path: str
    page: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Timing:
    """How long an answer took, in milliseconds; None where a stage was not run."""

    search_ms: float | None = None
    first_token_ms: float | None = None
    whole_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer held against its question; figures that do not apply are None.

    `em`, `f1`: official SQuAD, the answer without citation marks, an abstention as the empty one.
    `contains`: a gold answer stands in it; `strict`: one of every group. `citation_recall` and
    `citation_precision`: ALCE, of answers that state something. `cites_gold`: a passage with the
    evidence is cited; `gold_shown`: one stood in the prompt. `support` is the sum over the
    `num_sentences` sentences of an answer with passages, of which `num_supported` count as backed.
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
    num_sentences: int | None = None
    num_supported: int | None = None
    support: float | None = None
    search_ms: float | None = None
    first_token_ms: float | None = None
    whole_ms: float | None = None
    quotes: tuple[Quote, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """One JSON object; `from_json` gives the outcome back."""
        return {**asdict(self), "quotes": [asdict(quote) for quote in self.quotes]}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Outcome:
        """Raises `RunDamaged` for what is no outcome."""
        if not isinstance(row, Mapping) or set(row) != {field.name for field in fields(cls)}:
            raise RunDamaged("a recorded outcome has other fields than this version writes.")
        try:
            quotes = tuple(Quote(**quote) for quote in row["quotes"])
        except TypeError:
            raise RunDamaged("a recorded quote has other fields than ours.") from None
        return cls(**{**row, "quotes": quotes})


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
    timing: Timing | None = None,
    refusal: str = REFUSAL,
) -> Outcome:
    """The outcome of a grounded answer; `hits` are the passages of its prompt in their order.

    `gold` are ids of passages that hold the evidence.
    """
    outcome = score_text(question, condition, end.text, end.report.decision, refusal)
    row = {
        **asdict(outcome),
        **asdict(timing or Timing()),
        "num_tokens": end.usage.num_completion_tokens,
        "quotes": tuple(Quote(c.index, c.path, c.page, c.quote) for c in end.report.citations),
    }
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
        support = [sentence.support for sentence in end.report.sentences]
        row |= {
            "citation_recall": score.recall,
            "citation_precision": score.precision,
            "num_sentences": len(support),
            "num_supported": sum(value >= SUPPORT_FLOOR for value in support),
            "support": sum(support),
        }
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
