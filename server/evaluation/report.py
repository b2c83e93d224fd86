"""The report of a study as one JSON object: factuality, style against knowledge, and the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.imitation.errors import TrainingDataInvalid
from models.imitation.statistics import CONFIDENCE, NUM_RESAMPLES
from models.imitation.style import ROWS, StyleRow, compare_style, measure_style
from server.evaluation.conditions import CONDITIONS
from server.evaluation.figures import FIGURES, compare, pair_figures, summarise
from server.evaluation.outcomes import Outcome
from server.evaluation.questions import QuestionSet
from server.evaluation.study import Plan, Results
from server.evaluation.systems import TITLES, Role, System
from server.evaluation.verdict import (
    CAVEAT,
    GroundingGain,
    Preference,
    judge_gate,
    judge_grounding,
    judge_knowledge,
    judge_style,
)
from server.grounding.attribution import strip_marks

SCHEMA = 1
# The row that stands for style where nobody has judged: every answer counts in it.
MAIN_ROW = "unigrams"
_NUM_EXAMPLES = 8
_DIFFERENCES = (
    ("retrieved", "closed_book"),
    ("gold", "retrieved"),
    ("gold", "wrong"),
    ("wrong", "closed_book"),
)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else the report tells: of the documents, and how to measure again."""

    mode: str
    documents: Mapping[str, int]
    unlocated: Sequence[str] = ()
    command: str = ""
    measured_at: str = ""
    version: str = ""
    preferences: Mapping[Role, Preference] = field(default_factory=dict)


def build_report(plan: Plan, results: Results, circumstances: Circumstances) -> dict[str, Any]:
    """The report of the narrow model; JSON types only.

    `gate` is what the registry reads before a model may become the default. Raises
    `TrainingDataInvalid` without a narrow model.
    """
    model, base = plan.find("narrow"), plan.find("base")
    if model is None or model.is_recorded:
        raise TrainingDataInvalid("a report needs the model itself, as a GGUF.", param="model")
    against_base = {
        name: compare(results.get("narrow", "retrieved"), results.get("base", "retrieved"), name)
        for name in ("em", "f1", "contains")
    }
    gate = against_base["em"]
    systems = _describe_systems(plan, results, circumstances.preferences)
    return {
        "schema": SCHEMA,
        "model": model.identity,
        "base": base.identity if base is not None else None,
        "factuality": _describe_factuality(plan, results, circumstances)
        | {
            "against_base": {n: d.to_json() if d else None for n, d in against_base.items()},
            "gate_verdict": judge_gate(gate, against_base["contains"]).to_json(),
        },
        "style_and_knowledge": {
            "caveat": CAVEAT,
            "style_rows": dict(ROWS),
            "main_row": MAIN_ROW,
            "knowledge_set": _describe_set(plan.knowledge or plan.questions),
            "systems": systems,
        },
        "gate": {
            "grounded_em_difference": gate.to_json() if gate is not None else None,
            "has_factuality": all(results.get("narrow", c.name) for c in CONDITIONS),
            "has_style_report": bool(systems["narrow"]["style"] or systems["narrow"]["preference"]),
        },
    }


def _describe_factuality(
    plan: Plan, results: Results, circumstances: Circumstances
) -> dict[str, Any]:
    conditions = {}
    for condition in CONDITIONS:
        if outcomes := results.get("narrow", condition.name):
            summary = summarise(condition.name, outcomes).to_json()
            conditions[condition.name] = {
                "title": condition.title,
                "shows": condition.shows,
                **summary,
            }
    differences = [
        {"of": of, "less": less, "figure": name, **found.to_json()}
        for of, less in _DIFFERENCES
        for name in ("em", "f1", "contains")
        if (found := compare(results.get("narrow", of), results.get("narrow", less), name))
    ]
    gain = _measure_gain(results, "narrow")
    return {
        "question_set": _describe_set(plan.questions)
        | {**circumstances.documents, "unlocated": list(circumstances.unlocated)},
        "mode": circumstances.mode,
        "num_distractors": plan.num_distractors,
        "seed": plan.seed,
        "answer_tokens": plan.answer_tokens,
        "confidence": CONFIDENCE,
        "num_resamples": NUM_RESAMPLES,
        "conditions": conditions,
        "differences": differences,
        "grounded_over_closed_book": gain.to_json() if gain else None,
        "examples": _pick_examples(plan, results),
        "measured_at": circumstances.measured_at,
        "version": circumstances.version,
        "command": circumstances.command,
    }


def _describe_systems(
    plan: Plan, results: Results, preferences: Mapping[Role, Preference]
) -> dict[str, Any]:
    teacher = _read_answers(results, "teacher")
    described: dict[str, Any] = {}
    for role, title in TITLES.items():
        source: Role = "narrow" if role == "narrow_retrieval" else role
        system = plan.find(source)
        if system is None:
            continue
        row = _describe_system(plan, results, role, teacher, preferences.get(role))
        described[role] = {"title": title, "model": _describe_model(system), **row}
    return described


