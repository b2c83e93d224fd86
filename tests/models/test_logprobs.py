"""Log-probabilities: exact, one for every token that is shown, and of the model's own choosing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.detokenizer import TextStream
from models.engine import LlamaEngine, open_engine
from models.engine_settings import EngineSettings
from models.errors import SamplingInvalid
from models.loaded_model import LoadedModel
from models.logprobs import LogprobTrail, measure_token
from models.protocols import GenerationDelta, Prompt, SamplingSettings, TokenLogprob
from models.vocabulary import Vocabulary
from tests.models.engines import DOCUMENT, QUESTIONS, no_end, prompt_for, text_of

ASKED = SamplingSettings(max_tokens=24, num_top_logprobs=5)


@pytest.fixture(scope="module")
def vocabulary(tiny_gguf: Path) -> Iterator[Vocabulary]:
    model = LoadedModel(EngineSettings(path=tiny_gguf))
    yield model.vocabulary
    model.free()


@pytest.fixture(scope="module")
def engine(tiny_gguf: Path) -> Iterator[LlamaEngine]:
    """One under which a token has the same logits in any company."""
    engine = open_engine(tiny_gguf, num_threads=1, flash_attention=False, kv_type="f32")
    yield engine
    engine.close()


def run(engine: LlamaEngine, prompt: Prompt, asked: SamplingSettings) -> list[GenerationDelta]:
    return list(engine.generate(prompt, asked))


def tokens_of(deltas: list[GenerationDelta]) -> list[TokenLogprob]:
    return [logprob for delta in deltas for logprob in delta.logprobs]


def assert_same(a: TokenLogprob, b: TokenLogprob) -> None:
    """Up to how llama.cpp rounds a token that is computed alone or behind others."""
    assert a.token == b.token
    assert a.logprob == pytest.approx(b.logprob, abs=1e-3)
    assert [t.piece for t in a.top] == [t.piece for t in b.top]
    assert [t.logprob for t in a.top] == pytest.approx([t.logprob for t in b.top], abs=1e-3)


@given(st.integers(0, 2**32 - 1), st.integers(0, 20), st.sampled_from([0.1, 3.0, 80.0]))
@settings(max_examples=60, deadline=None)
def test_they_are_the_log_softmax(
    vocabulary: Vocabulary, seed: int, num_top: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, scale, vocabulary.num_vocab).astype(np.float32)
    exact = logits.astype(np.longdouble) - np.log(np.exp(logits.astype(np.longdouble)).sum())
    token = int(rng.integers(vocabulary.num_vocab))
    measured = measure_token(token, logits, num_top, vocabulary)
    assert measured.logprob == pytest.approx(float(exact[token]), abs=1e-9)
    assert len(measured.top) == num_top
    best = np.sort(exact)[::-1][:num_top].astype(float)
    assert [chance.logprob for chance in measured.top] == pytest.approx(best.tolist(), abs=1e-9)


def test_a_forbidden_token_has_a_number_too(vocabulary: Vocabulary) -> None:
    logits = np.zeros(vocabulary.num_vocab, np.float32)
    logits[7] = -np.inf
    assert np.isfinite(measure_token(7, logits, 20, vocabulary).logprob)


@pytest.mark.parametrize("question", QUESTIONS[:3])
def test_a_generation_tells_what_scoring_its_text_tells(engine: LlamaEngine, question: str) -> None:
    """Each step's likeliest is what greedy decoding took, and the values are reproduced by asking
    again with the answer so far in the prompt."""
    prompt = prompt_for(engine, question)
    said = tokens_of(run(engine, prompt, ASKED))
    assert said
    behind: tuple[int, ...] = prompt.tokens
    for token in said:
        assert token.top[0].logprob == token.logprob
        assert len(token.top) == 5
        (again,) = tokens_of(run(engine, Prompt(behind), replace(ASKED, max_tokens=1)))
        assert_same(again, token)
        behind = (*behind, token.token)


def test_they_are_those_before_bias_penalty_and_temperature(engine: LlamaEngine) -> None:
    prompt = prompt_for(engine, "When?")
    (plain,) = tokens_of(run(engine, prompt, replace(ASKED, max_tokens=1)))
    hot = replace(
        ASKED, max_tokens=1, temperature=1.7, seed=3, top_k=4, logit_bias={plain.token: -100.0}
    )
    (other,) = tokens_of(run(engine, prompt, hot))
    assert other.token != plain.token
    assert_same(replace(other, token=plain.token, logprob=plain.logprob), plain)
    assert other.logprob < plain.logprob


@pytest.mark.parametrize("bias", [0.0, 30.0])
def test_drafted_tokens_have_the_same(tiny_gguf: Path, engine: LlamaEngine, bias: float) -> None:
    plain = open_engine(
        tiny_gguf, num_threads=1, flash_attention=False, kv_type="f32", drafts=False
    )
    asked = replace(ASKED, max_tokens=40, copy_bias=bias, logit_bias=no_end(engine))
    prompt = prompt_for(engine, "When?", 2)
    drafted, undrafted = (tokens_of(run(e, prompt, asked)) for e in (engine, plain))
    assert [t.token for t in drafted] == [t.token for t in undrafted]
    for a, b in zip(drafted, undrafted, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
    plain.close()


def test_what_a_grammar_forces_is_measured_token_by_token(engine: LlamaEngine) -> None:
    asked = SamplingSettings(grammar='root ::= "Each parent has " [0-9] " weeks."', max_tokens=60)
    prompt = prompt_for(engine, "How many?")
    deltas = run(engine, prompt, replace(asked, num_top_logprobs=1))
    said = tokens_of(deltas)
    assert b"".join(t.piece for t in said).decode() == "".join(d.text for d in deltas)
    behind = prompt.tokens
    for token in said:
        (again,) = tokens_of(
            run(
                engine,
                Prompt(behind),
                SamplingSettings(
                    num_top_logprobs=1, max_tokens=1, logit_bias={token.token: 1000.0}
                ),
            )
        )
        assert_same(again, token)
        behind = (*behind, token.token)


@given(
    st.lists(st.sampled_from(["é", "ab", "a", "b", "𝄞", " ", ""]), max_size=12),
    st.lists(st.sampled_from(["ba", "aab", "é ", "𝄞a"]), max_size=2),
    st.integers(0, 2**16),
)
@settings(max_examples=300, deadline=None)
def test_none_is_lost_and_none_comes_before_its_text(
    parts: list[str], stops: list[str], seed: int
) -> None:
    data = "".join(parts).encode()
    rng = np.random.default_rng(seed)
    cuts = [0, *sorted(rng.integers(0, len(data) + 1, 6).tolist()), len(data)]
    pieces = [data[a:b] for a, b in pairwise(cuts)]
    stream, trail, text = TextStream(stops), LogprobTrail(), ""
    told: list[bytes] = []
    for i, piece in enumerate(pieces):
        text += stream.push(piece)
        trail.add(TokenLogprob(i, piece, -1.0), stream.num_decoded, is_partial=stream.is_partial)
        if stream.is_stopped:
            told += [token.piece for token in trail.take_begun(len(text))]
            break
        told += [token.piece for token in trail.take(len(text))]
        assert text.encode().startswith(b"".join(told))
    if not stream.is_stopped:
        text += stream.finish()
        told += [token.piece for token in trail.take_all()]
        assert told == pieces
    shown = text.encode()
    assert b"".join(told).startswith(shown)
    assert not told or len(b"".join(told[:-1])) <= len(shown)


def test_stops_cut_the_tokens_too(engine: LlamaEngine) -> None:
    prompt = prompt_for(engine, "Where?", 2)
    asked = replace(ASKED, max_tokens=60, logit_bias=no_end(engine))
    whole = text_of(engine.generate(prompt, asked))
    stop = whole[len(whole) // 2 :][:3]
    deltas = run(engine, prompt, replace(asked, stop=(stop,)))
    text = "".join(delta.text for delta in deltas)
    assert text == whole[: whole.index(stop)]
    told = b"".join(token.piece for token in tokens_of(deltas)).decode("utf-8", "replace")
    assert told.startswith(text)
    assert stop not in told


def test_min_tokens_holds_the_end_and_the_stops_off(engine: LlamaEngine) -> None:
    prompt = prompt_for(engine, "Why?")
    eog = {int(t): 1000.0 for t in engine._model.vocabulary.eog_ids}
    asked = SamplingSettings(max_tokens=40, logit_bias=eog, min_tokens=9)
    usage = run(engine, prompt, asked)[-1].usage
    assert usage is not None
    assert usage.num_completion_tokens == 9
    free = SamplingSettings(max_tokens=40, logit_bias=no_end(engine))
    whole = text_of(engine.generate(prompt, free))
    stopping = replace(free, stop=(whole[1],), min_tokens=12)
    last = run(engine, prompt, stopping)[-1].usage
    assert last is not None
    assert last.num_completion_tokens >= 12


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"num_top_logprobs": 21}, "top_logprobs"),
        ({"num_top_logprobs": -1}, "top_logprobs"),
        ({"num_top_logprobs": 0, "outline": ("a",)}, "logprobs"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
        ({"min_tokens": 1, "grammar": 'root ::= "a"'}, "min_tokens"),
    ],
)
def test_what_cannot_be_followed_is_named(
    engine: LlamaEngine, changes: dict[str, object], param: str
) -> None:
    with pytest.raises(SamplingInvalid) as caught:
        engine.generate(
            prompt_for(engine, DOCUMENT.title),
            replace(SamplingSettings(), **changes),  # type: ignore[arg-type]
        )
    assert caught.value.param == param
