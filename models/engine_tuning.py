"""Threads and chunk size measured with the model in use on the machine at hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from models.batch import Run
from models.context import Context, DecodeFailed
from models.engine_settings import EngineSettings
from models.errors import ModelError
from models.jobs import Job
from models.loaded_model import LoadedModel
from models.machine import Machine

CHUNK_SIZES = (64, 128, 256, 512, 1024)
_PREFILL_TOKENS = 128
_DECODE_TOKENS = 8
_MAX_ROUNDS = 9
# Fewer threads and smaller chunks are worth a little speed: others run too, streams wait less.
_THREAD_TOLERANCE, _CHUNK_TOLERANCE = 0.03, 0.05


@dataclass(frozen=True, slots=True)
class EngineTuning:
    """What suits a model on a machine; `speeds` in tokens a second, by threads or chunk size."""

    num_threads: int
    num_batch_threads: int
    chunk_tokens: int
    speeds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def choose_threads(speeds: Mapping[int, float]) -> int:
    """The fewest threads that are almost as fast as the best number of them."""
    return _choose_least(speeds, _THREAD_TOLERANCE)


def choose_chunk(speeds: Mapping[int, float]) -> int:
    """The smallest chunk with which prompts are computed almost as fast as with the best."""
    return _choose_least(speeds, _CHUNK_TOLERANCE)


def _choose_least(speeds: Mapping[int, float], tolerance: float) -> int:
    best = max(speeds.values())
    return min(number for number, speed in speeds.items() if speed >= (1 - tolerance) * best)


def list_thread_counts(machine: Machine) -> list[int]:
    """Numbers of threads worth measuring, ascending."""
    cores = machine.num_cores
    found = {1, cores // 2, 3 * cores // 4, cores, machine.num_threads}
    return sorted(number for number in found if number > 0)


def measure_tuning(settings: EngineSettings, machine: Machine, budget_s: float) -> EngineTuning:
    """Measure for about `budget_s` seconds behind the loading; `settings` name model and cells.

    Raises `ModelFileInvalid` or `ModelError`.
    """
    model = LoadedModel(settings)
    try:
        gauge = _Gauge(model, settings)
        try:
            return _measure(gauge, machine, budget_s / 3)
        finally:
            gauge.free()
    finally:
        model.free()


def _measure(gauge: _Gauge, machine: Machine, budget_s: float) -> EngineTuning:
    threads = list_thread_counts(machine)
    # The most threads first: on a slow machine what is not reached matters least.
    prefill = _measure_speeds(
        {n: partial(gauge.measure_prefill, _PREFILL_TOKENS, n) for n in threads[::-1]}, budget_s
    )
    num_batch_threads = choose_threads(prefill)
    decode = _measure_speeds({n: partial(gauge.measure_decode, n) for n in threads[::-1]}, budget_s)
    sizes = [size for size in CHUNK_SIZES if size <= gauge.max_chunk]
    chunks = _measure_speeds(
        {size: partial(gauge.measure_prefill, size, num_batch_threads) for size in sizes}, budget_s
    )
    return EngineTuning(
        num_threads=choose_threads(decode),
        num_batch_threads=num_batch_threads,
        chunk_tokens=choose_chunk(chunks),
        speeds={
            "prefill by threads": _to_rows(prefill),
            "decode by threads": _to_rows(decode),
            "prefill by chunk": _to_rows(chunks),
        },
    )


def _measure_speeds(ways: Mapping[int, Callable[[], float]], budget_s: float) -> dict[int, float]:
    """The best speed of each way, the ways taking turns until the time is over.

    The best, because other work on the machine only ever slows. A way that was not reached in the
    first turn is left out; the first is always there.
    """
    started_s = time.perf_counter()
    found: dict[int, float] = {}
    for _ in range(_MAX_ROUNDS):
        for number, measure in ways.items():
            is_late = time.perf_counter() - started_s >= budget_s
            if is_late and found:
                return found
            found[number] = max(found.get(number, 0.0), measure())
    return found


def _to_rows(speeds: Mapping[int, float]) -> dict[str, float]:
    return {str(number): round(speed, 2) for number, speed in sorted(speeds.items())}


class _Gauge:
    """Runs bare steps of one sequence and times them."""

    def __init__(self, model: LoadedModel, settings: EngineSettings) -> None:
        num_ctx, num_cells = settings.context_sizes(model.num_ctx_train)
        self.max_chunk = max(min(settings.chunk_tokens, num_ctx - 2 * _DECODE_TOKENS), 16)
        self._context = Context(model, settings, num_cells)
        self._ids = np.arange(self.max_chunk, dtype=np.int32) % model.vocabulary.num_vocab

    def measure_prefill(self, num_tokens: int, num_threads: int) -> float:
        """Tokens a second of a fresh prompt computed in one step."""
        num_tokens = min(num_tokens, self.max_chunk)
        self._context.use_threads(num_threads)
        self._context.drop(0)
        started_s = time.perf_counter()
        self._step(0, num_tokens)
        return num_tokens / (time.perf_counter() - started_s)

    def measure_decode(self, num_threads: int) -> float:
        """Tokens a second one by one, behind a short prompt."""
        self._context.use_threads(num_threads)
        self._context.drop(0)
        start = min(64, self.max_chunk)
        # The first step with another number of threads starts them.
        self._step(0, start)
        self._step(start, 1)
        started_s = time.perf_counter()
        for position in range(start + 1, start + 1 + _DECODE_TOKENS):
            self._step(position, 1)
        return _DECODE_TOKENS / (time.perf_counter() - started_s)

    def free(self) -> None:
        self._context.free()

    def _step(self, position: int, num_tokens: int) -> None:
        # Nobody takes in these logits.
        job = cast("Job", None)
        try:
            self._context.decode([Run(job, 0, position, self._ids[:num_tokens], 1)])
        except DecodeFailed as error:
            raise ModelError(
                f"The model cannot be measured: llama_decode returned {error.status}."
            ) from None


def make_measured_settings(path: Path, **settings: Any) -> EngineSettings:
    """Settings of an engine that has room for the largest chunk and nobody else."""
    sequences: dict[str, Any] = {
        "num_slots": 1, "num_spare_sequences": 1, "num_kept_sequences": 0, "max_waiting": 0,
    }  # fmt: skip
    return EngineSettings(
        path=path, chunk_tokens=CHUNK_SIZES[-1], num_cells=2048, **sequences, **settings
    )


def list_choices(tuning: EngineTuning) -> Sequence[tuple[str, int]]:
    """What was chosen, by name."""
    return (
        ("num_threads", tuning.num_threads),
        ("num_batch_threads", tuning.num_batch_threads),
        ("chunk_tokens", tuning.chunk_tokens),
    )
