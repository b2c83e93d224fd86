"""Passages gain by what a reader says of their sentences, and by nothing where there is none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from index.collection import Library
from index.reading import ReadingRules
from index.retriever import HybridRetriever
from index.types import RankingOptions
from models.errors import ReaderInvalid
from models.reader import SentenceReader
from tests.fakes import HashingEmbedder
from tests.index.drafts import put_lines

QUESTION = "When does the garage close in the evening?"
LINES = (
    "The garage stands close to the gate of the works.",
    "In the evening the garage is locked at nine.",
    "Drivers close the garage with care, the gate too.",
)


class MarkingReader:
    """A `Reader` that is sure of the sentences with `mark` in them, and sure against the others."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self.asked: list[str] = []
        self.texts: list[str] = []

    def read(self, question: str, sentences: Sequence[str]) -> list[float]:
        self.asked.append(question)
        self.texts += sentences
        return [9.0 if self._mark in sentence else -9.0 for sentence in sentences]


class BrokenReader:
    """A `Reader` whose weights are damaged."""

    def read(self, question: str, sentences: Sequence[str]) -> list[float]:
        raise ReaderInvalid("damaged")


@pytest.fixture
def library(library: Library, embedder: HashingEmbedder) -> Library:
    put_lines(library, embedder, "garage.txt", *LINES)
    return library


def find(retriever: HybridRetriever, options: RankingOptions | None = None) -> list[str]:
    return [hit.passage.text for hit in retriever.search(QUESTION, ranking=options)]


@pytest.mark.parametrize("answer", LINES)
def test_the_passage_whose_sentence_answers_comes_first(
    library: Library, embedder: HashingEmbedder, answer: str
) -> None:
    retriever = HybridRetriever(library, embedder, reader=MarkingReader(answer[-20:]))
    hits = retriever.search(QUESTION)
    assert hits[0].passage.text == answer
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert all(0.0 <= hit.score <= 1.0 for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_reader_that_tells_nothing_apart_changes_no_order(
    library: Library, embedder: HashingEmbedder
) -> None:
    unread = find(HybridRetriever(library, embedder))
    assert find(HybridRetriever(library, embedder, reader=MarkingReader("xyz"))) == unread
    assert find(HybridRetriever(library, embedder, reader=MarkingReader(""))) == unread


def test_sentences_are_read_once_behind_their_heading_and_no_more_than_allowed(
    library: Library, embedder: HashingEmbedder
) -> None:
    reader = MarkingReader("nine")
    rules = ReadingRules(num_sentences=3, max_of_passage=1)
    retriever = HybridRetriever(library, embedder, reader=reader, reading_rules=rules)
    retriever.search(QUESTION)
    assert reader.asked == [QUESTION]
    assert len(reader.texts) == len(set(reader.texts)) == 3
    assert all(text.startswith("Part > ") for text in reader.texts)
    assert {line for line in LINES for text in reader.texts if text[7:] in line} == set(LINES)
    narrow = ReadingRules(num_passages=1)
    reader.texts.clear()
    HybridRetriever(library, embedder, reader=reader, reading_rules=narrow).search(QUESTION)
    assert {line for line in LINES for text in reader.texts if text[7:] in line} == {
        find(HybridRetriever(library, embedder))[0]
    }


@pytest.mark.parametrize(
    "options", [RankingOptions(ranker="none"), RankingOptions(embedding_weight=0.0)]
)
def test_a_search_without_meaning_or_ranker_reads_nothing(
    library: Library, embedder: HashingEmbedder, options: RankingOptions
) -> None:
    reader = MarkingReader("nine")
    read = find(HybridRetriever(library, embedder, reader=reader), options)
    assert read == find(HybridRetriever(library, embedder), options)
    assert reader.asked == []


def test_a_question_that_carries_an_earlier_one_along_is_not_read(
    library: Library, embedder: HashingEmbedder
) -> None:
    reader = MarkingReader("nine")
    found = HybridRetriever(library, embedder, reader=reader).search("And when?", context="garage")
    unread = HybridRetriever(library, embedder).search("And when?", context="garage")
    assert [hit.passage.id for hit in found] == [hit.passage.id for hit in unread]
    assert reader.asked == []


def test_what_the_reader_raises_the_search_raises(
    library: Library, embedder: HashingEmbedder
) -> None:
    with pytest.raises(ReaderInvalid):
        HybridRetriever(library, embedder, reader=BrokenReader()).search(QUESTION)


def test_the_bundled_reader_finds_the_passage_that_answers(
    library: Library, embedder: HashingEmbedder
) -> None:
    hits = find(HybridRetriever(library, embedder, reader=SentenceReader()))
    assert hits[0] == "In the evening the garage is locked at nine."
