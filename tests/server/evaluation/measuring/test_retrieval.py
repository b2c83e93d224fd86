"""Ranks of evidence, and the figures that are made of them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.collection import Library
from index.retriever import HybridRetriever
from models.imitation.errors import RunDamaged
from models.protocols import Message
from server.evaluation.measuring.estimates import measure
from server.evaluation.measuring.metrics import METRICS
from server.evaluation.measuring.retrieval import (
    RetrievalRow,
    find_rank,
    measure_ndcg,
    measure_retrieval,
)
from server.evaluation.passages import PassagePool, ingest_set
from server.evaluation.questions import Question
from tests.fakes import HashingEmbedder


@given(st.lists(st.integers(0, 20), min_size=1, max_size=4))
def test_ndcg_is_1_for_the_best_order_alone(ranks: list[int]) -> None:
    value = measure_ndcg(ranks, 10)
    assert 0.0 <= value <= 1.0 + 1e-12
    distinct = sorted(set(ranks))
    is_best = 0 not in ranks and distinct == list(range(1, len(distinct) + 1))
    assert (value == pytest.approx(1.0)) == is_best


def test_ndcg_of_one_need_is_its_discount() -> None:
    assert measure_ndcg([3], 10) == 1 / math.log2(4)
    assert measure_ndcg([11], 10) == 0.0
    assert measure_ndcg([1, 0], 10) == pytest.approx(1 / (1 + 1 / math.log2(3)))


@given(st.lists(st.integers(0, 9), max_size=9, unique=True), st.frozensets(st.integers(0, 9)))
def test_a_rank_is_the_place_of_the_first_that_is_wanted(
    found: list[int], wanted: frozenset[int]
) -> None:
    rank = find_rank(found, wanted)
    if rank:
        assert found[rank - 1] in wanted
        assert not wanted & set(found[: rank - 1])
    else:
        assert not wanted & set(found)


@given(st.lists(st.none() | st.integers(0, 20), min_size=1, max_size=12))
def test_recall_grows_with_depth_and_bounds_mrr(ranks: list[int | None]) -> None:
    rows = [RetrievalRow(str(n), "fact", False, rank=rank) for n, rank in enumerate(ranks)]
    found = {
        name: measured.interval.mean
        for name in ("recall@1", "recall@5", "recall@10", "mrr")
        if (measured := measure(METRICS[name], rows)) is not None
    }
    if all(rank is None for rank in ranks):
        assert found == {}
        return
    assert found["recall@1"] <= found["recall@5"] <= found["recall@10"]
    assert found["recall@1"] <= found["mrr"] + 1e-12


def test_a_row_survives_json() -> None:
    row = RetrievalRow("a", "fact", True, 2, 0.63, 1, 1, 1.0)
    assert RetrievalRow.from_json(row.to_json()) == row
    with pytest.raises(RunDamaged):
        RetrievalRow.from_json({"id": "a"})


@pytest.fixture
def library(tmp_path: Path) -> Library:
    docs = tmp_path / "docs" / "site"
    docs.mkdir(parents=True)
    (docs / "a.md").write_text("# Leave\n\nThe birth parent receives 22 weeks\nof leave.\n")
    (docs / "b.md").write_text("# Badge\n\nA lost badge costs 12 euros.\n")
    library = Library(tmp_path / "index", HashingEmbedder())
    ingest_set([tmp_path / "docs"], library, HashingEmbedder())
    return library


def ask(text: str, *, evidence: tuple[str, ...], docs: tuple[str, ...] = ()) -> Question:
    return Question("q", text, "fact", True, ("22 weeks", "12 euros"), (), evidence, (), docs)


def test_evidence_is_looked_for_everywhere_where_no_document_is_named(library: Library) -> None:
    with library:
        pool = PassagePool(library, "evaluation")
        said = ("The birth parent receives 22 weeks of leave.",)
        (anywhere,) = pool.find_holders(ask("?", evidence=said))
        (by_name,) = pool.find_holders(ask("?", evidence=said, docs=("a.md",)))
        (by_path,) = pool.find_holders(ask("?", evidence=said, docs=("site/a.md",)))
        (elsewhere,) = pool.find_holders(ask("?", evidence=said, docs=("b.md",)))
        (nowhere,) = pool.find_holders(ask("?", evidence=("It is not said.",)))
    assert anywhere == by_name == by_path != frozenset()
    assert elsewhere == nowhere == frozenset()


def test_a_question_is_searched_with_its_history(library: Library) -> None:
    first = ask("What does a lost badge cost?", evidence=("A lost badge costs 12 euros.",))
    after = Question(
        "f", "And that costs?", "follow-up", True, ("12 euros",), (), first.evidence, (), (),
        (Message("user", "I have lost a badge"), Message("assistant", "Oh.")),
    )  # fmt: skip
    unknown = ask("Who?", evidence=("It is not said.",))
    told: list[tuple[int, int]] = []
    with library:
        pool = PassagePool(library, "evaluation")
        retriever = HybridRetriever(library, HashingEmbedder())
        rows = measure_retrieval(
            [first, after, unknown, Question("u", "Why?", "unanswerable", False, ())],
            pool,
            retriever,
            lambda done, num: told.append((done, num)),
        )
    assert [(row.rank, row.is_follow_up) for row in rows] == [(1, False), (1, True), (None, False)]
    assert rows[0].ndcg == 1.0
    assert rows[2].answer_found == 1.0, "an answer may be found where the evidence is not known"
    assert told == [(1, 3), (2, 3), (3, 3)]
