"""The vocabulary of a loaded model: text to token ids, token ids to bytes, and what is control."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from models.llama import library

TokenIds = npt.NDArray[np.int32]

_ATTR_UNKNOWN, _ATTR_CONTROL, _ATTR_USER_DEFINED = 1 << 0, 1 << 3, 1 << 4
_ATTR_SPECIAL = _ATTR_UNKNOWN | _ATTR_CONTROL | _ATTR_USER_DEFINED
# NUL aside, which no grammar and no text holds.
_UTF8_BYTES = frozenset(range(1, 256)) - {0xC0, 0xC1, *range(0xF5, 0x100)}
# The only tokenizer that puts a space in front of a text: SentencePiece's.
_SPM = 1


class Vocabulary:
    """Thin, thread-safe view of a `llama_vocab`; valid while its model is loaded."""

    def __init__(self, pointer: Any) -> None:
        self.pointer = pointer
        self._lib = library()
        self.num_vocab: int = self._lib.llama_vocab_n_tokens(pointer)
        self.bos_id: int = self._lib.llama_vocab_bos(pointer)
        self.eos_id: int = self._lib.llama_vocab_eos(pointer)
        self.adds_bos: bool = self._lib.llama_vocab_get_add_bos(pointer) and self.bos_id >= 0

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        """Token ids of `text`, without BOS or EOS."""
        data = text.encode("utf-8", "replace")
        capacity = len(data) + 16
        while True:
            ids = (ctypes.c_int32 * capacity)()
            num_ids: int = self._lib.llama_tokenize(
                self.pointer, data, len(data), ids, capacity, False, parse_special
            )
            if num_ids >= 0:
                return ids[:num_ids]
            capacity = -num_ids

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; none for control tokens."""
        return self._piece(token, special=False)

    def piece_with_control(self, token: int) -> bytes:
        """The bytes a token stands for, a control token's own text included."""
        return self._piece(token, special=True)

    def _piece(self, token: int, *, special: bool) -> bytes:
        capacity = 64
        while True:
            buffer = ctypes.create_string_buffer(capacity)
            num_bytes: int = self._lib.llama_token_to_piece(
                self.pointer, token, buffer, capacity, 0, special
            )
            if num_bytes >= 0:
                return buffer.raw[:num_bytes]
            capacity = -num_bytes

    def text(self, token: int) -> str:
        """The vocabulary entry of a token, empty for an id below zero (no such token)."""
        if token < 0:
            return ""
        entry: bytes | None = self._lib.llama_vocab_get_text(self.pointer, token)
        return (entry or b"").decode("utf-8", "replace")

    def is_eog(self, token: int) -> bool:
        """Whether the token ends a generation (EOS, end of turn, ...)."""
        return token in self._eog_set

    def is_special(self, token: int) -> bool:
        """Whether the token is matched as a whole instead of being built of pieces."""
        return bool(self.attributes[token] & _ATTR_SPECIAL)

    def is_user_defined(self, token: int) -> bool:
        """Whether the token was added by the model's maker and is matched in any text."""
        return bool(self.attributes[token] & _ATTR_USER_DEFINED)

    @cached_property
    def attributes(self) -> TokenIds:
        """llama.cpp's attribute bits, shape `(num_vocab,)`."""
        get_attr, pointer = self._lib.llama_vocab_get_attr, self.pointer
        return np.fromiter(
            (get_attr(pointer, token) for token in range(self.num_vocab)),
            dtype=np.int32,
            count=self.num_vocab,
        )

    @cached_property
    def eog_ids(self) -> TokenIds:
        """Ids that end a generation, ascending."""
        named = {self.eos_id, self._lib.llama_vocab_eot(self.pointer)}
        special = np.flatnonzero(self.attributes & _ATTR_SPECIAL).tolist()
        is_eog, pointer = self._lib.llama_vocab_is_eog, self.pointer
        ids = [t for t in sorted({*special, *named}) if t >= 0 and is_eog(pointer, t)]
        return np.array(ids, dtype=np.int32)

    @cached_property
    def _eog_set(self) -> frozenset[int]:
        return frozenset(self.eog_ids.tolist())

    @cached_property
    def byte_ids(self) -> dict[int, int] | None:
        """An id for each byte that UTF-8 uses; None where one of them has none."""
        found: dict[int, int] = {}
        for token in np.flatnonzero((self.attributes & _ATTR_SPECIAL) == 0).tolist():
            piece = self.piece(token)
            if len(piece) == 1 and piece[0] in _UTF8_BYTES:
                found.setdefault(piece[0], token)
        return found if len(found) == len(_UTF8_BYTES) else None

    @cached_property
    def control_ids(self) -> TokenIds:
        """Ids of the control kind, ascending."""
        return np.flatnonzero(self.attributes & _ATTR_CONTROL).astype(np.int32)

    @cached_property
    def silent_control_ids(self) -> TokenIds:
        """Control ids that do not end a generation: they have no text of their own."""
        return np.setdiff1d(self.control_ids, self.eog_ids).astype(np.int32)

    @cached_property
    def space_prefix_ids(self) -> tuple[int, ...] | None:
        """What a newline at the start of a text tokenises to where a space is put before texts.

        None where none is put. A newline never merges with what follows, so that a newline and
        a text tokenise to these ids and then to the text without the added space.
        """
        if self._lib.llama_vocab_type(self.pointer) != _SPM:
            return None
        ids = tuple(self.tokenize("\n", parse_special=False))
        return ids if len(ids) > 1 else None

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids, control tokens left out."""
        return b"".join(map(self.piece, tokens)).decode("utf-8", "replace")
