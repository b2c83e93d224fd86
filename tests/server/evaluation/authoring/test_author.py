"""Whole question sets drafted from the example handbook and from made-up documents."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from index.collection import Library
from models.imitation.errors import TrainingDataInvalid
from models.imitation.metrics import contains_answer
from server.evaluation.authoring.author import UNANSWERABLE_SHARE, write_questions
from server.evaluation.authoring.drafts import Draft, Source
from server.evaluation.authoring.english import clean
from server.evaluation.authoring.sources import read_collection, read_folder
from server.evaluation.passages import ingest_set
from server.evaluation.questions import read_question_set
from tests.fakes import HashingEmbedder
from tests.server.evaluation.studies import write_rows

HANDBOOK = Path(__file__).parents[4] / "examples" / "handbook"
NUM = 40


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    found, failures = read_folder(HANDBOOK, 10_000_000)
    assert failures == []
    return found


@pytest.fixture(scope="module")
def drafts(sources: list[Source]) -> list[Draft]:
    return write_questions(sources, NUM)


def test_as_many_as_wanted_of_many_kinds_and_documents(drafts: list[Draft]) -> None:
    kinds = Counter(draft.wording.kind for draft in drafts)
    assert len(drafts) == NUM
    assert kinds["unanswerable"] == round(NUM * UNANSWERABLE_SHARE)
    assert len(kinds) >= 8
    assert max(kinds.values()) <= NUM / 4
    assert len({draft.doc or draft.near_doc for draft in drafts}) >= 12


def test_evidence_stands_in_its_document_and_holds_the_answer(
    drafts: list[Draft], sources: list[Source]
) -> None:
    texts = {source.path: source.text for source in sources}
    for draft in drafts:
        if not draft.wording.answers:
            assert (draft.doc, draft.evidence) == ("", "")
            assert draft.near_doc in texts
            continue
        assert draft.evidence in texts[draft.doc]
        for group in draft.wording.all_of or [draft.wording.answers]:
            assert contains_answer(clean(draft.evidence), group), draft
        assert not contains_answer(draft.wording.question, draft.wording.answers)


def test_the_same_documents_give_the_same_questions(
    drafts: list[Draft], sources: list[Source]
) -> None:
    assert write_questions(sources, NUM) == drafts
    assert write_questions(sources, NUM, seed=1) != drafts


def test_questions_read_as_questions_and_are_asked_once(drafts: list[Draft]) -> None:
    asked = [
        (draft.wording.question, draft.history and draft.history[0]["content"]) for draft in drafts
    ]
    assert len(set(asked)) == len(asked)
    for question, _ in asked:
        assert question.endswith("?")
        assert not set(question) & set("*_|<>{}#")


def test_what_is_written_is_read_again_as_unreviewed(drafts: list[Draft], tmp_path: Path) -> None:
    rows = [draft.to_json(f"q{number}") for number, draft in enumerate(drafts)]
    assert all(row["reviewed"] is False for row in rows)
    questions = read_question_set(write_rows(tmp_path / "q.jsonl", rows))
    assert len(questions.unreviewed) == len(questions.questions) == NUM
    assert sum(not q.is_answerable for q in questions.questions) == round(NUM * UNANSWERABLE_SHARE)
    assert any(question.history for question in questions.questions)
    rows[0]["reviewed"] = True
    again = read_question_set(write_rows(tmp_path / "q2.jsonl", rows))
    assert len(again.unreviewed) == NUM - 1
    assert again.sha256 == questions.sha256, "a review that changes nothing asks nothing anew"


def test_a_sentence_that_stands_twice_is_not_asked_about() -> None:
    text = "The canteen opens at 11:30.\n"
    twice = [Source("a.txt", "A", text), Source("b.txt", "B", text)]
    assert write_questions(twice, 9) == []
    assert len(write_questions(twice[:1], 9)) >= 1


def test_a_collection_and_its_folder_give_the_same_questions(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.md").write_text("# Canteen hours\n\nThe canteen opens at 11:30.\n")
    (docs / "b.md").write_text("# Keys\n\nAll spare keys are kept in the gatehouse.\n")
    (docs / "broken.pdf").write_bytes(b"%PDF-nothing")
    with Library(tmp_path / "data", HashingEmbedder()) as library:
        ingest_set([docs], library, HashingEmbedder(), collection="hr")
        kept = write_questions(read_collection(library, "hr"), 9)
    read, failures = read_folder(docs, 10_000)
    assert [f.split(":")[0] for f in failures] == ["broken.pdf"]
    assert [d.wording for d in write_questions(read, 9)] == [d.wording for d in kept]
    assert json.dumps([draft.to_json("q") for draft in kept])
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingDataInvalid, match="no document"):
        read_folder(tmp_path / "empty", 10)