def _describe_system(
    plan: Plan,
    results: Results,
    role: Role,
    teacher: Mapping[str, str],
    preference: Preference | None,
) -> dict[str, Any]:
    """Style, knowledge, grounding and the verdicts of one system."""
    style = _pair_style(results, role, teacher, None) if role != "teacher" else []
    is_compared = plan.find("base") is not None and role not in ("base", "teacher")
    changes = _pair_style(results, role, teacher, "base") if is_compared else []
    main = next((row for row in changes if row.row == MAIN_ROW), None)
    is_grounded = role == "narrow_retrieval"
    known = [] if is_grounded else results.knowledge(role)
    grounded = results.get("narrow" if is_grounded else role, "retrieved")
    difference = contained = None
    if is_compared and not is_grounded:
        difference, contained = (
            compare(known, results.knowledge("base"), name)
            for name in ("em_answerable", "contains")
        )
    verdicts: dict[str, Any] = {}
    if role not in ("base", "teacher") or preference is not None:
        verdicts["style"] = judge_style(preference, main, has_teacher=bool(style)).to_json()
    if role in ("broad", "narrow"):
        verdicts["knowledge"] = judge_knowledge(difference, contained).to_json()
    gain = _measure_gain(results, "narrow") if is_grounded else None
    if gain is not None:
        verdicts["grounded"] = {"sentence": gain.sentence, **gain.to_json()}
    return {
        "style": [row.to_json() for row in style],
        "style_difference": [row.to_json() for row in changes],
        "preference": preference.to_json() if preference else None,
        "knowledge": _measure(known),
        "knowledge_difference": difference.to_json() if difference else None,
        "grounded": _measure(grounded) if role != "narrow" else None,
        "verdicts": verdicts,
    }


def _measure(outcomes: Sequence[Outcome]) -> dict[str, Any] | None:
    """Accuracy on answerable questions, None where none was asked."""
    answerable = [outcome for outcome in outcomes if outcome.is_answerable]
    if not answerable:
        return None
    figures = summarise("", answerable).figures
    return {name: figures[name].to_json() for name in ("em", "f1", "contains")}


def _measure_gain(results: Results, role: Role) -> GroundingGain | None:
    grounded, closed = pair_figures(
        results.get(role, "retrieved"), results.get(role, "closed_book"), "contains"
    )
    return judge_grounding(grounded, closed) if grounded else None


def _read_answers(results: Results, role: Role) -> dict[str, str]:
    """What a system said to each question as a person would read it, without marks."""
    if role == "narrow_retrieval":
        outcomes = list(results.get("narrow", "retrieved"))
    else:
        outcomes = [*results.get(role, "closed_book"), *results.get(role, "knowledge")]
    return {o.id: strip_marks(o.answer).strip() for o in outcomes}


def _pair_style(
    results: Results, role: Role, teacher: Mapping[str, str], other: Role | None
) -> list[StyleRow]:
    """The rows of a system, or its rows less those of `other`, where all have answered."""
    mine = _read_answers(results, role)
    theirs = mine if other is None else _read_answers(results, other)
    ids = [id_ for id_ in teacher if id_ in mine and id_ in theirs]
    if not ids:
        return []
    said, taught = [mine[id_] for id_ in ids], [teacher[id_] for id_ in ids]
    if other is None:
        return measure_style(said, taught)
    return compare_style(said, [theirs[id_] for id_ in ids], taught)


def _describe_model(system: System) -> dict[str, Any]:
    return {**system.identity, "is_recorded": system.is_recorded}


def _describe_set(questions: QuestionSet) -> dict[str, Any]:
    num_answerable = sum(question.is_answerable for question in questions.questions)
    return {
        "name": questions.name,
        "sha256": questions.sha256,
        "num_questions": len(questions.questions),
        "num_answerable": num_answerable,
        "num_unanswerable": len(questions.questions) - num_answerable,
    }


def _pick_examples(plan: Plan, results: Results) -> list[dict[str, Any]]:
    """Some questions, drawn evenly, with the answer under each condition and whether it is right.

    Right is an answer that contains a gold one, or an abstention where there is none.
    """
    by_condition = {
        condition.name: {o.id: o for o in results.get("narrow", condition.name)}
        for condition in CONDITIONS
    }
    return [
        {
            "question": question.text,
            "gold": list(question.answers),
            "answers": {
                name: {
                    "text": outcomes[question.id].answer,
                    "is_right": _is_right(outcomes[question.id]),
                }
                for name, outcomes in by_condition.items()
                if question.id in outcomes
            },
        }
        for question in plan.questions.take(_NUM_EXAMPLES).questions
    ]


def _is_right(outcome: Outcome) -> bool:
    name = "contains" if outcome.is_answerable else "abstained_unanswerable"
    return FIGURES[name](outcome) == 1.0
