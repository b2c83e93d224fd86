from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.collection import Library
from index.errors import CollectionNotFound
from index.retriever import HybridRetriever, RankingWeights, fuse_ranks, fuse_scores
from tests.fakes import HashingEmbedder
from tests.index.drafts import put_lines


@pytest.fixture(scope="module")
def embedder() -> HashingEmbedder:
    return HashingEmbedder()


@pytest.fixture(scope="module")
def library(
    tmp_path_factory: pytest.TempPathFactory, embedder: HashingEmbedder
) -> Iterator[Library]:
    with Library(tmp_path_factory.mktemp("library"), embedder) as library:
        put_lines(
            library,
            embedder,
            "leave.txt",
            "Each parent receives 16 weeks of leave.",
            "Holidays are booked in the calendar.",
            collection="hr",
        )
        put_lines(
            library, embedder, "laptop.txt", "Laptops are replaced after 4 years.", collection="it"
        )
        put_lines(
            library, embedder, "cafe.txt", "Das Café öffnet um 8 Uhr für Gäste.", collection="it"
        )
        yield library


@pytest.fixture(scope="module")
def retriever(library: Library, embedder: HashingEmbedder) -> HybridRetriever:
    return HybridRetriever(library, embedder)


def test_the_passage_with_the_words_comes_first(retriever: HybridRetriever) -> None:
    hits = retriever.search("How many weeks of leave does a parent get?")
    assert hits[0].passage.text == "Each parent receives 16 weeks of leave."
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(0.0 <= hit.score <= 1.0 + 1e-9 for hit in hits)
    assert hits[0].bm25_rank == 1
    assert hits[0].dense_score is not None


def test_collections_keep_to_themselves(retriever: HybridRetriever) -> None:
    query = "weeks of leave, laptops after 4 years"
    assert {h.document.collection for h in retriever.search(query)} == {"hr", "it"}
    assert {h.document.collection for h in retriever.search(query, collections=["it"])} == {"it"}
    assert retriever.search(query, collections=[]) == []
    with pytest.raises(CollectionNotFound):
        retriever.search(query, collections=["hr", "missing"])


@pytest.mark.parametrize("query", ["CAFE", "cafe\u0301", "Café geöffnet", "gaste"])
def test_case_and_accents_do_not_matter_to_words(library: Library, query: str) -> None:
    words_only = HybridRetriever(library, HashingEmbedder(), RankingWeights(dense=0.0))
    assert [hit.document.path for hit in words_only.search(query)] == ["cafe.txt"]


def test_file_names_are_found(library: Library) -> None:
    words_only = HybridRetriever(library, HashingEmbedder(), RankingWeights(dense=0.0))
    assert {hit.document.path for hit in words_only.search("laptop")} == {"laptop.txt"}


@settings(max_examples=120, deadline=None)
@given(
    query=st.one_of(
        st.text(max_size=60),
        st.text(alphabet="\"'*():{}^-+ANDORNEATtext scope c1\\\x00", max_size=60),
    )
)
def test_no_query_is_taken_for_syntax(retriever: HybridRetriever, query: str) -> None:
    hits = retriever.search(query, max_hits=3)
    assert len(hits) <= 3


@pytest.mark.parametrize(
    "query",
    ['"', "NOT", "leave AND", "scope:c1", "text : leave", "a" * 100_000, "x " * 10_000, "NEAR("],
)
def test_query_syntax_is_only_words(retriever: HybridRetriever, query: str) -> None:
    retriever.search(query)


def test_an_empty_query_or_library_finds_nothing(
    tmp_path: Path, retriever: HybridRetriever, embedder: HashingEmbedder
) -> None:
    assert retriever.search(" \n") == []
    with Library(tmp_path, embedder) as empty:
        assert HybridRetriever(empty, embedder).search("leave") == []


def test_threads_get_the_same_hits(retriever: HybridRetriever) -> None:
    expected = retriever.search("weeks of leave")
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(retriever.search("weeks of leave")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


RANKED = st.lists(st.floats(-1, 50), max_size=12).map(
    lambda scores: list(enumerate(sorted(scores, reverse=True)))
)


@given(first=RANKED, second=RANKED, weight=st.floats(0.01, 5))
def test_fused_scores_stay_between_0_and_1_and_keep_the_order_of_one_list(
    first: list[tuple[int, float]], second: list[tuple[int, float]], weight: float
) -> None:
    for fused in (
        fuse_scores([(weight, first), (1.0, second)], 10),
        fuse_ranks([(weight, first), (1.0, second)], 20.0),
    ):
        assert all(-1e-9 <= score <= 1.0 + 1e-9 for score in fused.values())
        assert set(fused) == {id_ for ranked in (first, second) for id_, _ in ranked}
    alone = fuse_scores([(weight, first)], 10)
    assert [alone[id_] for id_, _ in first] == sorted(alone.values(), reverse=True)


def test_a_leader_of_both_lists_scores_1() -> None:
    lists = [(0.5, [(7, 0.9), (8, 0.1)]), (2.0, [(7, 12.0), (9, 3.0)])]
    assert fuse_scores(lists, 100)[7] == pytest.approx(1.0)
    assert fuse_ranks(lists, 20.0)[7] == pytest.approx(1.0)
    assert fuse_scores(lists, 100)[9] == pytest.approx(2.0 / 2.5 * 3 / 12)
