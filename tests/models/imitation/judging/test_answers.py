from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.imitation.conversations import Conversation, Turn, write_conversations
from models.imitation.errors import TrainingDataInvalid
from models.imitation.judging.answers import Answered, read_answers


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_rows_and_the_head_of_a_report_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "answers",
        {"run": {"model": "x"}},
        {"id": "a", "question": "Why?", "answer": "So.", "more": 1},
        {"id": 7, "answer": ""},
    )
    assert read_answers(path, "system") == {"a": Answered("Why?", "So."), "7": Answered(None, "")}


def test_the_last_answer_of_a_conversation_counts_and_all_before_is_the_question(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rows"
    one = (Turn("user", "Why?"), Turn("assistant", "So."))
    more = (*one, Turn("user", "And then?"), Turn("assistant", "Then."), Turn("user", "Thanks."))
    write_conversations(path, [Conversation("one", one, {}), Conversation("more", more, {})])
    assert read_answers(path, "system") == {
        "one": Answered("Why?", "So."),
        "more": Answered("User: Why?\n\nAssistant: So.\n\nUser: And then?", "Then."),
    }


def test_half_a_surrogate_pair_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "answers"
    path.write_text('{"id": "a", "question": "W\\udc80?", "answer": "S\\ud83d."}\n')
    assert read_answers(path, "system") == {"a": Answered("W??", "S?.")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "a", "answer": "x"}\n{', "line 2: not JSON"),
        ('{"id": "a", "answer": "x"}\n\n{"id": "a", "answer": "y"}', "line 3: a is answered twice"),
        ("[]", "line 1: the row is no JSON object"),
        ('{"answer": "x"}', "line 1: the row has no 'id'"),
        ('{"id": true, "answer": "x"}', "line 1: the row has no 'id'"),
        ('{"id": "a"}', "line 1: the 'answer' of a is missing or no text"),
        ('{"id": "a", "answer": "x", "question": 3}', "line 1: the 'question' of a is no text"),
        ('{"id": "a", "messages": [{"role": "user", "content": "x"}]}', "no answered question"),
        ('{"id": "a", "messages": [{"role": "x", "content": "x"}]}', "line 1: not a message"),
        ("\n", "holds no answers"),
    ],
)
def test_what_is_wrong_is_told_with_the_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "answers"
    path.write_text(content)
    with pytest.raises(TrainingDataInvalid) as caught:
        read_answers(path, "baseline")
    assert message in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.param == "baseline"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataInvalid, match="No such file"):
        read_answers(tmp_path / "none", "system")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(TrainingDataInvalid, match="not UTF-8"):
        read_answers(tmp_path / "bytes", "system")
