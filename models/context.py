"""The context of a loaded model: what the decode thread computes with."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.batch import Batch, Run
from models.engine_settings import NUM_PASSAGE_SEQUENCES, EngineSettings, count_threads
from models.errors import ModelError
from models.gguf import GgufHeader
from models.kvfolder import State
from models.llama import keep_errors, library
from models.loaded_model import LoadedModel

# Room for the logits of one step; a vocabulary of 128k takes half a megabyte a row.
_MAX_LOGITS_BYTES = 64 << 20
# LLAMA_MAX_SEQ.
_MAX_SEQUENCES = 256
# llama.cpp's own record of a cell: position, shift and the set of its sequences.
_CELL_BYTES = 64


class Context:
    """A `llama_context` with one KV cache for all sequences; used by one thread.

    `can_share`: whether sequences may share cells; recurrent memory has none. Behind a sliding
    window llama.cpp overwrites cells that one sequence alone holds, because that one sees them no
    more; a shorter one that took them over later would. There each sequence has a shadow that holds
    the same cells.
    """

    def __init__(self, model: LoadedModel, settings: EngineSettings, num_cells: int) -> None:
        """Raises `ModelError` if the memory for it cannot be had."""
        self._lib = library()
        self.num_vocab = model.vocabulary.num_vocab
        self.max_step_tokens = settings.chunk_tokens + settings.num_slots
        num_sequences = settings.num_sequences
        has_window = 0 < model.window_tokens < num_cells
        self.can_share = not model.has_recurrence and (
            not has_window or 2 * num_sequences <= _MAX_SEQUENCES
        )
        # Whether saved cells can be put back in part; behind a window some are not there.
        self.can_compact = self.can_share and not has_window
        # What is added to a sequence for its shadow.
        self._shadow = num_sequences if has_window and self.can_share else 0
        affordable = _MAX_LOGITS_BYTES // (4 * self.num_vocab)
        self.max_step_outputs = min(self.max_step_tokens, max(affordable, num_sequences))
        self._pointer = self._open(model, settings, num_cells)
        self.num_cells: int = self._lib.llama_n_ctx(self._pointer)
        self._memory = self._lib.llama_get_memory(self._pointer)
        self._batch = Batch(self.max_step_tokens)

    def _open(self, model: LoadedModel, settings: EngineSettings, num_cells: int) -> Any:
        lib = self._lib
        _check_kv_type(model.header, settings)
        if not settings.num_gpu_layers:
            _check_memory(model.header, settings, num_cells)
        params = lib.llama_context_default_params()
        params.n_ctx = num_cells
        params.n_seq_max = self.num_sequences = settings.num_sequences + max(
            self._shadow, NUM_PASSAGE_SEQUENCES
        )
        # llama.cpp plans for a step with a token, and an output, of every sequence.
        params.n_batch = params.n_ubatch = max(self.max_step_tokens, params.n_seq_max)
        params.n_outputs_max = max(self.max_step_outputs, params.n_seq_max)
        params.kv_unified = True
        params.n_threads = count_threads(settings.num_threads)
        params.n_threads_batch = settings.num_batch_threads or params.n_threads
        kind = {
            "f16": lib.GGML_TYPE_F16,
            "f32": lib.GGML_TYPE_F32,
            "q8_0": lib.GGML_TYPE_Q8_0,
        }[settings.kv_type]
        params.type_k = params.type_v = kind
        self.has_flash_attention = settings.flash_attention is not False
        # Quantized values need flash attention; otherwise llama.cpp sees whether it can be had.
        params.flash_attn_type = (
            lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if settings.kv_type == "q8_0"
            else lib.LLAMA_FLASH_ATTN_TYPE_AUTO
            if self.has_flash_attention
            else lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        with keep_errors() as errors:
            pointer = lib.llama_init_from_model(model.pointer, params)
        if not pointer:
            raise _no_context(num_cells, " ".join((errors[0] if errors else "no memory").split()))
        return pointer

    def decode(self, runs: Sequence[Run]) -> npt.NDArray[np.float32]:
        """Compute one step; return its logits, shape `(outputs, num_vocab)`, in order of `runs`.

        The array is llama.cpp's own memory, valid until the next call. Raises `DecodeFailed`.
        """
        num_outputs = sum(run.num_outputs for run in runs)
        status: int = self._lib.llama_decode(self._pointer, self._batch.fill(runs))
        if status != 0:
            raise DecodeFailed(status)
        if self._shadow:
            for run in runs:
                end = run.position + len(run.tokens)
                self._copy(run.sequence, run.sequence + self._shadow, run.position, end)
        if not num_outputs:
            # A step may run on by itself on a GPU; its time belongs to this step.
            self._lib.llama_synchronize(self._pointer)
            return np.empty((0, self.num_vocab), dtype=np.float32)
        logits = self._lib.llama_get_logits(self._pointer)
        return np.ctypeslib.as_array(logits, shape=(num_outputs, self.num_vocab))

    def copy_prefix(self, source: int, target: int, num_tokens: int) -> None:
        """Let `target` share the first cells of `source`."""
        self.copy_range(source, target, 0, num_tokens)

    def copy_range(self, source: int, target: int, start: int, end: int) -> None:
        """Let `target` share the cells of `source` at positions `[start, end)`."""
        for sequence in self._with_shadow(target):
            self._copy(source, sequence, start, end)

    def use_threads(self, num_threads: int) -> None:
        """Compute the next steps with so many threads."""
        self._lib.llama_set_n_threads(self._pointer, num_threads, num_threads)

    def drop(self, sequence: int) -> None:
        """Release the cells that only `sequence` holds."""
        self.drop_range(sequence, -1, -1)

    def truncate(self, sequence: int, num_tokens: int) -> None:
        """Release the cells of `sequence` from position `num_tokens` on."""
        self.drop_range(sequence, num_tokens, -1)

    def drop_range(self, sequence: int, start: int, end: int) -> None:
        """Release the cells of `sequence` at positions `[start, end)`; -1 for no bound."""
        for held in self._with_shadow(sequence):
            self._lib.llama_memory_seq_rm(self._memory, held, start, end)

    def _copy(self, source: int, target: int, start: int, end: int) -> None:
        self._lib.llama_memory_seq_cp(self._memory, source, target, start, end)

    def _with_shadow(self, sequence: int) -> tuple[int, ...]:
        return (sequence, sequence + self._shadow) if self._shadow else (sequence,)

    @property
    def can_shift(self) -> bool:
        """Whether positions can be changed afterwards."""
        return bool(self._lib.llama_memory_can_shift(self._memory))

    def save(self, sequence: int) -> State:
        """The keys and values of a sequence, as bytes that `restore` takes."""
        size: int = self._lib.llama_state_seq_get_size(self._pointer, sequence)
        state = np.empty(size, dtype=np.uint8)
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        self._lib.llama_state_seq_get_data(self._pointer, pointer, size, sequence)
        return state

    def restore(self, sequence: int, state: State) -> bool:
        """Give a sequence new cells with what `save` returned; False if they cannot be had."""
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        num_read: int = self._lib.llama_state_seq_set_data(
            self._pointer, pointer, state.nbytes, sequence
        )
        if not num_read:
            self.drop(sequence)
        return num_read > 0

    def move(self, sequence: int, distance: int) -> None:
        """Change the positions of a sequence that shares no cell; keys turn at the next step."""
        self._lib.llama_memory_seq_add(self._memory, sequence, -1, -1, distance)

    def add(self, source: int, target: int) -> None:
        """Let `target` share all cells of `source` beside its own."""
        self._lib.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def drop_beginning(self, sequence: int, num_tokens: int) -> None:
        """Release the cells of `sequence` before position `num_tokens`."""
        self._lib.llama_memory_seq_rm(self._memory, sequence, 0, num_tokens)

    def num_positions(self, sequence: int) -> int:
        """How many tokens of `sequence` the KV cache holds, as llama.cpp counts them."""
        return int(self._lib.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    def free(self) -> None:
        """Give the memory back. Idempotent."""
        if self._pointer is not None:
            self._lib.llama_free(self._pointer)
            self._pointer = None


def count_cell_bytes(header: GgufHeader, settings: EngineSettings) -> float:
    """Memory of one cell of the KV cache, in bytes; at least so much, if in doubt."""
    return header.num_kv_values * settings.value_bytes + _CELL_BYTES


def _check_kv_type(header: GgufHeader, settings: EngineSettings) -> None:
    """Refuse what llama.cpp cannot keep: its quantized numbers come in blocks of 32."""
    if settings.kv_type == "q8_0" and header.width_key % 32:
        raise ModelError(
            f"kv_type q8_0 does not go with this model: its heads are {header.width_key} wide, no"
            " multiple of 32; use f16.",
            param="kv_type",
        )


def _check_memory(header: GgufHeader, settings: EngineSettings, num_cells: int) -> None:
    """Refuse what the machine cannot hold: the system would promise it, and then kill us."""
    wanted_bytes = num_cells * count_cell_bytes(header, settings)
    try:
        installed_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Not on every system.
        return
    if wanted_bytes > installed_bytes:
        raise _no_context(
            num_cells, f"it takes {wanted_bytes / 2**30:.1f} GiB of {installed_bytes / 2**30:.1f}"
        )


def _no_context(num_cells: int, reason: str) -> ModelError:
    return ModelError(
        f"No context of {num_cells} tokens can be opened: {reason[:200]}; lower num_ctx.",
        param="num_ctx",
    )


class DecodeFailed(Exception):
    """`llama_decode` returned something else than 0."""

    def __init__(self, status: int) -> None:
        super().__init__(f"llama_decode returned {status}")
        self.status = status
