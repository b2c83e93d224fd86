"""Company and shared cells change no answer: each request is computed as if it were alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from models.batch import Run
from models.engine import LlamaEngine, open_engine
from models.protocols import Message, Prompt, PromptDocument, SamplingSettings
from tests.gguf_factory import write_tiny_gguf
from tests.models.engines import assert_nothing_leaks, end_of, text_of, wait_until_idle, watch_runs

NUM_PROMPTS = 50
GREEDY = SamplingSettings(max_tokens=16)
TIE = 1e-3
# Of the logits: flash attention rounds by what else is in the cache. With shared cells one of fifty
# answers differed, at a gap of 0.073.
FLASH_NOISE = 0.2
WORDS = (
    "The office opens at nine and each parent receives sixteen weeks of paid leave while the "
    "warehouse keeps the keys of every van that returns before noon on Friday"
).split()
SYSTEM = Message("system", "Answer from the documents alone, and say so where they are silent.")


@dataclass
class Recorder:
    """The logits of every step by prompt and position, and each prompt's answer as tokens."""

    engine: LlamaEngine
    logits: dict[tuple[tuple[int, ...], int], npt.NDArray[np.float32]] = field(default_factory=dict)
    answers: dict[tuple[int, ...], list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._decode = self.engine._context.decode
        self.engine._context.decode = self._watch  # type: ignore[method-assign]

    def _watch(self, runs: Sequence[Run]) -> Any:
        rows = self._decode(runs)
        start = 0
        for run in runs:
            prompt = tuple(run.job.prompt.tolist())
            self.answers[prompt] = run.job._tokens  # type: ignore[attr-defined]
            first = run.position + len(run.tokens) - run.num_outputs
            for offset in range(run.num_outputs):
                self.logits[prompt, first + offset] = rows[start + offset].copy()
            start += run.num_outputs
        return rows

    def stop(self) -> None:
        self.engine._context.decode = self._decode  # type: ignore[method-assign]


def _random_text(rng: random.Random, num_words: int) -> str:
    return " ".join(rng.choices(WORDS, k=num_words))


def _prompts(engine: LlamaEngine, num_prompts: int) -> list[Prompt]:
    """Distinct prompts, of which many begin alike: one system text, few first documents."""
    rng = random.Random(3)
    documents = [PromptDocument(f"Page {n}", _random_text(rng, 40)) for n in range(4)]
    prompts: dict[tuple[int, ...], Prompt] = {}
    while len(prompts) < num_prompts:
        messages = [SYSTEM] * rng.randrange(2) + [
            Message("user", _random_text(rng, rng.randrange(3, 20)))
        ]
        prompt = engine.prepare(messages, documents[: rng.randrange(4)])
        prompts[prompt.tokens] = prompt
    return list(prompts.values())


def _record(engine: LlamaEngine, prompts: Sequence[Prompt], *, together: bool) -> Recorder:
    engine.forget_prefixes()
    wait_until_idle(engine)
    recorder = Recorder(engine)
    if together:
        for generation in [engine.generate(prompt, GREEDY) for prompt in prompts]:
            text_of(generation)
    else:
        for prompt in prompts:
            text_of(engine.generate(prompt, GREEDY))
            engine.forget_prefixes()
            wait_until_idle(engine)
    wait_until_idle(engine)
    recorder.stop()
    return recorder


def _ties(alone: Recorder, together: Recorder) -> list[float]:
    """For each answer that differs, how far apart the best two logits were where it first does."""
    gaps = []
    for prompt, wanted in alone.answers.items():
        got = together.answers[prompt]
        if got == wanted:
            continue
        pairs = zip(wanted, got, strict=False)
        place = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(wanted), len(got)))
        best = np.sort(alone.logits[prompt, len(prompt) + place - 1])[-2:]
        gaps.append(float(best[1] - best[0]))
    return gaps


