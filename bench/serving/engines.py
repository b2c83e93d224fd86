"""Engines against themselves and against llama.cpp's bare batched decode, in one process.

Ways take turns on the same work, so that what else the machine does hits them alike.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench.serving.loads import make_pool, say
from models.batch import Run
from models.engine import LlamaEngine
from models.engine_settings import EngineSettings, count_threads
from models.llama import library
from models.protocols import GenerationUsage, Message, Prompt, SamplingSettings

_NUM_DOCUMENTS = 4
_QUOTE_TOKENS = 192
_EQUAL_PROMPT_TOKENS, _EQUAL_TOKENS = 64, 96
_ADMITTED_TOKENS = 4000
T = TypeVar("T")
# Large enough to leave a model no say: it goes on as the prompt does.
_COPIES = 1000.0


@contextmanager
def opened(path: Path, num_threads: int, **settings: Any) -> Iterator[LlamaEngine]:
    """An engine for the block."""
    engine = LlamaEngine(EngineSettings(path=path, num_threads=num_threads, **settings))
    try:
        yield engine
    finally:
        engine.close()


def measure_drafts(path: Path, num_threads: int, num_repeats: int) -> dict[str, list[float]]:
    """Tokens a second of a long verbatim quote, greedy, alone: `with` and `without` drafts.

    Random weights quote nothing, so a bias makes this model copy; every draft is right then, and
    the ratio is the most that drafts can bring for a model of this shape.
    """
    rates: dict[str, list[float]] = {"with": [], "without": []}
    with (
        opened(path, num_threads, num_slots=1, drafts=True) as drafting,
        opened(path, num_threads, num_slots=1, drafts=False) as plain,
    ):
        for repeat in range(num_repeats):
            pool = make_pool(random.Random(f"drafts {repeat}"), _NUM_DOCUMENTS)
            sampling = SamplingSettings(
                max_tokens=_QUOTE_TOKENS,
                copy_bias=_COPIES,
                outline=(" ".join(pool[0].text.split()[:4]),),
                logit_bias=_no_end(drafting),
            )
            for name, engine in in_turn({"with": drafting, "without": plain}, repeat):
                engine.forget_prefixes()
                prompt = engine.prepare([Message("user", "Quote the first passage.")], pool)
                usage = _run(engine, prompt, sampling)
                rates[name].append(1000 * usage.num_completion_tokens / usage.decode_ms)
    return rates


def measure_stall(path: Path, num_threads: int, num_repeats: int) -> dict[str, list[float]]:
    """Longest wait of a running stream while a long prompt is admitted, in chunks.

    `chunk_s` is the median time of the steps that held a whole chunk, of the same admission.
    """
    found: dict[str, list[float]] = {"stall_chunks": [], "stall_s": [], "chunk_s": []}
    settings = {"num_slots": 2, "num_ctx": 6144, "num_cells": 12288}
    with opened(path, num_threads, **settings) as engine, _timing_steps(engine) as steps:
        readable = {**_no_end(engine), **_no_bytes(engine)}
        for repeat in range(num_repeats):
            engine.forget_prefixes()
            stop = threading.Event()
            arrivals: list[float] = []
            running = engine.generate(
                engine.prepare([Message("user", f"Tell {repeat}.")]),
                SamplingSettings(max_tokens=4096, temperature=1.0, seed=1, logit_bias=readable),
            )
            reader = threading.Thread(target=_note_arrivals, args=(running, arrivals, stop))
            reader.start()
            while len(arrivals) < 8:
                time.sleep(0.002)
            steps.clear()
            started_s = time.perf_counter()
            prompt = _make_prompt(engine, f"stall {repeat}", _ADMITTED_TOKENS)
            _run(engine, prompt, SamplingSettings(max_tokens=1, logit_bias=readable))
            ended_s = time.perf_counter()
            chunks = [s for num, s in steps if num >= engine._settings.chunk_tokens]
            running.cancel()
            stop.set()
            reader.join()
            inside = [t for t in arrivals if started_s <= t <= ended_s]
            stall_s = max(np.diff([started_s, *inside]).tolist())
            chunk_s = statistics.median(chunks)
            found["stall_s"].append(stall_s)
            found["chunk_s"].append(chunk_s)
            found["stall_chunks"].append(stall_s / chunk_s)
    return found


def measure_equal(
    path: Path, num_threads: int, num_repeats: int, num_at_once: int
) -> dict[str, list[float]]:
    """Tokens a second of so many equal requests: the `engine`'s, and of a `bare` decode loop.

    The bare loop, as llama.cpp's batched-bench, draws nothing and takes tokens at random.
    """
    rates: dict[str, list[float]] = {"engine": [], "bare": []}
    num_ctx = 2 * (_EQUAL_PROMPT_TOKENS + _EQUAL_TOKENS)
    settings = {"num_slots": num_at_once, "num_ctx": num_ctx, "num_cells": num_ctx * num_at_once}
    with opened(path, num_threads, drafts=False, **settings) as engine:
        sampling = SamplingSettings(max_tokens=_EQUAL_TOKENS, logit_bias=_no_end(engine))
        ways: dict[str, Callable[[int], float]] = {
            "engine": lambda repeat: _rate_engine(engine, num_at_once, sampling, repeat),
            "bare": lambda repeat: _rate_bare(engine, num_threads, num_at_once, repeat),
        }
        for repeat in range(num_repeats):
            for name, measure in in_turn(ways, repeat):
                rates[name].append(measure(repeat))
    return rates


def _rate_engine(
    engine: LlamaEngine, num_at_once: int, sampling: SamplingSettings, repeat: int
) -> float:
    engine.forget_prefixes()
    prompts = [
        _make_prompt(engine, f"equal {repeat} {i}", _EQUAL_PROMPT_TOKENS)
        for i in range(num_at_once)
    ]
    generations = [engine.generate(prompt, sampling) for prompt in prompts]
    usages = [list(generation)[-1].usage for generation in generations]
    longest_ms = max(usage.decode_ms for usage in usages if usage is not None)
    # The first token comes with the prompt.
    return 1000 * num_at_once * (_EQUAL_TOKENS - 1) / longest_ms


def _rate_bare(engine: LlamaEngine, num_threads: int, num_at_once: int, repeat: int) -> float:
    """The same model's weights in a context of its own, filled and decoded by a plain loop."""
    lib = library()
    rng = np.random.default_rng(repeat)
    num_cells = engine._context.num_cells
    params = lib.llama_context_default_params()
    params.n_ctx, params.n_seq_max, params.kv_unified = num_cells, num_at_once, True
    params.n_threads = params.n_threads_batch = count_threads(num_threads)
    pointer = lib.llama_init_from_model(engine._model.pointer, params)
    batch = lib.llama_batch_init(_EQUAL_PROMPT_TOKENS, 0, 1)
    try:
        for sequence in range(num_at_once):
            ids = rng.integers(10, engine.info.num_vocab, _EQUAL_PROMPT_TOKENS).tolist()
            places = [(token, at, sequence) for at, token in enumerate(ids)]
            _decode(lib, pointer, batch, places, num_outputs=1)
        started_s = time.perf_counter()
        for step in range(_EQUAL_TOKENS - 1):
            ids = rng.integers(10, engine.info.num_vocab, num_at_once).tolist()
            places = [(t, _EQUAL_PROMPT_TOKENS + step, seq) for seq, t in enumerate(ids)]
            _decode(lib, pointer, batch, places, num_outputs=num_at_once)
        return num_at_once * (_EQUAL_TOKENS - 1) / (time.perf_counter() - started_s)
    finally:
        lib.llama_batch_free(batch)
        lib.llama_free(pointer)


