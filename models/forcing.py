"""A grammar followed byte by byte: where it leaves one continuation, that is had without the model.

SGLang's "jump-forward decoding" (Zheng et al. 2024) compresses a regular expression's automaton for
the same end; llama.cpp's grammars are no automata, so that they are asked instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from models.grammar import Grammar
from models.vocabulary import TokenIds, Vocabulary

# Beyond it a text is taken in parts, so that a step of the engine stays short.
_MAX_BYTES = 4096


class GrammarFollower:
    """One generation's way through its grammar."""

    def __init__(
        self, grammar: str, vocabulary: Vocabulary, encode: Callable[[str], Sequence[int]]
    ) -> None:
        """`encode` gives the tokens of text inside an answer. Raises `GrammarInvalid`."""
        self._grammar = Grammar(grammar, vocabulary)
        self._vocabulary = vocabulary
        self._encode = encode
        # Bytes of a character that has begun.
        self._part = b""

    def allows(self, ids: TokenIds) -> TokenIds:
        """Those of `ids` that the grammar lets come next."""
        return ids[self._grammar.allows(ids)] if len(ids) else ids

    def spells(self, token: int) -> bool:
        """Whether an allowed token leaves the text UTF-8.

        llama.cpp's grammars let a character be spelt in more bytes than it has.
        """
        try:
            (self._part + self._vocabulary.piece(token)).decode()
        except UnicodeDecodeError as error:
            return error.reason == "unexpected end of data"
        return True

    def accept(self, token: int) -> None:
        """Move behind an allowed token."""
        self._grammar.accept(token)
        self._part = _unfinished(self._part + self._vocabulary.piece(token))

    def take_forced(self) -> list[int]:
        """Tokens that must come next, moved behind; with the end of the turn's if that must follow.

        They are what the text usually consists of, not what the model would have built it of.
        Nothing is found with a vocabulary that cannot spell every text byte by byte: what it does
        not list could not be ruled out.
        """
        byte_ids = self._vocabulary.byte_ids
        if byte_ids is None:
            return []
        data, is_end = self._take_bytes(np.array([*byte_ids.values()], dtype=np.int32))
        # A character that the model began, or may end, is spelt in bytes.
        start = 0
        while start < len(data) and self._part:
            self._part = _unfinished(self._part + data[start : start + 1])
            start += 1
        rest = _unfinished(data[start:])
        self._part = self._part or rest
        whole = data[start : len(data) - len(rest)].decode()
        return [
            *(byte_ids[byte] for byte in data[:start]),
            *(self._encode(whole) if whole else ()),
            *(byte_ids[byte] for byte in rest),
            *(self._vocabulary.eog_ids[:1].tolist() if is_end else ()),
        ]

    def free(self) -> None:
        """Give the memory back. Idempotent."""
        self._grammar.free()

    def _take_bytes(self, byte_ids: TokenIds) -> tuple[bytes, bool]:
        """Bytes that must come next, and whether the text must end behind them."""
        asked = np.concatenate([byte_ids, self._vocabulary.eog_ids]).astype(np.int32)
        found = bytearray()
        while len(found) < _MAX_BYTES:
            allowed = np.flatnonzero(self._grammar.allows(asked))
            if len(allowed) and allowed[0] >= len(byte_ids):
                return bytes(found), True
            if len(allowed) != 1:
                break
            token = int(asked[allowed[0]])
            self._grammar.accept(token)
            found += self._vocabulary.piece(token)
        return bytes(found), False


def _unfinished(data: bytes) -> bytes:
    """The bytes of the incomplete character at the end of `data`."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return data[error.start :]
    return b""
