"""A measurement as one JSON object: figures, thresholds, failures, and every row behind them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.imitation.statistics import CONFIDENCE, NUM_RESAMPLES
from server.evaluation.conditions import CONDITIONS
from server.evaluation.measuring.comparison import SCHEMA, select_group
from server.evaluation.measuring.estimates import by_id, measure_all
from server.evaluation.measuring.failures import list_failures
from server.evaluation.measuring.metrics import (
    ANSWER_METRICS,
    LATENCY_METRICS,
    METRICS,
    RETRIEVAL_METRICS,
)
from server.evaluation.measuring.retrieval import DEPTH, RetrievalRow
from server.evaluation.measuring.thresholds import GROUPS
from server.evaluation.outcomes import Outcome
from server.evaluation.questions import Question, QuestionSet
from server.evaluation.study import Plan, Results
from server.evaluation.systems import System

CHECKER = (
    "Citation precision and recall are ALCE's (Gao et al., 2023), with Mynah's deterministic"
    " checker in the place of its NLI model: the words, numbers, names and negation of a sentence"
    " are looked for in the passages it cites. The same checker placed the citations, so recall"
    " mainly tells how many sentences stand without one; “cites the evidence” does not rest on it."
)
_BY_KIND = ("containment", "strict", "f1", "abstention_recall", "false_abstention")
_RETRIEVAL_BY_KIND = ("recall@1", "recall@5", "mrr")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else the report tells: of the documents, the machine, and how to measure again."""

    mode: str
    documents: Mapping[str, int] = field(default_factory=dict)
    unlocated: Sequence[str] = ()
    unproven: Sequence[str] = ()
    embedder: str = ""
    num_cores: int = 0
    command: str = ""
    measured_at: str = ""
    version: str = ""


def build_measurement(
    plan: Plan,
    system: System,
    results: Results,
    retrieval: Sequence[RetrievalRow],
    circumstances: Circumstances,
) -> dict[str, Any]:
    """The measurement of one system; JSON types only.

    Figures that do not apply (no unanswerable questions, no evidence) are left out.
    """
    outcomes = {
        condition.name: results.get(system.role, condition.name) for condition in CONDITIONS
    }
    questions = plan.questions
    return {
        "schema": SCHEMA,
        "version": circumstances.version,
        "measured_at": circumstances.measured_at,
        "command": circumstances.command,
        "model": system.identity,
        "mode": circumstances.mode,
        "embedder": circumstances.embedder,
        "question_set": _describe_set(questions, circumstances),
        "settings": {
            "num_distractors": plan.num_distractors,
            "seed": plan.seed,
            "answer_tokens": plan.answer_tokens,
            "num_at_once": plan.num_at_once,
            "num_cores": circumstances.num_cores,
            "confidence": CONFIDENCE,
            "num_resamples": NUM_RESAMPLES,
        },
        "checker": CHECKER,
        "meanings": {metric.name: metric.meaning for metric in METRICS.values()},
        "retrieval": _describe_retrieval(retrieval),
        "conditions": {
            condition.name: {
                "title": condition.title,
                "shows": condition.shows,
                **_describe_condition(outcomes[condition.name]),
            }
            for condition in CONDITIONS
            if outcomes[condition.name]
        },
        "failures": list_failures(
            questions.questions,
            outcomes["retrieved"],
            by_id(retrieval),
            by_id(outcomes["gold"]),
        ),
        "questions": [_describe_question(question) for question in questions.questions],
        "thresholds": [],
        "comparison": None,
    }


def _describe_set(questions: QuestionSet, circumstances: Circumstances) -> dict[str, Any]:
    asked = questions.questions
    num_answerable = sum(question.is_answerable for question in asked)
    return {
        "name": questions.name,
        "sha256": questions.sha256,
        "num_questions": len(asked),
        "num_answerable": num_answerable,
        "num_unanswerable": len(asked) - num_answerable,
        "num_follow_up": sum(bool(question.history) for question in asked),
        "num_unreviewed": sum(question.id in questions.unreviewed for question in asked),
        "unlocated": list(circumstances.unlocated),
        "unproven": list(circumstances.unproven),
        **circumstances.documents,
    }


def _describe_question(question: Question) -> dict[str, Any]:
    return {
        "id": question.id,
        "question": question.text,
        "answers": list(question.answers),
        "all_of": [list(group) for group in question.all_of],
        "history": [message.content for message in question.history],
        "answerable": question.is_answerable,
        "kind": question.kind,
    }


def _describe_retrieval(rows: Sequence[RetrievalRow]) -> dict[str, Any]:
    groups = {}
    for name, title in GROUPS.items():
        members = select_group(rows, name)
        ranked = [row.rank for row in members if row.rank is not None]
        if not members:
            continue
        groups[name] = {
            "title": title,
            "num_questions": len(members),
            "figures": measure_all(RETRIEVAL_METRICS, members),
            # Share found by rank: a curve over 1 to DEPTH.
            "found_by_rank": [
                sum(0 < rank <= depth for rank in ranked) / len(ranked)
                for depth in range(1, DEPTH + 1)
            ]
            if ranked
            else [],
        }
    by_kind = [METRICS[name] for name in _RETRIEVAL_BY_KIND]
    kinds = _group(rows)
    return {
        "depth": DEPTH,
        "groups": groups,
        "kinds": {
            kind: figures
            for kind in sorted(kinds)
            if (figures := measure_all(by_kind, kinds[kind]))
        },
        "rows": [row.to_json() for row in rows],
    }


def _describe_condition(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    by_kind = [METRICS[name] for name in _BY_KIND]
    kinds = _group(outcomes)
    return {
        "num_questions": len(outcomes),
        "num_failed": sum(outcome.decision == "failed" for outcome in outcomes),
        "figures": measure_all(ANSWER_METRICS + LATENCY_METRICS, outcomes),
        "kinds": {
            kind: {"num_questions": len(kinds[kind]), "figures": measure_all(by_kind, kinds[kind])}
            for kind in sorted(kinds)
        },
        "outcomes": [outcome.to_json() for outcome in outcomes],
    }


def _group(rows: Sequence[Any]) -> dict[str, list[Any]]:
    kinds: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        kinds[row.kind].append(row)
    return kinds
