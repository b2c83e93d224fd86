"""The weights and the vocabulary of a GGUF in memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from models.engine_settings import EngineSettings
from models.errors import EngineStopped, ModelFileInvalid
from models.gguf import GgufHeader, check_generative, read_header
from models.llama import keep_errors, library
from models.protocols import ModelInfo
from models.vocabulary import Vocabulary

# Room for the logits of one step; a vocabulary of 128k takes half a megabyte a row.
_MAX_LOGITS_BYTES = 64 << 20
# LLAMA_MAX_SEQ.
_MAX_SEQUENCES = 256
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
        self.width: int = self._lib.llama_model_n_embd(self.pointer)
        self.has_recurrence: bool = self._lib.llama_model_is_recurrent(
            self.pointer
        ) or self._lib.llama_model_is_hybrid(self.pointer)
        # Tokens that a layer with a sliding window sees, 0 where none has one.
        self.window_tokens: int = self._lib.llama_model_n_swa(self.pointer)
        rope_type: int = self._lib.llama_model_rope_type(self.pointer)
        self.has_neox_rope = rope_type == self._lib.LLAMA_ROPE_TYPE_NEOX
        # A window of attention counts positions: what is moved would leave it or enter it. And only
        # rotated keys can be turned on, by angles that do not depend on the length of the text.
        self.is_movable: bool = (
            not self.has_recurrence
            and self._lib.llama_model_n_swa(self.pointer) == 0
            and (self.has_neox_rope or rope_type == self._lib.LLAMA_ROPE_TYPE_NORM)
            and self.header.text(f"{self.header.text('general.architecture')}.rope.scaling.type")
            in ("", "none", "linear")
        )
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
