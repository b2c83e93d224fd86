"""One study: every system asked every question, to outcomes that the report is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models.imitation.errors import TrainingDataInvalid
from models.protocols import Embedder, Engine
from server.evaluation.conditions import CONDITIONS, ConditionName
from server.evaluation.outcomes import OUTCOME_VERSION, Outcome
from server.evaluation.questions import QuestionSet
from server.evaluation.runner import Examiner, Material, OutcomeLog
from server.evaluation.systems import Role, System, read_recorded, score_recorded
from server.grounding.rules import GroundingRules

# Opens a model and says how it is grounded.
OpenModel = Callable[[Path], AbstractContextManager[tuple[Engine, GroundingRules]]]
# Told what is being done, how much of it and of how much.
Progress = Callable[[str, int, int], None]
KNOWLEDGE = "knowledge"
_ALL = tuple(condition.name for condition in CONDITIONS)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of whom.

    `knowledge` are questions for closed-book answers alone, `conditions` those of the model that
    is measured, in their order; `num_at_once` questions are under way together (None: as many as
    the engine has slots).
    """

    questions: QuestionSet
    systems: tuple[System, ...]
    knowledge: QuestionSet | None = None
    num_distractors: int = 3
    seed: int = 0
    answer_tokens: int = 256
    conditions: tuple[ConditionName, ...] = _ALL
    num_at_once: int | None = None

    def __post_init__(self) -> None:
        """Raises `TrainingDataInvalid` if both sets use one id: answers are known by it."""
        if self.knowledge is not None:
            ids = {question.id for question in self.questions.questions}
            shared = [q.id for q in self.knowledge.questions if q.id in ids]
            if shared:
                raise TrainingDataInvalid(
                    f"the id {shared[0]!r} stands in both question files.", param="closed_book"
                )

    def find(self, role: Role) -> System | None:
        """The system of that role."""
        return next((system for system in self.systems if system.role == role), None)


@dataclass(frozen=True, slots=True)
class Results:
    """Outcomes by role and condition; `knowledge` stands among the conditions."""

    outcomes: Mapping[Role, Mapping[str, Sequence[Outcome]]] = field(default_factory=dict)

    def get(self, role: Role, condition: str) -> Sequence[Outcome]:
        """Outcomes, none where nothing was asked."""
        return self.outcomes.get(role, {}).get(condition, ())

    def knowledge(self, role: Role) -> Sequence[Outcome]:
        """Closed-book outcomes that tell what a system knows: of the knowledge set if asked."""
        return self.get(role, KNOWLEDGE) or self.get(role, "closed_book")


def run_study(
    plan: Plan,
    material: Material,
    embedder: Embedder,
    open_model: OpenModel,
    *,
    folder: Path,
    progress: Progress,
) -> Results:
    """Ask every system and keep the outcomes under `folder`, from which a next run goes on.

    The model that is measured is asked under the plan's conditions, other models closed-book and
    over retrieved passages; recorded answers are scored as they are. Raises what the engine raises.
    """
    outcomes: dict[Role, dict[str, list[Outcome]]] = {}
    for system in plan.systems:
        if system.is_recorded:
            outcomes[system.role] = _score_recorded(plan, system)
            continue
        with open_model(system.path) as (engine, rules):
            examiner = Examiner(
                engine,
                embedder,
                rules,
                material,
                answer_tokens=plan.answer_tokens,
                num_at_once=plan.num_at_once,
            )
            found = outcomes[system.role] = {}
            for key, condition, questions in _list_papers(plan, system):
                run: dict[str, Any] = {
                    "model": system.sha256,
                    "condition": condition,
                    "questions": questions.sha256,
                    "answer_tokens": plan.answer_tokens,
                    "num_ctx": engine.info.num_ctx,
                    "version": version("mynah"),
                    "outcome": OUTCOME_VERSION,
                    "num_at_once": plan.num_at_once,
                }
                if condition != "closed_book":
                    run |= _describe_material(plan, material, rules)
                    run["embedder"] = repr(embedder.identity)
                log = OutcomeLog(folder / f"{system.role}.{key}.jsonl", run)
                title = f"{system.role}, {key.replace('_', ' ')}"
                found[key] = examiner.ask(
                    condition, questions.questions, log, partial(progress, title)
                )
    return Results(outcomes)


def _list_papers(plan: Plan, system: System) -> list[tuple[str, ConditionName, QuestionSet]]:
    """What a model is asked, under which condition, and the key of its outcomes."""
    is_measured = system.role in ("narrow", "model")
    names = plan.conditions if is_measured else ("closed_book", "retrieved")
    papers: list[tuple[str, ConditionName, QuestionSet]] = [
        (name, name, plan.questions) for name in names
    ]
    if plan.knowledge is not None:
        papers.append((KNOWLEDGE, "closed_book", plan.knowledge))
    return papers


def _describe_material(plan: Plan, material: Material, rules: GroundingRules) -> dict[str, Any]:
    """What else an outcome depends on: where any of it differs, the question is asked again."""
    return {
        "rules": repr(rules),
        "documents": material.pool.fingerprint,
        "num_distractors": plan.num_distractors,
        "seed": plan.seed,
    }


def _score_recorded(plan: Plan, system: System) -> dict[str, list[Outcome]]:
    answers = read_recorded(system.path)
    unknown = set(answers) - set(_ALL)
    if unknown:
        raise TrainingDataInvalid(
            f"{system.path}: there is no condition {min(unknown)!r}; use {', '.join(_ALL)}."
        )
    found = {
        condition: score_recorded(texts, condition, plan.questions.questions)
        for condition, texts in answers.items()
    }
    if plan.knowledge is not None:
        texts = answers.get("closed_book", {})
        found[KNOWLEDGE] = score_recorded(texts, "closed_book", plan.knowledge.questions)
    if not any(found.values()):
        raise TrainingDataInvalid(f"{system.path} answers none of the questions: no id is known.")
    return found
