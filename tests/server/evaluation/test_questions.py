from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.imitation.errors import TrainingDataInvalid
from models.protocols import Message
from server.evaluation.questions import read_question_set, read_questions, write_documents
from tests.server.evaluation.studies import write_rows

ROW: dict[str, Any] = {
    "id": "d1",
    "question": "And how often?",
    "answers": ["yearly"],
    "evidence": "Reviewed **yearly**.",
    "evidence_plain": "Reviewed yearly.",
    "doc": "a.md",
    "evidence2": "Kept in the root.",
    "doc2": "b.md",
    "type": "follow-up",
    "answerable": True,
    "all_of": [["yearly", "every year"], ["root"]],
    "history": [{"role": "user", "content": "Is it reviewed?"}],
}
SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Normans & others",
            "paragraphs": [
                {
                    "context": "They came in 911. They gave their name to Normandy.",
                    "qas": [
                        {
                            "id": "q1",
                            "question": "What did they name?",
                            "is_impossible": False,
                            "answers": [
                                {"text": "Normandy", "answer_start": 42},
                                {"text": "Normandy", "answer_start": 42},
                            ],
                        },
                        {
                            "id": "q2",
                            "question": "Who sold it?",
                            "is_impossible": True,
                            "answers": [],
                            "plausible_answers": [{"text": "Normandy", "answer_start": 42}],
                        },
                    ],
                }
            ],
        }
    ],
}


def test_every_field_of_a_row_is_read(tmp_path: Path) -> None:
    (question,) = read_questions(write_rows(tmp_path / "q.jsonl", [ROW]))
    assert question.messages == [
        Message("user", "Is it reviewed?"),
        Message("user", "And how often?"),
    ]
    assert question.evidence == ("Reviewed **yearly**.", "Kept in the root.")
    assert question.docs == ("a.md", "b.md")
    assert question.is_answered_in_full("Every year, in the root.")
    assert not question.is_answered_in_full("Yearly.")


def test_rows_without_documents_are_questions_too(tmp_path: Path) -> None:
    row = {"id": "c1", "question": "Capital?", "answers": ["Canberra"], "category": "geography"}
    (question,) = read_questions(write_rows(tmp_path / "q.jsonl", [row]))
    assert question.is_answerable
    assert question.kind == "geography"
    assert question.docs == question.evidence == ()


def test_a_row_may_bring_its_passage(tmp_path: Path) -> None:
    row = {"id": "../x 1", "question": "When?", "answers": ["7:40"], "passage": "It opens at 7:40."}
    questions = read_question_set(write_rows(tmp_path / "q.jsonl", [row]))
    ((path, text),) = questions.documents.items()
    assert text == "It opens at 7:40."
    assert questions.questions[0].docs == (path,)
    write_documents(questions.documents, tmp_path / "docs")
    assert [file.read_text() for file in (tmp_path / "docs").rglob("*.txt")] == [text]


def test_squad_paragraphs_are_documents_and_evidence_their_sentence(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(SQUAD))
    questions = read_question_set(path)
    answerable, impossible = questions.questions
    assert answerable.answers == ("Normandy",)
    assert answerable.evidence == ("They gave their name to Normandy.",)
    assert answerable.docs == tuple(questions.documents)
    assert not impossible.is_answerable
    assert impossible.answers == impossible.evidence == ()


def test_squad_1_has_no_impossible_questions(tmp_path: Path) -> None:
    data = json.loads(json.dumps(SQUAD))
    asked = data["data"][0]["paragraphs"][0]["qas"]
    del asked[1], asked[0]["is_impossible"]
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(data))
    assert [q.is_answerable for q in read_questions(path)] == [True]


def test_a_limit_draws_evenly_and_keeps_the_order(tmp_path: Path) -> None:
    rows = [{"id": f"{n}", "question": "?", "answers": ["x"]} for n in range(10)]
    questions = read_question_set(write_rows(tmp_path / "q.jsonl", rows))
    assert [q.id for q in questions.take(5).questions] == ["0", "2", "4", "6", "8"]
    assert questions.take(99) == questions.take(None) == questions
    assert questions.take(5).sha256 != questions.sha256


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("q.jsonl", "", "holds no questions"),
        ("q.jsonl", '{"id": "a"}\n', "line 1"),
        ("q.jsonl", '{"id": "a", "question": "?", "answers": ["x"]}\n{', "line 2"),
        ("q.jsonl", '{"id": "a", "question": "?", "answers": "x"}', "list of texts"),
        ("q.jsonl", '{"id": "a", "question": "?", "answers": [], "answerable": true}', "needs ans"),
        ("q.jsonl", '{"id": "a", "question": "?", "answers": ["x"]}\n' * 2, "used twice"),
        ("q.json", "[]", "SQuAD"),
        ("q.json", '{"data": [{"paragraphs": [{}]}]}', "SQuAD"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(TrainingDataInvalid, match=said):
        read_question_set(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataInvalid, match=r"none\.jsonl"):
        read_question_set(tmp_path / "none.jsonl")
