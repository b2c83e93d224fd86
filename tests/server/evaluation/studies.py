"""A small handbook, questions on it and a study over a scripted engine, for tests."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.protocols import Engine, EngineLoad
from server.evaluation.outcomes import Outcome
from server.evaluation.questions import Question, QuestionSet, read_question_set
from server.evaluation.runner import Material
from server.evaluation.session import Source, open_material
from server.evaluation.study import OpenModel, Plan, Results, run_study
from server.evaluation.systems import Role, System
from server.grounding.abstention import Abstention
from server.grounding.rules import REFUSAL, GroundingRules
from server.grounding.types import Mode
from tests.fakes import HashingEmbedder, ScriptedEngine

FACTS = {
    "leave": ("The birth parent receives 22 weeks of leave.", "22 weeks"),
    "badge": ("A lost badge costs 12 euros at the lobby.", "12 euros"),
    "train": ("First class on the train is booked above 300 kilometres.", "300 kilometres"),
    "dog": ("Guide dogs are welcome in the canteen.", "Guide dogs"),
    "boiler": ("The boiler of the mill is checked by Ada Quist.", "Ada Quist"),
    "window": ("Office windows are washed on every third Tuesday.", "third Tuesday"),
}
ASKED = {
    "leave": "How many weeks of leave does the birth parent receive?",
    "badge": "What does a lost badge cost at the lobby?",
    "train": "Above what distance is first class on the train booked?",
    "dog": "Which animals are welcome in the canteen?",
    "boiler": "Who checks the boiler of the mill?",
    "window": "When are the office windows washed?",
}
UNANSWERABLE = "What does a lost parking permit cost at the lobby?"


def write_set(folder: Path) -> Path:
    """`docs/` with one document a fact, and `questions.jsonl`; the path of the latter."""
    (folder / "docs").mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for name, (sentence, answer) in FACTS.items():
        text = f"# {name.title()}\n\n{sentence}\nThis page is about the {name}.\n"
        (folder / "docs" / f"{name}.md").write_text(text, encoding="utf-8")
        rows.append(
            {
                "id": name,
                "question": ASKED[name],
                "answers": [answer],
                "evidence": sentence,
                "doc": f"{name}.md",
                "type": "fact",
                "answerable": True,
            }
        )
    rows.append(
        {"id": "permit", "question": UNANSWERABLE, "answers": [], "evidence": "", "doc": "",
         "type": "unanswerable", "answerable": False}
    )  # fmt: skip
    return write_rows(folder / "questions.jsonl", rows)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_passages(prompt: str) -> str:
    """A perfect reader: the sentence that the prompt's passages hold on its question."""
    passages, _, asked = prompt.rpartition("user: ")
    for name, (sentence, _) in FACTS.items():
        if ASKED[name] in asked and sentence in passages:
            return sentence
    return REFUSAL


class OneSlotEngine(ScriptedEngine):
    """Is asked one question at a time: the scripted engine's list of prompts knows no threads."""

    @property
    def load(self) -> EngineLoad:
        return EngineLoad(num_slots=1, num_running=0, num_waiting=0, max_waiting=8)


@contextmanager
def open_set(
    questions: QuestionSet, folder: Path, docs: Path | None, warn: Callable[[str], None]
) -> Iterator[tuple[Plan, Material]]:
    plan = Plan(questions, (make_system(),))
    embedder = HashingEmbedder()
    source = Source(docs)
    with open_material(
        plan, source, embedder, data_dir=folder, folder=folder, warn=warn
    ) as material:
        yield plan, material


def make_system(role: Role = "narrow", path: Path = Path("model.gguf")) -> System:
    return System(role, f"{role} model", path, f"hash of {role}")


def make_opener(engines: Mapping[str, Engine], mode: Mode = "answer") -> OpenModel:
    """Opens the engine whose name the path's stem is; passages always count as evidence."""

    def open_model(path: Path) -> AbstractContextManager[tuple[Engine, GroundingRules]]:
        rules = GroundingRules(mode=mode, abstention=Abstention({}, 0.0, 0.0))
        return contextlib.nullcontext((engines[path.stem], rules))

    return open_model


def run(
    folder: Path,
    engines: Mapping[str, Engine],
    *,
    mode: Mode = "answer",
    systems: tuple[System, ...] = (),
    knowledge: QuestionSet | None = None,
    limit: int | None = None,
) -> tuple[Plan, Results, Material]:
    """A study over the handbook, made if need be; the engines are known by the files' stems."""
    questions = folder / "set" / "questions.jsonl"
    if not questions.exists():
        write_set(folder / "set")
    asked = read_question_set(questions).take(limit)
    warnings: list[str] = []
    docs = folder / "set" / "docs"
    with open_set(asked, folder / "out", docs, warnings.append) as (_, material):
        plan = Plan(asked, systems or (make_system(),), knowledge)
        results = run_study(
            plan,
            material,
            HashingEmbedder(),
            make_opener(engines, mode),
            folder=folder / "out" / "answers",
            progress=lambda _title, _done, _num: None,
        )
    assert warnings == []
    return plan, results, material


def perfect_engine() -> ScriptedEngine:
    return OneSlotEngine(read_passages)


def without_times(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes as any run gives them: no two take the same time."""
    return [replace(o, search_ms=None, first_token_ms=None, whole_ms=None) for o in outcomes]


def make_outcomes(
    condition: str, answers: Mapping[str, str], gold: Mapping[str, str]
) -> list[Outcome]:
    """Outcomes of made-up questions: id to answer, id to gold answer (empty: unanswerable)."""
    from server.evaluation.outcomes import score_text

    return [
        score_text(
            Question(id_, f"{id_}?", "fact", bool(gold[id_]), (gold[id_],) if gold[id_] else ()),
            condition,
            answer,
            "ungrounded",
        )
        for id_, answer in answers.items()
    ]
