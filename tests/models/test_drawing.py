"""The draw of a token: what llama.cpp's samplers keep, with the probabilities they would have."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.drawing import Logits, TokenDrawer
from models.errors import ModelError
from models.grammar import Candidates, candidate_array
from models.llama import library
from models.protocols import SamplingSettings


def _random_logits(num_scores: int, seed: int) -> Logits:
    return np.random.default_rng(seed).normal(0, 3, num_scores).astype(np.float32)


def _draw_often(scores: Logits, sampling: SamplingSettings, num_draws: int) -> np.ndarray:
    drawer = TokenDrawer(sampling)
    drawn = [drawer.draw(scores) for _ in range(num_draws)]
    return np.bincount(drawn, minlength=len(scores)) / num_draws


def _ask_llama(scores: Logits, sampling: SamplingSettings) -> np.ndarray:
    """The probabilities that llama.cpp's own chain gives each token before it draws."""
    lib = library()
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    if sampling.top_k:
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_top_k(sampling.top_k))
    if sampling.top_p < 1.0:
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_top_p(sampling.top_p, 1))
    if sampling.min_p > 0.0:
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_min_p(sampling.min_p, 1))
    lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_temp(sampling.temperature))
    data = np.zeros(len(scores), dtype=Candidates)
    data["id"], data["logit"] = np.arange(len(scores)), scores
    array = candidate_array(data)
    lib.llama_sampler_apply(chain, ctypes.byref(array))
    kept = [(array.data[i].id, array.data[i].logit) for i in range(array.size)]
    lib.llama_sampler_free(chain)
    logits = np.full(len(scores), -np.inf)
    for token, logit in kept:
        logits[token] = logit
    weights = np.exp(logits - logits.max())
    shares: np.ndarray = weights / weights.sum()
    return shares


@given(
    num_scores=st.sampled_from([3, 40, 257, 3000]),
    seed=st.integers(0, 1000),
    top_k=st.sampled_from([0, 1, 7, 300]),
    top_p=st.sampled_from([0.0, 0.3, 0.95, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.9]),
    temperature=st.sampled_from([0.2, 0.8, 1.5]),
)
@settings(max_examples=60, deadline=None)
def test_what_is_drawn_is_what_llama_cpp_keeps(
    num_scores: int, seed: int, top_k: int, top_p: float, min_p: float, temperature: float
) -> None:
    scores = _random_logits(num_scores, seed)
    sampling = SamplingSettings(
        temperature=temperature, seed=seed, top_k=top_k, top_p=top_p, min_p=min_p
    )
    expected = _ask_llama(scores, sampling)
    found = _draw_often(scores, sampling, 400)
    # At the edge of top-p the two round differently: one token more or less, and a rare one.
    assert found[expected == 0].sum() <= 0.02
    likely = expected > 0.05
    # Five standard deviations of a share among 400.
    assert np.abs(found - expected)[likely].max(initial=0.0) < 0.125


def test_shares_are_those_of_the_softmax() -> None:
    scores = np.log(np.array([0.5, 0.25, 0.125, 0.125], dtype=np.float32))
    found = _draw_often(scores, SamplingSettings(temperature=1.0, seed=3), 20_000)
    assert np.abs(found - [0.5, 0.25, 0.125, 0.125]).max() < 0.015


@pytest.mark.parametrize("temperature", [5e-324, 1e-30, 1e-6])
def test_a_temperature_near_zero_draws_the_best(temperature: float) -> None:
    scores = _random_logits(500, 1)
    found = _draw_often(scores, SamplingSettings(temperature=temperature, seed=3), 50)
    assert found[int(scores.argmax())] == 1.0


@given(st.integers(0, 10_000), st.floats(0.1, 1e6), st.sampled_from([0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_what_is_masked_is_never_drawn(seed: int, temperature: float, top_p: float) -> None:
    scores = _random_logits(60, seed)
    masked = np.random.default_rng(seed).random(60) < 0.9
    masked[seed % 60] = False
    scores[masked] = -np.inf
    sampling = SamplingSettings(temperature=temperature, seed=seed, top_p=top_p)
    assert not _draw_often(scores, sampling, 30)[masked].any()


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused(score: float) -> None:
    scores = np.full(5, score, dtype=np.float32)
    with pytest.raises(ModelError, match="no usable scores"):
        TokenDrawer(SamplingSettings(temperature=1.0)).draw(scores)
