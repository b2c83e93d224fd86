"""Sampling one token: exact masks, exact penalties, and settings that are refused."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.drawing import Logits
from models.engine_settings import EngineSettings
from models.errors import GrammarInvalid, ModelError, SamplingInvalid
from models.loaded_model import LoadedModel
from models.protocols import SamplingSettings
from models.sampling import Sampler
from models.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def vocabulary(tiny_gguf: Path) -> Iterator[Vocabulary]:
    model = LoadedModel(EngineSettings(path=tiny_gguf))
    yield model.vocabulary
    model.free()


def _draws(sampler: Sampler, logits: Logits, num_draws: int) -> list[int]:
    tokens = [sampler.sample(logits) for _ in range(num_draws)]
    return [token for token in tokens if token is not None]


def _random_logits(vocabulary: Vocabulary, seed: int) -> Logits:
    return np.random.default_rng(seed).normal(0, 3, vocabulary.num_vocab).astype(np.float32)


def _say(vocabulary: Vocabulary, sampling: SamplingSettings, seed: int) -> str:
    """Sample from random logits until the grammar ends the text."""
    sampler = Sampler(sampling, vocabulary)
    said = b""
    for step in range(400):
        token = sampler.sample(_random_logits(vocabulary, seed * 1000 + step))
        assert token is not None
        if vocabulary.is_eog(token):
            sampler.free()
            return said.decode()
        said += vocabulary.piece(token)
    raise AssertionError("the grammar never ended")


def test_greedy_takes_the_best(vocabulary: Vocabulary) -> None:
    logits = _random_logits(vocabulary, 1)
    assert Sampler(SamplingSettings(), vocabulary).sample(logits) == int(logits.argmax())


def test_equal_seeds_draw_equally_and_any_integer_is_a_seed(vocabulary: Vocabulary) -> None:
    logits = _random_logits(vocabulary, 1)
    for seed in (0, -1, 7, 2**32 - 1, 2**63):
        sampling = SamplingSettings(temperature=1.0, seed=seed)
        a, b = (_draws(Sampler(sampling, vocabulary), logits, 20) for _ in range(2))
        assert a == b
    unseeded = SamplingSettings(temperature=1.0)
    assert len({tuple(_draws(Sampler(unseeded, vocabulary), logits, 20)) for _ in range(3)}) > 1


def test_top_k_top_p_and_min_p_cut(vocabulary: Vocabulary) -> None:
    logits = np.full(vocabulary.num_vocab, -20.0, dtype=np.float32)
    logits[[50, 60, 70]] = np.log([0.6, 0.3, 0.1])
    base = SamplingSettings(temperature=1.0, seed=1)
    for cut in ({"top_k": 2}, {"top_p": 0.8}, {"min_p": 0.3}):
        sampler = Sampler(dataclasses.replace(base, **cut), vocabulary)
        assert set(_draws(sampler, logits, 200)) == {50, 60}


def test_logit_bias_forbids_and_forces(vocabulary: Vocabulary) -> None:
    logits = _random_logits(vocabulary, 1)
    best = int(logits.argmax())
    assert Sampler(SamplingSettings(logit_bias={best: -100}), vocabulary).sample(logits) != best
    assert Sampler(SamplingSettings(logit_bias={9: 100}), vocabulary).sample(logits) == 9
    assert logits.argmax() == best


def test_penalties_count_what_was_said(vocabulary: Vocabulary) -> None:
    logits = np.zeros(vocabulary.num_vocab, dtype=np.float32)
    logits[[50, 60]] = 3.0, 2.5

    def said(**penalty: float) -> list[int]:
        sampling = dataclasses.replace(SamplingSettings(), **penalty)  # type: ignore[arg-type]
        return _draws(Sampler(sampling, vocabulary), logits, 4)

    assert said() == [50, 50, 50, 50]
    assert said(presence_penalty=1.0) == [50, 60, 50, 50]
    assert said(frequency_penalty=0.4) == [50, 50, 60, 50]
    assert said(repeat_penalty=1.3) == [50, 60, 50, 50]
    logits -= 10
    # Negative scores are multiplied: dividing would reward what was said.
    assert said(repeat_penalty=1.3) == [50, 60, 50, 50]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_p", 1.1),
        ("top_k", -1),
        ("min_p", 2.0),
        ("repeat_penalty", 0.0),
        ("frequency_penalty", float("inf")),
        ("max_tokens", -1),
        ("logit_bias", {10**6: 1.0}),
        ("logit_bias", {-1: 1.0}),
        ("logit_bias", {1: float("nan")}),
    ],
)
def test_settings_out_of_range_are_named(vocabulary: Vocabulary, name: str, value: object) -> None:
    changes: dict[str, object] = {name: value}
    with pytest.raises(SamplingInvalid, match=name) as caught:
        Sampler(dataclasses.replace(SamplingSettings(), **changes), vocabulary)  # type: ignore[arg-type]
    assert caught.value.param == name


def test_scores_that_are_no_numbers_fail_the_request(vocabulary: Vocabulary) -> None:
    logits = np.full(vocabulary.num_vocab, np.nan, dtype=np.float32)
    for temperature in (0.0, 1.0):
        with pytest.raises(ModelError, match="no usable scores"):
            Sampler(SamplingSettings(temperature=temperature, seed=1), vocabulary).sample(logits)


LITERALS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12),
    min_size=1,
    max_size=4,
    unique=True,
)


def _literal(text: str) -> str:
    """A GBNF literal, every character escaped by its code point."""
    return '"' + "".join(f"\\U{ord(character):08X}" for character in text) + '"'


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(LITERALS, st.sampled_from([0.0, 1.0]), st.integers(0, 99))
def test_a_choice_of_literals_gives_one_of_them(
    vocabulary: Vocabulary, literals: list[str], temperature: float, seed: int
) -> None:
    grammar = "root ::= " + " | ".join(map(_literal, literals))
    sampling = SamplingSettings(temperature=temperature, seed=seed, grammar=grammar)
    assert _say(vocabulary, sampling, seed) in literals


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_control_texts_in_a_grammar_are_spelled(vocabulary: Vocabulary, temperature: float) -> None:
    literals = ["<|user|>", "<|end|>", "<|bos|> x"]
    grammar = "root ::= " + " | ".join(map(json.dumps, literals))
    sampling = SamplingSettings(temperature=temperature, seed=1, grammar=grammar)
    assert {_say(vocabulary, sampling, seed) for seed in range(8)} <= set(literals)


def test_repetitions_and_classes(vocabulary: Vocabulary) -> None:
    grammar = 'root ::= item{2,4} "." \nitem ::= [a-zé]+ [0-9]? " "'
    text = _say(vocabulary, SamplingSettings(grammar=grammar, temperature=1.0, seed=2), 3)
    assert re.fullmatch(r"([a-zé]+[0-9]? ){2,4}\.", text)


def test_greedy_under_a_grammar_is_the_best_allowed_token(vocabulary: Vocabulary) -> None:
    digits = [vocabulary.tokenize(str(digit), parse_special=False)[0] for digit in range(10)]
    for seed in range(20):
        logits = _random_logits(vocabulary, seed)
        sampler = Sampler(SamplingSettings(grammar="root ::= [0-9]+"), vocabulary)
        assert sampler.sample(logits) == max(digits, key=lambda token: float(logits[token]))


def test_a_constrained_draw_has_the_models_distribution(vocabulary: Vocabulary) -> None:
    a, b = (vocabulary.tokenize(text, parse_special=False)[0] for text in "ab")
    logits = np.zeros(vocabulary.num_vocab, dtype=np.float32)
    logits[a], logits[b] = 2.0, 1.0
    counts: Counter[int | None] = Counter()
    for seed in range(600):
        sampler = Sampler(
            # Without the mask first, top_k would leave nothing but tokens that are not allowed.
            SamplingSettings(temperature=1.0, seed=seed, grammar='root ::= "b" | "c"', top_k=2),
            vocabulary,
        )
        counts[sampler.sample(logits)] += 1
        sampler.free()
    assert a not in counts
    assert counts[b] / 600 == pytest.approx(np.e / (np.e + 1), abs=0.06)


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("   ", "empty"),
        ("root ::= (", "expecting"),
        ("root ::= other", "Undefined rule identifier 'other'"),
        ("start ::= [a]", "root"),
        ('root ::= root "a"', "left recursion"),
        ("root ::= [a]{9999999}", "repetitions"),
        ("root ::= \0", "NUL"),
        ("root ::= " + "(" * 100_000, "nested"),
        ('root ::= "' + "a" * (1 << 20) + '"', "bytes"),
        ("\ud800", "expecting name"),
    ],
)
def test_a_grammar_that_does_not_parse(
    vocabulary: Vocabulary, grammar: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(GrammarInvalid, match=reason) as caught:
        Sampler(SamplingSettings(grammar=grammar), vocabulary)
    assert "\n" not in caught.value.message
    assert caught.value.param == "grammar"
    assert capfd.readouterr().err == ""


def test_a_grammar_that_the_bias_makes_impossible_fails_the_request(
    vocabulary: Vocabulary,
) -> None:
    (a,) = vocabulary.tokenize("a", parse_special=False)
    sampling = SamplingSettings(grammar='root ::= "a"', logit_bias={a: -np.inf})
    for temperature in (0.0, 1.0):
        sampler = Sampler(
            dataclasses.replace(sampling, temperature=temperature, seed=1), vocabulary
        )
        with pytest.raises(ModelError, match="leaves no token"):
            sampler.sample(_random_logits(vocabulary, 1))
