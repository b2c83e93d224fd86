"""The four conditions end to end: real index and grounder, a scripted or a tiny real engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from index.errors import CollectionNotFound
from models.engine import LlamaEngine
from models.errors import ModelError
from models.imitation.errors import RunDamaged, TrainingDataInvalid
from server.evaluation.conditions import (
    CONDITIONS,
    Exhibits,
    FixedRetriever,
    prepare_exhibits,
)
from server.evaluation.figures import summarise
from server.evaluation.questions import Question, QuestionSet, read_question_set
from server.evaluation.runner import Material
from server.evaluation.session import Source
from server.evaluation.study import Plan, Results
from server.grounding.rules import REFUSAL
from server.grounding.types import Mode
from tests.fakes import HashingEmbedder
from tests.server.evaluation.studies import (
    FACTS,
    OneSlotEngine,
    make_system,
    open_set,
    perfect_engine,
    run,
    without_times,
    write_rows,
    write_set,
)

Study = tuple[Plan, Results, Material]


@pytest.fixture(scope="module")
def perfect(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return run(tmp_path_factory.mktemp("perfect"), {"model": perfect_engine()})


def test_a_perfect_reader_is_right_only_with_the_passage(perfect: Study) -> None:
    _, results, _ = perfect
    figures = {
        c.name: {
            name: figure.interval.mean
            for name, figure in summarise(c.name, results.get("narrow", c.name)).figures.items()
        }
        for c in CONDITIONS
    }
    for found in (figures["gold"], figures["retrieved"]):
        assert found["contains"] == found["strict"] == 1.0
        assert found["cites_gold"] == found["gold_shown"] == 1.0
        assert found["citation_recall"] == found["citation_precision"] == 1.0
        assert found["abstained_answerable"] == 0.0
        assert found["abstained_unanswerable"] == 1.0
    for found in (figures["closed_book"], figures["wrong"]):
        assert found["contains"] == found["em_answerable"] == 0.0
        assert found["abstained_answerable"] == 1.0
        assert "citation_recall" not in found
    assert figures["wrong"]["gold_shown"] == 0.0
    # An abstention is right on the one unanswerable question of seven.
    assert figures["closed_book"]["em"] == pytest.approx(1 / 7)


def test_closed_book_prompts_hold_no_passage(tmp_path: Path) -> None:
    engine = perfect_engine()
    run(tmp_path, {"model": engine})
    bare = engine.prompt_texts[:7]
    assert not any(sentence in text for text in bare for sentence, _ in FACTS.values())


def test_the_same_questions_are_laid_out_alike_in_every_run(perfect: Study, tmp_path: Path) -> None:
    first = perfect[2].exhibits
    again = run(tmp_path, {"model": perfect_engine()})[2].exhibits

    def headings(exhibits: Exhibits) -> dict[tuple[str, str], list[str]]:
        return {key: [h.document.path for h in hits] for key, hits in exhibits.shown.items()}

    assert headings(first) == headings(again)
    orders = [
        [hit.document.path for hit in hits].index(f"{question}.md")
        for (condition, question), hits in first.shown.items()
        if condition == "gold" and question in FACTS
    ]
    assert len(set(orders)) > 1, "the gold passage must not always stand in one place"


def test_exhibits_hold_gold_among_distractors_and_wrong_ones_alone(perfect: Study) -> None:
    material = perfect[2]
    for (condition, question), hits in material.exhibits.shown.items():
        gold = material.exhibits.golds[question]
        assert len(hits) == 4
        assert [hit.rank for hit in hits] == [1, 2, 3, 4]
        num_gold = sum(hit.passage.id in gold for hit in hits)
        assert num_gold == (1 if condition == "gold" and question in FACTS else 0)


def test_the_fixed_retriever_finds_what_it_was_given(perfect: Study) -> None:
    material = perfect[2]
    retriever = FixedRetriever(material.exhibits)
    hits = retriever.search("anything", collections=["gold:leave"], max_hits=2)
    assert hits == list(material.exhibits.shown["gold", "leave"][:2])
    with pytest.raises(CollectionNotFound):
        retriever.search("anything", collections=["gold:none"])


def test_evidence_across_passages_and_with_other_blanks_is_found(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    long = " ".join(f"Sentence number {n} stands here." for n in range(80))
    (docs / "long.txt").write_text(long.replace(" Sentence number 40", "\nSentence  number 40"))
    row = {"question": "?", "answers": ["x"], "answerable": True}
    rows = [
        {**row, "id": "whole", "evidence": long, "doc": "long.txt"},
        {**row, "id": "blank", "evidence": "here. Sentence number 40 stands", "doc": "long.txt"},
        {**row, "id": "plain", "evidence": "*none*", "evidence_plain": "Sentence number 7 stands",
         "doc": "long.txt"},
        {**row, "id": "lost", "evidence": "It is nowhere.", "doc": "long.txt"},
        {**row, "id": "gone", "evidence": "Sentence number 7", "doc": "none.txt"},
    ]  # fmt: skip
    questions = read_question_set(write_rows(tmp_path / "q.jsonl", rows))
    warnings: list[str] = []
    with open_set(questions, tmp_path / "out", docs, warnings.append) as (_, material):
        exhibits = material.exhibits
        assert exhibits.unlocated == ("lost", "gone")
        assert len(exhibits.golds["whole"]) == material.pool.num_passages > 1
        assert exhibits.golds["blank"]
        assert exhibits.golds["plain"]
        assert ("gold", "lost") not in exhibits.shown
    assert len(warnings) == 1
    assert "lost, gone" in warnings[0]


def test_a_passage_that_the_search_missed_is_shown_all_the_same(tmp_path: Path) -> None:
    """Of more passages than the search is deep, the least alike is still the gold one."""
    docs = tmp_path / "docs"
    docs.mkdir()
    for number in range(130):
        (docs / f"{number:03}.txt").write_text(f"The lobby is open, says page {number}.")
    (docs / "gold.txt").write_text("Zebras.")
    question = Question(
        "q", "Is the lobby open?", "fact", True, ("Zebras",), evidence=("Zebras.",),
        docs=("gold.txt",),
    )  # fmt: skip
    questions = QuestionSet("q", (question,))
    with open_set(questions, tmp_path / "out", docs, pytest.fail) as (_, material):
        found = material.retriever.search("Is the lobby open?", max_hits=100)
        (gold,) = material.exhibits.golds["q"]
        assert gold not in {hit.passage.id for hit in found}
        hit = next(h for h in material.exhibits.shown["gold", "q"] if h.passage.id == gold)
        assert hit.dense_score is not None
        assert hit.score == 0.0
        again = prepare_exhibits([question], material.pool, material.retriever, num_distractors=7)
        assert len(again.shown["gold", "q"]) == 8


def test_passages_that_questions_bring_are_ingested(tmp_path: Path) -> None:
    rows = [
        {"id": f"x{n}", "question": "When does it open?", "answers": [f"{n}:40"],
         "passage": f"The office number {n} opens at {n}:40."}
        for n in range(1, 7)
    ]  # fmt: skip
    questions = read_question_set(write_rows(tmp_path / "q.jsonl", rows))
    with open_set(questions, tmp_path / "out", None, pytest.fail) as (_, material):
        assert material.pool.num_documents == 6
        assert not material.exhibits.unlocated
    fewer = QuestionSet("q", questions.questions[:1], dict([*questions.documents.items()][:1]))
    with open_set(fewer, tmp_path / "out", None, pytest.fail) as (_, material):
        assert material.pool.num_documents == 1, "documents of an earlier run must be gone"


def test_nothing_to_ground_on_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataInvalid, match="--docs"):
        Source().check(QuestionSet("q", ()))
    with (
        pytest.raises(TrainingDataInvalid, match="no folder"),
        open_set(QuestionSet("q", ()), tmp_path / "out", tmp_path / "none", pytest.fail),
    ):
        pass


def test_an_interrupted_run_goes_on_where_it_stopped(perfect: Study, tmp_path: Path) -> None:
    whole = perfect[1]
    log = tmp_path / "out" / "answers" / "narrow.gold.jsonl"
    run(tmp_path, {"model": perfect_engine()})
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:4]) + lines[4][:30])
    engine = perfect_engine()
    again = run(tmp_path, {"model": engine})[1]
    assert len(engine.generations) == 4
    for condition in CONDITIONS:
        said, before = (r.get("narrow", condition.name) for r in (again, whole))
        assert without_times(said) == without_times(before)


def test_another_model_or_other_documents_are_asked_anew(tmp_path: Path) -> None:
    run(tmp_path, {"model": perfect_engine()})
    other = make_system()
    other = type(other)(other.role, other.name, other.path, "another hash")
    unsure = OneSlotEngine(["I do not know."])
    results = run(tmp_path, {"model": unsure}, systems=(other,))[1]
    assert {o.answer for o in results.get("narrow", "gold")} == {"I do not know."}
    (tmp_path / "set" / "docs" / "dog.md").write_text("# Dog\n\n" + FACTS["dog"][0] + "\nWoof.\n")
    engine = perfect_engine()
    run(tmp_path, {"model": engine}, systems=(other,))
    assert len(engine.generations) == 3 * 7, "all but the closed-book questions"


def test_an_answer_with_any_kind_of_line_end_is_read_again(tmp_path: Path) -> None:
    strange = "one\u2028two\x85three\x0cfour\r\nfive"
    first = run(tmp_path, {"model": OneSlotEngine([strange])})[1]
    engine = perfect_engine()
    again = run(tmp_path, {"model": engine})[1]
    assert engine.generations == []
    assert again == first
    assert "\u2028" in again.get("narrow", "closed_book")[0].answer


def test_a_damaged_log_is_not_taken_for_answers(tmp_path: Path) -> None:
    run(tmp_path, {"model": perfect_engine()})
    log = tmp_path / "out" / "answers" / "narrow.gold.jsonl"
    header = log.read_text().splitlines(keepends=True)[0]
    log.write_text(header + json.dumps({"id": "leave"}) + "\n")
    with pytest.raises(RunDamaged, match="line 2"):
        run(tmp_path, {"model": perfect_engine()})


def test_a_prompt_that_does_not_fit_has_failed_and_the_rest_goes_on(tmp_path: Path) -> None:
    rows = [
        {"id": "long", "question": "word " * 5000, "answers": ["x"]},
        {"id": "short", "question": "Which?", "answers": ["x"]},
    ]
    knowledge = read_question_set(write_rows(tmp_path / "k.jsonl", rows))
    results = run(tmp_path, {"model": perfect_engine()}, knowledge=knowledge)[1]
    long, short = results.knowledge("narrow")
    assert (long.decision, long.em, long.abstained) == ("failed", 0.0, 0.0)
    assert short.decision == "abstained"
    assert summarise("", results.knowledge("narrow")).num_failed == 1


def test_an_engine_that_breaks_stops_the_run_with_its_own_error(tmp_path: Path) -> None:
    engine = OneSlotEngine(["one two three four"], fail_after_words=2)
    with pytest.raises(ModelError, match="fails here"):
        run(tmp_path, {"model": engine})


def test_the_refusal_sentence_counts_as_an_abstention_without_passages(tmp_path: Path) -> None:
    results = run(tmp_path, {"model": OneSlotEngine([REFUSAL])})[1]
    outcomes = results.get("narrow", "closed_book")
    assert {o.decision for o in outcomes} == {"abstained"}
    assert [o.em for o in outcomes if not o.is_answerable] == [1.0]


def test_one_id_in_both_sets_is_refused(tmp_path: Path) -> None:
    asked = read_question_set(write_set(tmp_path / "set"))
    with pytest.raises(TrainingDataInvalid, match="'leave'"):
        Plan(asked, (), asked)


@pytest.mark.parametrize("mode", ["quote", "answer"])
def test_a_real_engine_runs_all_four(tmp_path: Path, tiny_engine: LlamaEngine, mode: Mode) -> None:
    results = run(tmp_path, {"model": tiny_engine}, mode=mode, limit=3)[1]
    for condition in CONDITIONS:
        outcomes = results.get("narrow", condition.name)
        assert len(outcomes) == 3
        assert all(o.decision != "failed" for o in outcomes)
    if mode == "quote":
        gold = summarise("gold", results.get("narrow", "gold")).figures
        assert gold["citation_recall"].interval.mean == 1.0


def test_the_embedder_of_a_study_embeds_no_text_twice() -> None:
    from server.evaluation.passages import RememberingEmbedder

    inner = HashingEmbedder()
    embedder = RememberingEmbedder(inner)
    texts = ["a b", "c", "a b"]
    assert (embedder.encode(texts) == HashingEmbedder().encode(texts)).all()
    assert (embedder.encode(["c", "d"]) == HashingEmbedder().encode(["c", "d"])).all()
    assert inner.num_encoded == 3
    assert embedder.encode([]).shape == (0, inner.identity.dimension)