def _decode(
    lib: Any, pointer: Any, batch: Any, places: Sequence[tuple[int, int, int]], *, num_outputs: int
) -> None:
    for i, (token, position, sequence) in enumerate(places):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
        batch.seq_id[i][0] = sequence
        batch.logits[i] = i >= len(places) - num_outputs
    batch.n_tokens = len(places)
    status = lib.llama_decode(pointer, batch)
    if status:
        raise RuntimeError(f"llama_decode returned {status}")
    lib.llama_synchronize(pointer)


def _run(engine: LlamaEngine, prompt: Prompt, sampling: SamplingSettings) -> GenerationUsage:
    usage = list(engine.generate(prompt, sampling))[-1].usage
    if usage is None:
        raise RuntimeError("a generation ended without its usage")
    return usage


def _make_prompt(engine: LlamaEngine, seed: str, num_tokens: int) -> Prompt:
    """A prompt of exactly so many tokens, its beginning its own."""
    ids = engine.prepare([Message("user", say(random.Random(seed), num_tokens))]).tokens
    return Prompt(ids[:num_tokens])


def _note_arrivals(running: Any, arrivals: list[float], stop: threading.Event) -> None:
    for delta in running:
        if delta.text:
            arrivals.append(time.perf_counter())
        if stop.is_set():
            break


@contextmanager
def _timing_steps(engine: LlamaEngine) -> Iterator[list[tuple[int, float]]]:
    """Collects number of tokens and seconds of every step of the decode thread."""
    decode, steps = engine._context.decode, []

    def timed(runs: Sequence[Run]) -> Any:
        started_s = time.perf_counter()
        logits = decode(runs)
        steps.append((sum(len(run.tokens) for run in runs), time.perf_counter() - started_s))
        return logits

    engine._context.decode = timed  # type: ignore[method-assign]
    yield steps
    engine._context.decode = decode  # type: ignore[method-assign]


def _no_end(engine: LlamaEngine) -> dict[int, float]:
    return {int(token): -1000.0 for token in engine._model.vocabulary.eog_ids}


def _no_bytes(engine: LlamaEngine) -> dict[int, float]:
    """Half a character is shown with its other half only, which would look like a stall."""
    ids: Mapping[int, int] = engine._model.vocabulary.byte_ids or {}
    return {token: -1000.0 for byte, token in ids.items() if byte >= 0x80}


def in_turn(ways: Mapping[str, T], repeat: int) -> list[tuple[str, T]]:
    """The ways, another one first in every repeat."""
    items = list(ways.items())
    start = repeat % len(items)
    return items[start:] + items[:start]
