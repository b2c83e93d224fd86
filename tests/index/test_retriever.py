from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.collection import Library
from index.errors import CollectionNotFound, RankingInvalid
from index.fusion import fuse_scores
from index.ranking import PassageWeights
from index.retriever import HybridRetriever
from index.types import RankingOptions
from tests.fakes import HashingEmbedder
from tests.index.drafts import put_lines

WORDS_ONLY = RankingOptions(embedding_weight=0.0)
MEANING_ONLY = RankingOptions(text_weight=0.0)


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
    words_only = HybridRetriever(library, HashingEmbedder(), options=WORDS_ONLY)
    assert [hit.document.path for hit in words_only.search(query)] == ["cafe.txt"]


def test_file_names_are_found(library: Library) -> None:
    words_only = HybridRetriever(library, HashingEmbedder(), options=WORDS_ONLY)
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
    fused = fuse_scores([(weight, first), (1.0, second)], 10)
    assert all(-1e-9 <= score <= 1.0 + 1e-9 for score in fused.values())
    assert set(fused) == {id_ for ranked in (first, second) for id_, _ in ranked}
    alone = fuse_scores([(weight, first)], 10)
    assert [alone[id_] for id_, _ in first] == sorted(alone.values(), reverse=True)


@given(ranked=RANKED, light=st.floats(0.01, 5), more=st.floats(0.01, 5))
def test_a_passage_of_one_list_gains_with_the_weight_of_that_list(
    ranked: list[tuple[int, float]], light: float, more: float
) -> None:
    other = [(-1, 1.0), (-2, 0.5)]
    less = fuse_scores([(light, ranked), (1.0, other)], 10)
    heavy = fuse_scores([(light + more, ranked), (1.0, other)], 10)
    assert all(heavy[id_] >= less[id_] - 1e-9 for id_, _ in ranked)
    assert all(heavy[id_] <= less[id_] + 1e-9 for id_, _ in other)


def test_a_leader_of_both_lists_scores_1() -> None:
    lists = [(0.5, [(7, 0.9), (8, 0.1)]), (2.0, [(7, 12.0), (9, 3.0)])]
    assert fuse_scores(lists, 100)[7] == pytest.approx(1.0)
    assert fuse_scores(lists, 100)[9] == pytest.approx(2.0 / 2.5 * 3 / 12)


@given(embedding=st.floats(0, 1e6), text=st.floats(0, 1e6))
def test_weights_of_signals_sum_to_1_whatever_the_request_says(
    embedding: float, text: float
) -> None:
    if embedding + text <= 0:
        with pytest.raises(RankingInvalid, match="above 0"):
            RankingOptions(embedding_weight=embedding, text_weight=text)
        return
    options = RankingOptions(embedding_weight=embedding, text_weight=text)
    weights = PassageWeights().balance(options)
    assert sum(getattr(weights, name) for name in PassageWeights.__dataclass_fields__) == (
        pytest.approx(1.0)
    )
    if embedding == 0:
        assert weights.meaning == weights.sentence == 0
    if text == 0:
        assert weights.words == weights.coverage == weights.phrases == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"embedding_weight": -0.1},
        {"text_weight": float("nan")},
        {"text_weight": float("inf")},
        {"score_threshold": 1.5},
        {"score_threshold": float("nan")},
    ],
)
def test_ranking_options_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RankingInvalid):
        RankingOptions(**wrong)


def test_a_half_with_weight_0_takes_no_part(library: Library, embedder: HashingEmbedder) -> None:
    retriever = HybridRetriever(library, embedder)
    query = "weeks of leave"
    assert all(h.dense_score is None for h in retriever.search(query, ranking=WORDS_ONLY))
    assert all(h.bm25_rank is None for h in retriever.search(query, ranking=MEANING_ONLY))
    assert retriever.search("zzz qqq", ranking=WORDS_ONLY) == []


def test_hits_below_the_threshold_are_left_out(retriever: HybridRetriever) -> None:
    everything = retriever.search("weeks of leave")
    floor = everything[1].score
    above = retriever.search("weeks of leave", ranking=RankingOptions(score_threshold=floor))
    assert above == [hit for hit in everything if hit.score >= floor]
    assert retriever.search("zzz", ranking=RankingOptions(score_threshold=1.0)) == []


def test_without_a_ranker_the_fused_order_stands(
    library: Library, embedder: HashingEmbedder
) -> None:
    plain = HybridRetriever(library, embedder).search(
        "weeks of leave", ranking=RankingOptions(ranker="none")
    )
    assert plain[0].passage.text == "Each parent receives 16 weeks of leave."
    assert [hit.score for hit in plain] == sorted((hit.score for hit in plain), reverse=True)


def test_a_context_finds_what_the_question_leaves_unsaid(retriever: HybridRetriever) -> None:
    def first(context: str) -> str:
        return retriever.search("And after how many years?", context=context)[0].document.path

    assert first("When are laptops replaced?") == "laptop.txt"


def test_asking_for_more_hits_only_adds_behind(tmp_path: Path, embedder: HashingEmbedder) -> None:
    with Library(tmp_path, embedder) as library:
        for number in range(90):
            put_lines(library, embedder, f"{number}.txt", f"badge rule {number} of the lobby")
        found = HybridRetriever(library, embedder).search("badge rule 7 lobby", max_hits=90)
        assert len(found) == 90
        assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
        assert found[0].document.path == "7.txt"
        assert (
            HybridRetriever(library, embedder).search("badge rule 7 lobby", max_hits=3)
            == (found[:3])
        )


def test_a_section_is_a_slice_of_the_document_around_the_hit(
    tmp_path: Path, embedder: HashingEmbedder
) -> None:
    with Library(tmp_path, embedder) as library:
        document = put_lines(library, embedder, "a.txt", *[f"line {n} here" for n in range(80)])
        retriever = HybridRetriever(library, embedder)
        hit = retriever.search("line 40 here", max_hits=1)[0]
        section = retriever.read_section(hit)
        assert hit.passage in section.passages
        text = library.text(document.id)
        assert section.text == text[section.passages[0].start : section.passages[-1].end]
        assert len(section.passages) < 80
        library.delete("docs", ["a.txt"])
        assert retriever.read_section(hit).passages == (hit.passage,)
