"""Mode `grounded` over a collection that was really ingested."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from index.collection import Library
from index.retriever import HybridRetriever
from ingest.pipeline import ingest, prepare_document
from ingest.split import Splitter
from models.imitation.collecting.grounded import GroundedMode, check_answer
from models.imitation.collecting.seeds import GROUNDED_SEEDS, SeedSet, read_seeds
from models.imitation.errors import RunDamaged, TrainingDataInvalid
from server.commands.tune.collecting import LibraryPassages
from server.grounding.rules import REFUSAL
from tests.fakes import HashingEmbedder
from tests.models.imitation.collecting.runs import collect, read
from tests.models.imitation.collecting.scripted_teacher import (
    ScriptedTeacher,
    prompt_of,
    running,
    say_anything,
)

TOPICS = ("Parental leave", "Sick leave", "Travel costs", "Laptops", "Guest network", "Parking")
SEEDS = read_seeds(GROUNDED_SEEDS, at_least=12)
LICENSED = {"license": "CC-BY-4.0"}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("handbook")
    for number, topic in enumerate(TOPICS, 1):
        (folder / f"{topic.split()[0].lower()}.md").write_text(
            f"# {topic}\n\nOn {topic.lower()} the office decides within {number} days, and whoever"
            f" asks writes to desk {number}00 with the form {topic[0]}{number}, signed twice.\n"
        )
    embedder = HashingEmbedder()
    with Library(tmp_path_factory.mktemp("data"), embedder) as library:
        ingest([folder], "hr", library, embedder)
        (folder / "note.md").write_text("# Note\n\nToo short.\n")
        ingest([folder / "note.md"], "other", library, embedder)
        content = (
            b"# Visitors\n\nOn visitors the office asks for a badge, desk 700, form V7, signed.\n"
        )
        splitter = Splitter(embedder.num_tokens, embedder.identity.window_tokens)
        draft, _ = prepare_document(content, "visitors.md", "h", splitter, LICENSED)
        library.put("hr", draft, embedder.encode([content.decode()]))
        yield library


def make_mode(library: Library, seed: int = 1, **options: Any) -> GroundedMode:
    retriever = HybridRetriever(library, HashingEmbedder())
    return GroundedMode(SEEDS, seed, LibraryPassages(library, retriever, "hr"), **options)


def test_each_row_asks_about_a_passage_and_shows_near_ones(
    library: Library, tmp_path: Path
) -> None:
    with running(ScriptedTeacher(say_anything)) as teacher:
        summary = collect(teacher, make_mode(library), tmp_path / "rows", num_rows=12)
    # One row a request, and nothing is asked for in vain.
    assert (summary.num_requests, len(teacher.bodies), summary.dropped) == (12, 12, {})
    bodies = {prompt_of(body): body for body in teacher.bodies}
    for body in bodies.values():
        assert {name: value for name, value in body.items() if name != "messages"} == {
            "model": "teacher",
            "max_tokens": 512,
            "temperature": 0.7,
        }
    texts = {}
    for document in library.documents("hr"):
        for passage in library.passages(document.id):
            texts[str(passage.id)] = (document, passage.text)
    rows = read(tmp_path / "rows")
    assert {str(row.provenance["target"]) for row in rows} == set(texts)
    places = set()
    for row in rows:
        said = row.provenance
        assert len(row.passages) == 4
        assert len({passage.id for passage in row.passages}) == 4
        ids = [int(passage.id) for passage in row.passages]
        places.add(ids.index(said["target"]))
        for shown, known in zip(row.passages, said["passages"], strict=True):
            document, text = texts[shown.id]
            assert shown.text == text
            assert shown.title.startswith(f"{document.filename} > ")
            assert known["id"] == int(shown.id)
            assert (known["document"], known["path"]) == (document.id, document.path)
            assert known["license"] == ("CC-BY-4.0" if document.path == "visitors.md" else None)
        cited = {int(mark) for mark in re.findall(r"\[(\d+)\]", row.turns[1].content)}
        assert [p["is_cited"] for p in said["passages"]] == [n in cited for n in range(1, 5)]
        assert said["is_answerable"] == (row.turns[1].content != REFUSAL)
        assert bool(cited) == said["is_answerable"]
        assert any(
            all(f"[{n}] {p.title}\n{p.text.strip()}" in text for n, p in enumerate(row.passages, 1))
            and f"passage [{ids.index(said['target']) + 1}]" in text
            for text in bodies
        )
    # Passages are shuffled: the one asked about stands anywhere.
    assert len(places) > 1


def test_near_passages_are_the_nearest_of_the_same_collection(library: Library) -> None:
    passages = LibraryPassages(library, HybridRetriever(library, HashingEmbedder()), "hr")
    leave = next(
        passage
        for passage in map(passages.read, range(passages.num_passages))
        if "parental leave" in passage.text
    )
    near = passages.find_near(leave, 5)
    assert "sick leave" in near[0].text
    assert leave.id not in {passage.id for passage in near}
    assert len(near) == 5
    assert all("Too short" not in passage.text for passage in near)
    assert passages.find_near(leave, 0) == []


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_questions_has_no_answer(
    share: float, library: Library, tmp_path: Path
) -> None:
    with running(ScriptedTeacher(say_anything)) as teacher:
        collect(
            teacher,
            make_mode(library, unanswerable=share, num_passages=1),
            tmp_path / "rows",
            num_rows=100,
            concurrency=8,
        )
    refused = sum(row.turns[1].content == REFUSAL for row in read(tmp_path / "rows"))
    assert (refused > 0) == any(REFUSAL in prompt_of(body) for body in teacher.bodies)
    # Four standard deviations of a share of 0.3 in 100 draws.
    assert abs(refused / 100 - share) <= (0.18 if share == 0.3 else 0)


def test_the_style_of_the_seeds_is_shown(library: Library, tmp_path: Path) -> None:
    with running(ScriptedTeacher(say_anything)) as teacher:
        collect(teacher, make_mode(library), tmp_path / "rows", num_rows=20)
    by_id = {seed.id: seed for seed in SEEDS.seeds}
    prompts = [prompt_of(body) for body in teacher.bodies]
    for row in read(tmp_path / "rows"):
        ids = row.provenance["seed_ids"]
        assert len(set(ids)) == 5
        shown = [f"Question: {by_id[i].instruction}\nAnswer: {by_id[i].output}" for i in ids]
        assert any(all(text in prompt for text in shown) for prompt in prompts)
        refuses = [by_id[i].output.startswith(REFUSAL) for i in ids]
        assert set(refuses) == {not row.provenance["is_answerable"]}


def test_answers_that_do_not_keep_to_the_passages_are_left_out(
    library: Library, tmp_path: Path
) -> None:
    told = iter(range(100))
    answers = [
        "It takes 900000 days. [{t}]",
        "It is decided soon. [9]",
        "It is decided soon.",
        "It is decided soon. [{t}]\nBut not today.",
        "It is decided soon. [{o}]",
        REFUSAL,
        "It is decided soon. [{t}]",
    ]

    def say(body: Mapping[str, Any]) -> str | tuple[str, str]:
        number = next(told)
        target = int(re.findall(r"passage \[(\d+)\]", prompt_of(body))[0])
        if number == len(answers):
            return "Question: why so long?\nAnswer: It is", "length"
        if number == len(answers) + 1:
            return "I cannot."
        question = "what was that [1]?" if number == len(answers) + 2 else f"how long {number}?"
        if number == len(answers) + 3:
            question = "How Long 6?"
        answer = answers[min(number, len(answers) - 1)]
        return f"Question: {question}\nAnswer: {answer.format(t=target, o=target % 4 + 1)}"

    with running(ScriptedTeacher(say)) as teacher:
        summary = collect(
            teacher,
            make_mode(library, unanswerable=0.0),
            tmp_path / "rows",
            max_requests=12,
            num_rows=100,
            concurrency=1,
        )
    assert summary.dropped == {
        "number_unknown": 1,
        "citation_unknown": 1,
        "target_uncited": 2,
        "uncited": 1,
        "refused": 1,
        "cut": 1,
        "unreadable": 1,
        "question_cites": 1,
        "duplicate": 1,
    }
    assert len(read(tmp_path / "rows")) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (REFUSAL, None),
        (f"{REFUSAL} The fee is 12.40. [2]", None),
        (f"{REFUSAL} The fee is 12.40.", "uncited"),
        (f"{REFUSAL} The fee is 12.50. [2]", "number_unknown"),
        (f"{REFUSAL} The fee is 12.40. [3]", "citation_unknown"),
        ("The fee is 12.40. [2]", "not_refused"),
    ],
)
def test_a_refusal_may_tell_what_is_there(answer: str, reason: str | None) -> None:
    passages = ["Opening hours", "The fee is 12.40."]
    assert check_answer(answer, passages, 1, is_answerable=False) == reason


def test_a_list_is_cited_item_by_item() -> None:
    passages = ["Bring 2 pens and 1 ruler."]
    listed = "You need:\n1. 2 pens [1]\n2. 1 ruler [1]"
    assert check_answer(listed, passages, 1, is_answerable=True) is None
    assert check_answer("1. 2 pens\n2. 1 ruler [1]", passages, 1, is_answerable=True) == "uncited"


def test_the_run_resumes_and_knows_its_collection(library: Library, tmp_path: Path) -> None:
    with running(ScriptedTeacher(say_anything, delay_s=0.01)) as teacher:
        collect(teacher, make_mode(library), tmp_path / "whole", num_rows=20)
        for limit in (3, 7, 20):
            collect(teacher, make_mode(library), tmp_path / "rows", num_rows=20, max_requests=limit)
        assert (tmp_path / "rows").read_bytes() == (tmp_path / "whole").read_bytes()
        retriever = HybridRetriever(library, HashingEmbedder())
        everything = GroundedMode(SEEDS, 1, LibraryPassages(library, retriever, None))
        with pytest.raises(RunDamaged, match="another collection"):
            collect(teacher, everything, tmp_path / "rows")


def test_a_collection_without_text_is_refused(library: Library, tmp_path: Path) -> None:
    retriever = HybridRetriever(library, HashingEmbedder())
    mode = GroundedMode(SEEDS, 1, LibraryPassages(library, retriever, "other"))
    with (
        running(ScriptedTeacher(say_anything)) as teacher,
        pytest.raises(TrainingDataInvalid, match="no passage of at least"),
    ):
        collect(teacher, mode, tmp_path / "rows")
    assert teacher.bodies == []
    with (
        Library(tmp_path / "empty", HashingEmbedder()) as empty,
        pytest.raises(TrainingDataInvalid, match="mynah ingest PATH"),
    ):
        LibraryPassages(empty, retriever, None)


def test_seeds_of_one_kind_are_refused(library: Library) -> None:
    telling = tuple(seed for seed in SEEDS.seeds if not seed.output.startswith(REFUSAL))
    retriever = HybridRetriever(library, HashingEmbedder())
    with pytest.raises(TrainingDataInvalid, match="both kinds"):
        GroundedMode(SeedSet(telling, "x"), 1, LibraryPassages(library, retriever, "hr"))


def test_rows_are_json_lines(library: Library, tmp_path: Path) -> None:
    with running(ScriptedTeacher(say_anything)) as teacher:
        collect(teacher, make_mode(library), tmp_path / "rows", num_rows=3)
    lines = (tmp_path / "rows").read_text().splitlines()
    assert [set(json.loads(line)) for line in lines] == [
        {"id", "messages", "provenance", "passages"}
    ] * 3
