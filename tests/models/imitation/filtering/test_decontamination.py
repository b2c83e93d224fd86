from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from models.imitation.conversations import Conversation, SourcePassage, Turn
from models.imitation.errors import TrainingDataInvalid
from models.imitation.filtering.decontamination import DecontaminationRule
from models.imitation.importing.report import Drop

QUESTION = "I'd like to know: how many weeks of leave does each parent receive in Part-time work?"
SHORT = "Who wrote Hamlet?"
EVIDENCE = "the form is sent to payroll before the tenth of every month by the team lead"


@pytest.fixture
def rule(tmp_path: Path) -> DecontaminationRule:
    rows = [
        {"id": "d1", "question": QUESTION, "answers": ["16"], "evidence": EVIDENCE},
        {"id": "d2", "question": SHORT},
        {"id": "d3", "question": "Как оформить отпуск?"},
        {"id": "d4", "question": "休暇は何週間ありますか？"},
        {"turns": ["What does the owl in the old barn eat?", "And why?"]},
        {"messages": [{"role": "user", "content": "Which lake is the deepest of all?"}]},
    ]
    path = tmp_path / "eval.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    extra = tmp_path / "more.json"
    extra.write_text(json.dumps([{"instruction": "Sort these names by length."}]))
    return DecontaminationRule([path, extra])


def ask(question: str, answer: str = "Yes.") -> Conversation:
    return Conversation("c", (Turn("user", question), Turn("assistant", answer)), {})


def is_hit(rule: DecontaminationRule, conversation: Conversation) -> bool:
    result = rule.check(conversation, Counter())
    return isinstance(result, Drop) and result.reason == "contaminated"


@pytest.mark.parametrize(
    "planted",
    [
        QUESTION,
        QUESTION.upper(),
        QUESTION.lower().replace("'", "’").replace("-", " ").rstrip("?") + " !",
        '  I\'d like to know... how many "weeks" of leave does each\nparent receive, in Part-time',
        f"Hello, I have a long story first. And then this: {QUESTION} Thanks a lot for that!",
        QUESTION.replace("leave", "paid leave").replace("receive", "get"),
        QUESTION.replace("leave does", "leave, then, does"),
        SHORT,
        "who wrote HAMLET",
        "A riddle. Who wrote Hamlet? You have one guess.",
        "Как оформить отпуск",
        "Добрый день! как оформить отпуск? Спасибо.",
        "教えてください、休暇は何週間ありますか、お願いします",
        "What does the owl in the old barn eat",
        "Please say what does the owl in the old barn eat today",
        "And why",
        "which lake is the deepest of all",
        "sort these names, by length:",
    ],
)
def test_a_planted_question_is_found_in_every_form(rule: DecontaminationRule, planted: str) -> None:
    assert is_hit(rule, ask(planted))


def test_it_is_found_in_any_turn_and_in_passages(rule: DecontaminationRule) -> None:
    assert is_hit(rule, ask("Help me.", f"You mean: {QUESTION}"))
    later = Conversation("c", (*ask("Hi there.").turns, *ask(SHORT).turns), {})
    assert is_hit(rule, later)
    passage = SourcePassage("p", "t", f"Remember that {EVIDENCE}.")
    assert is_hit(rule, Conversation("c", ask("Hi there.").turns, {}, (passage,)))


@pytest.mark.parametrize(
    "other",
    [
        "How many weeks of leave does each manager get?",
        "Who wrote Hamlet's best parody, and who wrote Macbeth?",
        "Which lake is the coldest of all?",
        "Как отменить отпуск?",
        "休暇は何日ありますか？",
        "What does the owl eat, and why?",
        "The form is sent to payroll before the tenth.",
        "",
    ],
)
def test_other_questions_stay(rule: DecontaminationRule, other: str) -> None:
    assert not is_hit(rule, ask(other))


def test_an_evaluation_file_must_be_whole(tmp_path: Path) -> None:
    path = tmp_path / "eval.jsonl"
    path.write_text('{"question": "Who?"}\n{"question": ')
    with pytest.raises(TrainingDataInvalid, match=r"eval\.jsonl, line 2"):
        DecontaminationRule([path])
