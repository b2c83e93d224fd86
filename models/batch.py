"""The batch given to llama.cpp in one step, in buffers that are allocated once."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.errors import ModelError
from models.llama import library
from models.vocabulary import TokenIds

if TYPE_CHECKING:
    from models.jobs import Job


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive tokens of one sequence in one step.

    The last `num_outputs` of them ask for logits, which go to `job`. `is_apart`: the sequence is
    one of the workbench's context, where nothing asks for logits.
    """

    job: Job
    sequence: int
    position: int
    tokens: TokenIds
    num_outputs: int
    is_apart: bool = False


class Batch:
    """A `llama_batch` of at most `capacity` tokens."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._tokens = np.zeros(capacity, dtype=np.int32)
        self._positions = np.zeros(capacity, dtype=np.int32)
        self._num_sequences = np.ones(capacity, dtype=np.int32)
        self._sequences = np.zeros(capacity, dtype=np.int32)
        self._outputs = np.zeros(capacity, dtype=np.int8)
        # seq_id is an array of pointers: each points at its own element of `_sequences`.
        self._pointers = self._sequences.ctypes.data + 4 * np.arange(capacity, dtype=np.uintp)
        lib = library()
        self._struct = lib.llama_batch()
        fields = dict(lib.llama_batch._fields_)
        for name, buffer in (
            ("token", self._tokens),
            ("pos", self._positions),
            ("n_seq_id", self._num_sequences),
            ("seq_id", self._pointers),
            ("logits", self._outputs),
        ):
            address = ctypes.c_void_p(buffer.ctypes.data)
            setattr(self._struct, name, ctypes.cast(address, fields[name]))

    def fill(self, runs: Sequence[Run]) -> Any:
        """Return the struct for `runs`, valid until the next call."""
        end = 0
        for run in runs:
            start, end = end, end + len(run.tokens)
            self._tokens[start:end] = run.tokens
            self._positions[start:end] = np.arange(run.position, run.position + len(run.tokens))
            self._sequences[start:end] = run.sequence
            self._outputs[start:end] = 0
            self._outputs[end - run.num_outputs : end] = 1
        self._struct.n_tokens = end
        return self._struct


def split_runs(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """The runs of a step by their context, those that answers wait for first; no empty part."""
    for is_apart in (False, True):
        part = [run for run in runs if run.is_apart == is_apart]
        if part:
            yield part


def absorb_runs(
    runs: Sequence[Run], logits: npt.NDArray[np.float32]
) -> Iterator[tuple[Job, ModelError | None]]:
    """Hand each run its rows of the step's logits; yield the jobs that ended, and by what error."""
    row = 0
    ended: set[int] = set()
    for run in runs:
        rows = logits[row : row + run.num_outputs]
        row += run.num_outputs
        if id(run.job) in ended:
            continue
        try:
            is_done = run.job.absorb(run, rows)
        except ModelError as error:
            ended.add(id(run.job))
            yield run.job, error
            continue
        if is_done:
            ended.add(id(run.job))
            yield run.job, None