def _cosine(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


@pytest.fixture(params=[None, 24], ids=["full", "windowed"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LlamaEngine]:
    """Behind a sliding window llama.cpp overwrites cells that one sequence alone holds."""
    path = write_tiny_gguf(tmp_path / "model.gguf", window_tokens=request.param)
    engine = open_engine(
        path, num_threads=1, num_cells=2048, num_ctx=1024, chunk_tokens=48,
        flash_attention=False, kv_type="f32",
    )  # fmt: skip
    yield engine
    engine.close()


def test_fifty_together_answer_as_each_alone(engine: LlamaEngine) -> None:
    prompts = _prompts(engine, NUM_PROMPTS)
    alone = _record(engine, prompts, together=False)
    together = _record(engine, prompts, together=True)
    assert together.answers == alone.answers
    assert engine._slots.counts.num_reused > sum(prompt.num_tokens for prompt in prompts) / 3
    assert_nothing_leaks(engine)


def _assert_sharing_is_exact(engine: LlamaEngine, least: float = 0.9999) -> None:
    prompts = _prompts(engine, 12)
    alone = _record(engine, prompts, together=False)
    engine._slots.counts.num_reused = 0
    for _ in range(2):
        # First from those that run, then from what they left, then both.
        shared = _record(engine, prompts, together=True)
        recorder = Recorder(engine)
        for prompt in prompts:
            text_of(engine.generate(prompt, GREEDY))
        recorder.stop()
        for place in [(prompt.tokens, prompt.num_tokens - 1) for prompt in prompts]:
            assert _cosine(shared.logits[place], alone.logits[place]) > least
            assert _cosine(recorder.logits[place], alone.logits[place]) > least
    assert engine._slots.counts.num_reused > 0


def test_shared_state_is_recomputed_state(engine: LlamaEngine) -> None:
    _assert_sharing_is_exact(engine)


def test_cached_tokens_are_those_that_were_not_computed(engine: LlamaEngine) -> None:
    """Whoever computed them: of all prompt tokens, each is cached or stands in a step."""
    prompts = _prompts(engine, 20)
    seen = watch_runs(engine)
    few = SamplingSettings(max_tokens=3)
    usages = {}
    generations = [engine.generate(prompt, few) for prompt in [*prompts, *prompts[:5]]]
    for prompt, generation in zip([*prompts, *prompts[:5]], generations, strict=True):
        _, usage = end_of(generation)
        usages[id(generation)] = (prompt, usage.num_cached_tokens)
    computed: dict[int, int] = {}
    for run in seen:
        in_prompt = min(run.position + len(run.tokens), len(run.job.prompt)) - run.position
        key = id(run.job.stream)  # type: ignore[attr-defined]
        computed[key] = computed.get(key, 0) + max(in_prompt, 0)
    for key, (prompt, num_cached) in usages.items():
        assert num_cached + computed[key] == prompt.num_tokens
    assert sum(num_cached for _, num_cached in usages.values()) > 0


@pytest.fixture(params=[False, True], ids=["plain", "flash"])
def bundled(request: pytest.FixtureRequest) -> Iterator[LlamaEngine]:
    """The model that comes with Mynah, without and with flash attention."""
    path = Path(str(files("models") / "weights" / "mynah-7m-q8_0.gguf"))
    engine = open_engine(path, num_threads=1, flash_attention=request.param)
    yield engine
    engine.close()


@pytest.mark.slow
def test_fifty_together_with_the_bundled_model(bundled: LlamaEngine) -> None:
    """The same answers but for ties.

    Flash attention rounds by what else is in a step, whether anything is shared or not: there the
    gaps that may fall the other way are those of its own noise.
    """
    prompts = _prompts(bundled, NUM_PROMPTS)
    alone = _record(bundled, prompts, together=False)
    together = _record(bundled, prompts, together=True)
    gaps = _ties(alone, together)
    print(f"{NUM_PROMPTS - len(gaps)} of {NUM_PROMPTS} answers are equal; ties: {gaps}")
    assert all(gap < (FLASH_NOISE if bundled._settings.flash_attention else TIE) for gap in gaps)
    assert len(gaps) < NUM_PROMPTS / 10
    assert_nothing_leaks(bundled)


@pytest.mark.slow
def test_shared_state_of_the_bundled_model(bundled: LlamaEngine) -> None:
    _assert_sharing_is_exact(bundled, 0.9995 if bundled._settings.flash_attention else 0.9999)
