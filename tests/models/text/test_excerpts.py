from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.text.excerpts import MAX_LINE_CHARS, build_excerpts, format_line
from models.text.ranking import RankedSentence, ScoredPassage, rank_sentences
from models.text.sentences import Sentence
from tests.fakes import HashingEmbedder

PASSAGES = [
    ScoredPassage("Boats pay 31.50 a night. Dogs are welcome. The bar opens at nine.", "Fees", 0.4),
    ScoredPassage("Payment is due on arrival. Boats over 11 metres pay 40.", "Payment", 0.6),
]


def item(passage: int, start: int, text: str = "It is so.", score: float = 0.5) -> RankedSentence:
    return RankedSentence(passage, Sentence(start, start + 9, "prose", text), "", 0.5, 0.5, score)


class TestRankSentences:
    def test_every_sentence_comes_back_once_and_best_first(self) -> None:
        ranked = rank_sentences("What do boats pay?", PASSAGES, HashingEmbedder().encode)
        assert len({(r.passage, r.sentence.start) for r in ranked}) == len(ranked) == 5
        scores = [r.score for r in ranked]
        assert scores == sorted(scores, reverse=True)
        assert "pay" in ranked[0].sentence.text

    def test_kept_sentences_come_back_whatever_their_score(self) -> None:
        start = PASSAGES[0].text.index("Dogs")
        encode = HashingEmbedder().encode
        few = rank_sentences("What do boats pay?", PASSAGES, encode, max_embedded=2)
        more = rank_sentences(
            "What do boats pay?", PASSAGES, encode, max_embedded=2, kept={(0, start)}
        )
        assert len(few) == 2
        assert {(r.passage, r.sentence.start) for r in more} - {
            (r.passage, r.sentence.start) for r in few
        } == {(0, start)}

    def test_only_favoured_sentences_are_embedded(self) -> None:
        seen: list[str] = []

        def encode(texts: object) -> np.ndarray:
            assert isinstance(texts, list)
            seen.extend(texts)
            return HashingEmbedder().encode(texts)

        rank_sentences("boats", PASSAGES, encode, max_embedded=2)
        assert len(seen) == 3


class TestBuildExcerpts:
    @given(
        st.lists(
            st.tuples(st.integers(0, 4), st.integers(0, 50)), min_size=1, max_size=20, unique=True
        ),
        st.integers(1, 10),
    )
    def test_the_best_lines_are_kept_in_the_order_of_their_passage(
        self, places: list[tuple[int, int]], max_lines: int
    ) -> None:
        ranked = [item(passage, start) for passage, start in places]
        excerpts = build_excerpts(ranked, max_lines=max_lines)
        shown = [s for excerpt in excerpts for s in excerpt.sentences]
        assert {id(s) for s in shown} == {id(s) for s in ranked[:max_lines]}
        # Passages stand in the order of their best line.
        assert [e.passage for e in excerpts] == list(
            dict.fromkeys(passage for passage, _ in places[:max_lines])
        )
        for excerpt in excerpts:
            starts = [s.sentence.start for s in excerpt.sentences]
            assert starts == sorted(starts)
            assert excerpt.text.splitlines() == [format_line(s) for s in excerpt.sentences]

    def test_overlong_sentences_are_shown_only_where_there_is_no_other(self) -> None:
        long = item(0, 0, "x" * (MAX_LINE_CHARS + 1))
        assert build_excerpts([long, item(1, 0)])[0].passage == 1
        assert build_excerpts([long])[0].sentences == (long,)

    def test_a_line_begins_with_tenths_of_overlap_and_cosine(self) -> None:
        sentence = Sentence(0, 9, "prose", "It is so.")
        assert format_line(RankedSentence(0, sentence, "", 0.74, 0.31, 0)) == "73\tIt is so."
        assert format_line(RankedSentence(0, sentence, "", 1.0, -0.2, 0)) == "90\tIt is so."


def test_addresses_stand_in_no_line_and_make_none_too_long() -> None:
    linked = f"Boats pay [31.50](https://example.org/{'x' * MAX_LINE_CHARS}) a night."
    assert format_line(item(0, 0, linked)).endswith("\tBoats pay 31.50 a night.")
    (excerpt,) = build_excerpts([item(0, 0, linked), item(0, 10)])
    assert excerpt.text.count("\n") == 1
