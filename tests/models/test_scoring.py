"""Scores are sums of the model's own log-probabilities, however they are batched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.batch import Run
from models.context import Context
from models.engine import LlamaEngine, open_engine
from models.protocols import Message, Prompt, PromptDocument, SamplingSettings
from models.scoring import log_softmax, pick_logprobs

DOCUMENT = PromptDocument("Hours", "The office opens at nine in the morning. " * 6)
TEXTS = ["The office opens at nine.", "nine", "", "It could not find this.", "é 九点 <|end|>", "n"]


@pytest.fixture(scope="module", params=[True, False], ids=["flash", "plain"])
def engine(request: pytest.FixtureRequest, tiny_gguf: Path) -> Iterator[LlamaEngine]:
    """Three spare sequences and small chunks, so that groups and cuts are common."""
    engine = open_engine(
        tiny_gguf, num_threads=1, num_spare_sequences=3, chunk_tokens=16, num_cells=512,
        num_ctx=256, flash_attention=request.param,
    )  # fmt: skip
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def prompt(engine: LlamaEngine) -> Prompt:
    return engine.prepare([Message("user", "When?")], [DOCUMENT])


def _stepwise(engine: LlamaEngine, prompt: Prompt, text: str) -> list[float]:
    """Log-probabilities of the text's tokens, by single decodes in a context of its own."""
    context = Context(engine._model, engine._settings, 256)
    ids = engine._tokenizer.encode_content(text)
    logprobs = []
    tokens = [*prompt.tokens, *ids]
    for position, token in enumerate(tokens):
        run = Run(None, 0, position, np.array([token], dtype=np.int32), 1)  # type: ignore[arg-type]
        row = context.decode([run])[0].astype(np.float64)
        if len(prompt.tokens) - 1 <= position < len(tokens) - 1:
            peak = row.max()
            norm = peak + np.log(np.exp(row - peak).sum())
            logprobs.append(float(row[tokens[position + 1]] - norm))
    context.free()
    return logprobs


async def test_score_is_the_sum_of_stepwise_logprobs(engine: LlamaEngine, prompt: Prompt) -> None:
    scores = await engine.score(prompt, TEXTS)
    for text, score in zip(TEXTS, scores, strict=True):
        assert score.num_tokens == engine.num_tokens(text)
        logprobs = _stepwise(engine, prompt, text)
        assert score.logprob == pytest.approx(sum(logprobs), abs=2e-2)
        assert score.last_logprob == pytest.approx(([0.0, *logprobs])[-1], abs=2e-2)
    assert scores[2].logprob == scores[2].mean_logprob == 0.0


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(TEXTS), max_size=9))
def test_scores_do_not_depend_on_order_or_company(
    engine: LlamaEngine, prompt: Prompt, texts: list[str]
) -> None:
    alone = {text: asyncio.run(engine.score(prompt, [text]))[0] for text in set(texts)}
    together = asyncio.run(engine.score(prompt, texts))
    for text, score in zip(texts, together, strict=True):
        assert score.num_tokens == alone[text].num_tokens
        assert score.logprob == pytest.approx(alone[text].logprob, abs=2e-2)


async def test_scoring_beside_running_generations(engine: LlamaEngine, prompt: Prompt) -> None:
    alone = await engine.score(prompt, TEXTS)
    streams = [engine.generate(prompt, SamplingSettings(max_tokens=30)) for _ in range(2)]
    scores = await asyncio.gather(*(engine.score(prompt, TEXTS) for _ in range(3)))
    for stream in streams:
        assert "".join([delta.text async for delta in stream])
    for together in scores:
        assert [score.logprob for score in together] == pytest.approx(
            [score.logprob for score in alone], abs=2e-2
        )


async def test_cancelling_a_score_frees_its_place(engine: LlamaEngine, prompt: Prompt) -> None:
    tasks = [asyncio.create_task(engine.score(prompt, TEXTS * 4)) for _ in range(4)]
    await asyncio.sleep(0.005)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(await engine.score(prompt, TEXTS)) == len(TEXTS)
    for _ in range(500):
        if not engine.load.num_running:
            break
        await asyncio.sleep(0.01)
    assert engine._slots.num_promised_cells == 0


async def test_no_continuations_no_work(engine: LlamaEngine, prompt: Prompt) -> None:
    assert await engine.score(prompt, []) == []
    (score,) = await engine.score(prompt, [""])
    assert (score.logprob, score.num_tokens) == (0.0, 0)


def test_log_softmax_in_float32_is_that_of_float64() -> None:
    logits = np.random.default_rng(0).normal(0, 30, (4, 5000)).astype(np.float32)
    exact = logits.astype(np.float64)
    exact = exact - exact.max(1, keepdims=True)
    exact = exact - np.log(np.exp(exact).sum(1, keepdims=True))
    assert np.allclose(log_softmax(logits), exact, atol=1e-4)
    picked = pick_logprobs(logits, np.array([1, 2, 3, 4], dtype=np.int32))
    assert picked == pytest.approx(list(exact[range(4), [1, 2, 3, 4]]), abs=1e-3)
