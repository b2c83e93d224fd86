"""A checkpoint's tokenizer in the form that llama.cpp will give it, seen as the engine sees one.

Training tokenises with `models.tokens.PromptTokenizer`, as the engine does, so that both put the
same ids in front of the model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from models.imitation.errors import CheckpointUnsupported
from models.imitation.tuning.checkpoint import Checkpoint
from models.vocabulary import TokenIds, Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPACE = "▁"
# llama.cpp's attribute bits.
_CONTROL, _USER_DEFINED = 1 << 3, 1 << 4
_MAX_CACHED_TEXTS = 4096
_BYTE = re.compile("<0x([0-9A-F]{2})>")
_PLAIN_BYTES = (*range(33, 127), *range(161, 173), *range(174, 256))


def serving_form(tokenizer_json: str) -> str:
    """The `tokenizers` file of what llama.cpp makes of a tokenizer.

    It puts the space of SentencePiece in front of every text, also of one that begins with a
    space; it composes no characters; and control tokens swallow no spaces around them.
    """
    data: dict[str, Any] = json.loads(tokenizer_json)
    data["truncation"] = data["padding"] = None
    for token in data.get("added_tokens") or ():
        token.update(lstrip=False, rstrip=False, single_word=False)
    scheme = metaspace_scheme(data)
    if scheme is not None and not data.get("normalizer"):
        replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
        prepend = [{"type": "Prepend", "prepend": SPACE}] if scheme != "never" else []
        data["normalizer"] = {"type": "Sequence", "normalizers": [*prepend, replace]}
        data["pre_tokenizer"] = None
    if composes(data):
        data["normalizer"] = None
    return json.dumps(data, ensure_ascii=False)


def metaspace_scheme(data: Mapping[str, Any]) -> str | None:
    """`first`, `always` or `never` of a `Metaspace` pre-tokenizer; None for another one."""
    pre = data.get("pre_tokenizer") or {}
    if pre.get("type") != "Metaspace":
        return None
    if "prepend_scheme" in pre:
        return str(pre["prepend_scheme"])
    return "always" if pre.get("add_prefix_space", True) else "never"


def composes(data: Mapping[str, Any]) -> bool:
    """Whether the tokenizer composes characters (NFC) and does nothing else to a text."""
    return (data.get("normalizer") or {}).get("type") == "NFC"


class CheckpointVocabulary(Vocabulary):
    """A `Vocabulary` over the `tokenizers` library instead of a loaded GGUF; for one thread.

    Raises `CheckpointUnsupported` where the tokenizer lacks the end of sequence.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        from tokenizers import Tokenizer

        self._tokenizer: Tokenizer = Tokenizer.from_str(serving_form(checkpoint.tokenizer_json))
        self._cache: dict[tuple[str, bool], list[int]] = {}
        self.num_vocab = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.bos_id = self._id_of(checkpoint.bos)
        self.eos_id = self._id_of(checkpoint.eos)
        if self.eos_id < 0:
            raise CheckpointUnsupported(
                f"{checkpoint.folder}: the tokenizer has no {checkpoint.eos!r}, which its"
                " configuration names as the end of a sequence.",
                param="base",
            )
        first = self._tokenizer.encode("a").ids[:1]
        self.adds_bos = self.bos_id >= 0 and first == [self.bos_id]

    def _id_of(self, name: str | None) -> int:
        found = self._tokenizer.token_to_id(name) if name else None
        return -1 if found is None else int(found)

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        """Token ids of `text`, without BOS or EOS."""
        found = self._cache.get((text, parse_special))
        if found is None:
            self._tokenizer.encode_special_tokens = not parse_special
            clean = text.encode("utf-8", "replace").decode()
            found = self._tokenizer.encode(clean, add_special_tokens=False).ids
            if len(self._cache) >= _MAX_CACHED_TEXTS:
                self._cache.clear()
            self._cache[text, parse_special] = found
        return list(found)

    def piece_with_control(self, token: int) -> bytes:
        """A control token's own text."""
        return self.text(token).encode()

    def piece(self, token: int) -> bytes:
        """The bytes that a token adds to a text: none for a control token."""
        name = self.text(token)
        if token in self._added:
            return b"" if self._added[token] else name.encode()
        if self._letters is not None:
            return bytes(self._letters[letter] for letter in name)
        byte = _BYTE.fullmatch(name)
        return bytes.fromhex(byte[1]) if byte else name.replace(SPACE, " ").encode()

    def text(self, token: int) -> str:
        """The vocabulary entry of a token, empty for an id below zero (no such token)."""
        found: str | None = self._tokenizer.id_to_token(token) if token >= 0 else None
        return found or ""

    def decode(self, tokens: Sequence[int], *, skip_control: bool = True) -> str:
        """The text of token ids."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=skip_control))

    @cached_property
    def attributes(self) -> TokenIds:
        """llama.cpp's attribute bits, shape `(num_vocab,)`."""
        bits = np.zeros(max(self.num_vocab, 1 + max(self._added, default=0)), np.int32)
        for token, is_special in self._added.items():
            bits[token] = _CONTROL if is_special else _USER_DEFINED
        return bits

    @cached_property
    def _letters(self) -> dict[str, int] | None:
        """The byte that each letter of a byte-level vocabulary stands for (Radford et al. 2019).

        Printable bytes of Latin-1 are themselves, the others count up from U+0100; None for
        SentencePiece, which writes bytes by name.
        """
        if json.loads(self._tokenizer.to_str())["model"].get("byte_fallback"):
            return None
        others = [byte for byte in range(256) if byte not in _PLAIN_BYTES]
        letters = {chr(byte): byte for byte in _PLAIN_BYTES}
        return letters | {chr(256 + place): byte for place, byte in enumerate(others)}

    @cached_property
    def _added(self) -> dict[int, bool]:
        added = self._tokenizer.get_added_tokens_decoder()
        return {int(token): bool(entry.special) for token, entry in added.items()}

    @cached_property
    def eog_ids(self) -> TokenIds:
        """Ids that end a generation: the end of the sequence alone, before a template is known."""
        return np.array([self.eos_id], dtype=np.int32)

    @cached_property
    def space_prefix_ids(self) -> tuple[int, ...] | None:
        """What a newline tokenises to where a space is put before texts; None where none is."""
        ids = tuple(self.tokenize("\n", parse_special=False))
        return ids if len(ids) > 1 and self.text(ids[0]) == SPACE else None
