"""What went wrong with which question, sorted by the place where it went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from server.evaluation.measuring.retrieval import RetrievalRow
from server.evaluation.outcomes import Outcome
from server.evaluation.questions import Question

Reason = Literal[
    "failed", "not_found", "not_read", "wrong_choice", "variant", "declined", "made_up", "other"
]
# What happened, and what a user can do about it; the order is that of the report.
REASONS: Mapping[Reason, tuple[str, str]] = {
    "not_found": (
        "The search did not find the evidence",
        "The question's words and the document's may be too far apart: a heading or a sentence in"
        " the words that people use helps, and so may a better embedder.",
    ),
    "not_read": (
        "The search found the evidence too far down",
        "It was found, but not among the passages that the model read: more passages"
        " (`max_passages`) or a reranker may help.",
    ),
    "declined": (
        "Declined with the evidence before it",
        "The evidence stood in the prompt and the answer says that there is none.",
    ),
    "wrong_choice": (
        "Another passage was preferred",
        "The evidence stood in the prompt; the answer rests on something else.",
    ),
    "variant": (
        "The right passage is cited, yet no expected answer stands in the answer",
        "Read these first: often the answer is right and the question file lacks a variant.",
    ),
    "made_up": (
        "Answered what the documents do not hold",
        "The question should have been declined. If the passage does answer it, mark the question"
        " answerable.",
    ),
    "failed": (
        "Could not be asked",
        "The prompt did not fit the model's context, or its template refused the conversation.",
    ),
    "other": (
        "No expected answer",
        "The file names no evidence for these questions, so that the cause is not known.",
    ),
}


def list_failures(
    questions: Sequence[Question],
    outcomes: Sequence[Outcome],
    retrieval: Mapping[str, RetrievalRow],
    with_evidence: Mapping[str, Outcome],
) -> list[dict[str, Any]]:
    """The questions of a condition that were not answered as expected, in the order of `REASONS`.

    `with_evidence` are the outcomes of the condition with gold passages, which tell whether the
    model would have answered with the evidence before it.
    """
    asked = {question.id: question for question in questions}
    found = [
        _describe(asked[o.id], o, reason, retrieval.get(o.id), with_evidence.get(o.id))
        for o in outcomes
        if (reason := find_reason(o, retrieval.get(o.id))) is not None
    ]
    order = list(REASONS)
    return sorted(found, key=lambda row: order.index(row["reason"]))


def find_reason(outcome: Outcome, row: RetrievalRow | None) -> Reason | None:
    """Why the outcome counts as a failure; None if it does not."""
    if outcome.decision == "failed":
        return "failed"
    if not outcome.is_answerable:
        return None if outcome.abstained else "made_up"
    # A complete answer holds all parts; whoever wants one variant alone gives no groups.
    if outcome.strict:
        return None
    if row is not None and row.rank is not None and not outcome.gold_shown:
        return "not_read" if row.rank else "not_found"
    if outcome.abstained:
        return "declined" if outcome.gold_shown else "other"
    if outcome.cites_gold:
        return "variant"
    return "wrong_choice" if outcome.gold_shown else "other"


def _describe(
    question: Question,
    outcome: Outcome,
    reason: Reason,
    row: RetrievalRow | None,
    with_evidence: Outcome | None,
) -> dict[str, Any]:
    return {
        "id": question.id,
        "reason": reason,
        "kind": question.kind,
        "question": question.text,
        "history": [{"role": m.role, "content": m.content} for m in question.history],
        "expected": [list(group) for group in question.all_of] or [list(question.answers)],
        "is_partly_right": bool(outcome.contains),
        "answer": outcome.answer,
        "evidence": [
            {"doc": question.docs[min(i, len(question.docs) - 1)] if question.docs else "",
             "text": text}
            for i, text in enumerate(question.evidence)
        ],
        "rank": row.rank if row is not None else None,
        "passages": [asdict(quote) for quote in outcome.quotes],
        "answer_with_evidence": with_evidence.answer if with_evidence is not None else None,
    }  # fmt: skip
