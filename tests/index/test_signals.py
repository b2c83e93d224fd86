from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from index.pool import PooledPassage
from index.signals import measure_signals, read_asked
from index.types import Document, Passage
from models.text.words import find_topic_words, find_words
from tests.fakes import HashingEmbedder

TEXTS = st.lists(
    st.sampled_from(["leave", "leaves", "parental", "weeks", "the", "of", "paid", "desk", "x"]),
    max_size=12,
).map(" ".join)


def make_pool(texts: list[str], heading: str) -> list[PooledPassage]:
    document = Document("doc_1", "docs", "9.txt", "text/plain", "h", 9, len(texts), 7, None, (), {})
    return [
        PooledPassage(
            passage=Passage(at, "doc_1", at, 0, len(text), (heading,), None, 5, text),
            document=document,
            fused=0.5,
            dense_score=None,
            bm25_rank=at + 1,
            meaning_share=0.0,
            words_share=0.0,
            words=find_words(text),
        )
        for at, text in enumerate(texts)
    ]


@settings(deadline=None, max_examples=200)
@given(query=TEXTS, texts=st.lists(TEXTS, min_size=1, max_size=4), heading=TEXTS)
def test_phrases_are_pairs_of_topic_words_side_by_side_or_with_one_between(
    query: str, texts: list[str], heading: str
) -> None:
    asked = read_asked(query, "", 0.5)
    signals = measure_signals(
        asked, make_pool(texts, heading), HashingEmbedder().encode, vector=None, max_sentences=9
    )
    for text, found in zip(texts, signals, strict=True):
        body, frame = find_topic_words(text), find_topic_words(f"9 {heading}")
        near = {*pairwise(body), *zip(body, body[2:], strict=False), *pairwise(frame)}
        held = sum(pair in near for pair in asked.pairs)
        assert found.phrases == (held / len(asked.pairs) if asked.pairs else 0.0)
        assert (found.coverage > 0) == bool(asked.terms.keys() & {*body, *frame})
        assert 0.0 <= found.coverage <= 1.0
        assert found.coverage < 1.0 - 1e-9 or asked.terms.keys() <= {*body, *frame}
