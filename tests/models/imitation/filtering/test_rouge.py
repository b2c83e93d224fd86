from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from models.imitation.filtering.rouge import RougePool, rouge_l

WORDS = "write a short poem about the sea and list three facts of it in plain English".split()
# Few words, so that subsequences are long; marks and letters that the tokeniser must cut.
texts = st.lists(st.sampled_from(["a", "b", "B", "c1", "é", "naïve", "-", "d_e"]), max_size=30).map(
    " ".join
)


@pytest.fixture(scope="module")
def scorer() -> RougeScorer:
    return RougeScorer(["rougeL"], use_stemmer=False)


def test_equals_rouge_score_on_200_pairs(scorer: RougeScorer) -> None:
    rng = random.Random(0)
    seen = set()
    for _ in range(200):
        a = " ".join(rng.choices(WORDS, k=rng.randrange(1, 40)))
        b = " ".join(rng.choices(WORDS, k=rng.randrange(1, 40))).title() + "?!"
        expected = scorer.score(a, b)["rougeL"].fmeasure
        assert rouge_l(a, b) == pytest.approx(expected, abs=1e-6)
        seen.add(expected)
    assert len(seen) > 100


@given(texts, texts)
@settings(deadline=None)
def test_equals_rouge_score_on_any_text(a: str, b: str) -> None:
    expected = RougeScorer(["rougeL"], use_stemmer=False).score(a, b)["rougeL"].fmeasure
    assert rouge_l(a, b) == pytest.approx(expected, abs=1e-6)
    assert rouge_l(b, a) == rouge_l(a, b)


@given(st.lists(texts, max_size=12), texts, st.sampled_from([0.0, 0.3, 0.7]))
@settings(deadline=None)
def test_a_pool_finds_what_comparing_with_each_text_finds(
    pool_texts: list[str], text: str, floor: float
) -> None:
    pool = RougePool()
    for number, other in enumerate(pool_texts):
        assert pool.add(other) == number
    assert len(pool) == len(pool_texts)
    scores = [rouge_l(text, other) for other in pool_texts]
    assert pool.max_f(text, floor) == max([floor, *scores])
    best, number_found = pool.nearest(text, floor)
    if number_found is None:
        assert max([0.0, *scores]) <= floor
    else:
        assert scores[number_found] == best > floor


def test_a_pool_of_thousands_is_far_quicker_than_comparing_with_each() -> None:
    rng = random.Random(1)
    vocabulary = [f"w{i}" for i in range(3000)] + ["the", "of", "a", "to", "in"] * 100
    texts = [" ".join(rng.choices(vocabulary, k=rng.randrange(4, 30))) for _ in range(5000)]
    pool = RougePool()
    for text in texts:
        pool.add(text)
    queries = [" ".join(rng.choices(vocabulary, k=15)) for _ in range(20)]
    # Processor time: other programs of the machine must not fail the test.
    start_s = time.process_time()
    for query in queries:
        assert pool.max_f(query, 0.7) == 0.7
    pool_s = (time.process_time() - start_s) / len(queries)
    start_s = time.process_time()
    assert max(rouge_l(queries[0], text) for text in texts) < 0.7
    each_s = time.process_time() - start_s
    assert pool_s < each_s / 5
