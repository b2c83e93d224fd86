from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.caching import CachingEmbedder, remember
from tests.fakes import HashingEmbedder
from tests.reachable import find_texts


@given(
    batches=st.lists(st.lists(st.text(max_size=12), max_size=6), max_size=8),
    max_vectors=st.integers(0, 8),
)
def test_vectors_are_those_of_the_embedder_whatever_was_asked_before(
    batches: list[list[str]], max_vectors: int
) -> None:
    plain = HashingEmbedder()
    caching = CachingEmbedder(HashingEmbedder(), max_vectors=max_vectors)
    for batch in batches:
        np.testing.assert_array_equal(caching.encode(batch), plain.encode(batch))


def test_a_text_is_run_once_and_again_when_it_was_forgotten() -> None:
    inner = HashingEmbedder()
    caching = CachingEmbedder(inner, max_vectors=2)
    caching.encode(["a", "b", "a"])
    caching.encode(["b", "a"])
    assert inner.num_encoded == 2
    caching.encode(["c"])
    caching.encode(["b"])
    assert inner.num_encoded == 4


def test_no_text_that_was_asked_for_stays_within_reach() -> None:
    caching = CachingEmbedder(HashingEmbedder())
    caching.encode(["the deleted wording", "another text"])
    assert not [text for text in find_texts(caching) if "deleted" in text or "another" in text]


def test_identity_and_token_counts_are_the_embedders_and_one_memory_is_enough() -> None:
    inner = HashingEmbedder()
    caching = remember(inner)
    assert caching.identity == inner.identity
    assert caching.num_tokens(["some words"]) == inner.num_tokens(["some words"])
    assert remember(caching) is caching
