"""A GGUF under llama.cpp, one sequence at a time, for measuring."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.imitation.sources import Passage
from models.imitation.tokenizer import ASSISTANT, BOS, DOCUMENT, END, USER
from models.llama import library

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Model:
    """A GGUF under llama.cpp, one sequence, logits of every token as float32 log-probabilities.

    Raises ValueError where the file cannot be loaded.
    """

    def __init__(self, path: Path, num_threads: int = 2, context: int = 2048) -> None:
        # One log callback for the whole process: one of ours would die with this object.
        self._lib = llama_cpp = library()
        options = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), options)
        if not self._model:
            raise ValueError(f"llama.cpp cannot load {path}")
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = context
        settings.n_threads = settings.n_threads_batch = num_threads
        self._context = llama_cpp.llama_init_from_model(self._model, settings)
        self._batch = llama_cpp.llama_batch_init(context, 0, 1)
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.context = context

    def close(self) -> None:
        self._lib.llama_batch_free(self._batch)
        self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._model)

    def encode(self, text: str, *, control: bool = False) -> list[int]:
        """Return token ids; control tokens are parsed only where `control` says so."""
        data = text.encode()
        room = len(data) + 8
        ids = (self._lib.llama_token * room)()
        count = self._lib.llama_tokenize(self._vocab, data, len(data), ids, room, False, control)
        return list(ids[:count])

    def decode(self, ids: Sequence[int], *, control: bool = False) -> str:
        out = b""
        for token in ids:
            piece = ctypes.create_string_buffer(256)
            size = self._lib.llama_token_to_piece(self._vocab, token, piece, 256, 0, control)
            out += piece.raw[:size]
        return out.decode(errors="replace")

    def forget(self, position: int) -> None:
        """Drop every token from `position` on."""
        memory = self._lib.llama_get_memory(self._context)
        self._lib.llama_memory_seq_rm(memory, 0, position, -1)

    def run(
        self, ids: Sequence[int], position: int, *, only_last: bool = False
    ) -> NDArray[np.float32]:
        """Feed `ids` from `position`; return log-probabilities `[len(ids) or 1, vocab_size]`."""
        batch = self._batch
        batch.n_tokens = len(ids)
        for index, token in enumerate(ids):
            batch.token[index] = token
            batch.pos[index] = position + index
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = 0
            batch.logits[index] = not only_last or index == len(ids) - 1
        if self._lib.llama_decode(self._context, batch) != 0:
            raise ValueError(f"llama.cpp could not decode {len(ids)} tokens at {position}")
        wanted = [len(ids) - 1] if only_last else range(len(ids))
        rows = [
            np.ctypeslib.as_array(
                self._lib.llama_get_logits_ith(self._context, index), shape=(self.vocab_size,)
            )
            for index in wanted
        ]
        logits = np.array(rows, np.float32)
        top = logits.max(axis=1, keepdims=True)
        out: NDArray[np.float32] = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
        return out


def prompt_ids(model: Model, passages: Sequence[Passage], question: str) -> list[int]:
    """Return the ids of the rendered template, content tokenised without control tokens."""

    def control(name: str) -> int:
        return model.encode(name, control=True)[0]

    ids = [control(BOS)]
    for number, passage in enumerate(passages, 1):
        ids.append(control(DOCUMENT))
        ids += model.encode(f"[{number}]\n{passage.title}\n{passage.text}")
    return [*ids, control(USER), *model.encode(question), control(END), control(ASSISTANT)]
