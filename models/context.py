"""The loaded model and its context: what the decode thread computes with."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from models.batch import Batch, Run
from models.engine_settings import EngineSettings, count_threads
from models.errors import EngineStopped, ModelError, ModelFileInvalid
from models.gguf import GgufHeader, check_generative, read_header
from models.llama import keep_errors, library
from models.protocols import ModelInfo
from models.vocabulary import Vocabulary

# Room for the logits of one step; a vocabulary of 128k takes half a megabyte a row.
_MAX_LOGITS_BYTES = 64 << 20
# llama.cpp's own record of a cell: position, shift and the set of its sequences.
_CELL_BYTES = 64


class LoadedModel:
    """The weights and the vocabulary. `use` keeps them from being freed while they are in use."""

    def __init__(self, settings: EngineSettings) -> None:
        """Raises `ModelFileInvalid`."""
        self._lib = library()
        path = settings.path
        self.header = read_header(path)
        check_generative(self.header, path)
        params = self._lib.llama_model_default_params()
        params.n_gpu_layers = settings.num_gpu_layers
        with keep_errors() as errors:
            self.pointer: Any = self._lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self.pointer:
            reason = " ".join((errors[0] if errors else "no reason given").split())[:200]
            raise ModelFileInvalid(f"{path} cannot be loaded: {reason}.", param="model")
        if self._lib.llama_model_has_encoder(self.pointer) or not self._lib.llama_model_has_decoder(
            self.pointer
        ):
            self._lib.llama_model_free(self.pointer)
            raise ModelFileInvalid(f"{path} holds no decoder-only model.", param="model")
        self.vocabulary = Vocabulary(self._lib.llama_model_get_vocab(self.pointer))
        self.num_ctx_train: int = self._lib.llama_model_n_ctx_train(self.pointer)
        self.has_recurrence: bool = self._lib.llama_model_is_recurrent(
            self.pointer
        ) or self._lib.llama_model_is_hybrid(self.pointer)
        self._idle = threading.Condition()
        self._num_users = 0
        self._is_free = False

    @contextmanager
    def use(self) -> Iterator[Vocabulary]:
        """The vocabulary, valid inside the block. Raises `EngineStopped` after `free`."""
        with self._idle:
            if self._is_free:
                raise EngineStopped("The engine is closed.")
            self._num_users += 1
        try:
            yield self.vocabulary
        finally:
            with self._idle:
                self._num_users -= 1
                self._idle.notify_all()

    def free(self) -> None:
        """Give the memory back once nobody uses it. Idempotent."""
        with self._idle:
            if self._is_free:
                return
            self._is_free = True
            self._idle.wait_for(lambda: self._num_users == 0)
        self._lib.llama_model_free(self.pointer)

    def describe(self, settings: EngineSettings, num_ctx: int, has_documents: bool) -> ModelInfo:
        """What the model says about itself, and the context it is given here."""
        header: GgufHeader = self.header
        return ModelInfo(
            name=header.text("general.name") or settings.path.stem,
            architecture=header.text("general.architecture"),
            num_parameters=int(self._lib.llama_model_n_params(self.pointer)),
            size_bytes=header.size_bytes,
            num_ctx=num_ctx,
            num_ctx_train=self.num_ctx_train,
            num_vocab=self.vocabulary.num_vocab,
            has_documents_template=has_documents,
            metadata={key: str(value) for key, value in header.metadata.items()},
        )


class Context:
    """A `llama_context` with one KV cache for all sequences; used by one thread."""

    def __init__(self, model: LoadedModel, settings: EngineSettings, num_cells: int) -> None:
        """Raises `ModelError` if the memory for it cannot be had."""
        self._lib = library()
        self.num_vocab = model.vocabulary.num_vocab
        self.max_step_tokens = settings.chunk_tokens + settings.num_slots
        affordable = _MAX_LOGITS_BYTES // (4 * self.num_vocab)
        self.max_step_outputs = min(self.max_step_tokens, max(affordable, settings.num_sequences))
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
        params.n_batch = params.n_ubatch = self.max_step_tokens
        params.n_outputs_max = self.max_step_outputs
        params.n_seq_max = settings.num_sequences
        params.kv_unified = True
        params.n_threads = count_threads(settings.num_threads)
        params.n_threads_batch = settings.num_batch_threads or params.n_threads
        kind = {
            "f16": lib.GGML_TYPE_F16,
            "f32": lib.GGML_TYPE_F32,
            "q8_0": lib.GGML_TYPE_Q8_0,
        }[settings.kv_type]
        params.type_k = params.type_v = kind
        # Quantized values need flash attention; otherwise llama.cpp sees whether it can be had.
        params.flash_attn_type = (
            lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if settings.kv_type == "q8_0"
            else lib.LLAMA_FLASH_ATTN_TYPE_AUTO
            if settings.flash_attention
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
        if not num_outputs:
            # A step may run on by itself on a GPU; its time belongs to this step.
            self._lib.llama_synchronize(self._pointer)
            return np.empty((0, self.num_vocab), dtype=np.float32)
        logits = self._lib.llama_get_logits(self._pointer)
        return np.ctypeslib.as_array(logits, shape=(num_outputs, self.num_vocab))

    def copy_prefix(self, source: int, target: int, num_tokens: int) -> None:
        """Let `target` share the first cells of `source`."""
        self._lib.llama_memory_seq_cp(self._memory, source, target, 0, num_tokens)

    def use_threads(self, num_threads: int) -> None:
        """Compute the next steps with so many threads."""
        self._lib.llama_set_n_threads(self._pointer, num_threads, num_threads)

    def drop(self, sequence: int) -> None:
        """Release the cells that only `sequence` holds."""
        self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def truncate(self, sequence: int, num_tokens: int) -> None:
        """Release the cells of `sequence` from position `num_tokens` on."""
        self._lib.llama_memory_seq_rm(self._memory, sequence, num_tokens, -1)

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
