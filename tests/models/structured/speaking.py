"""Texts of a grammar, as llama.cpp follows it."""

from __future__ import annotations

import numpy as np

from models.grammar import Grammar
from models.vocabulary import TokenIds, Vocabulary


def accepts(grammar: str, text: str, vocabulary: Vocabulary) -> bool:
    """Whether a grammar lets `text` be all of an answer."""
    follower = Grammar(grammar, vocabulary)
    try:
        for token in vocabulary.tokenize(text, parse_special=False):
            if not follower.allows(np.array([token], dtype=np.int32))[0]:
                return False
            follower.accept(token)
        return bool(follower.allows(vocabulary.eog_ids).any())
    finally:
        follower.free()


def say(
    grammar: str, vocabulary: Vocabulary, seed: int, *, max_steps: int = 200
) -> tuple[str, bool]:
    """A random text of a grammar and whether it came to its end.

    Bytes that end a string, an array or an object are likelier than others, or few would end.
    """
    rng = np.random.default_rng(seed)
    byte_ids = vocabulary.byte_ids
    assert byte_ids is not None
    ids: TokenIds = np.concatenate(
        [np.array([*byte_ids.values()], dtype=np.int32), vocabulary.eog_ids]
    ).astype(np.int32)
    closing = {byte_ids[byte] for byte in b'"]}'} | set(vocabulary.eog_ids.tolist())
    weights = np.array([40.0 if token in closing else 1.0 for token in ids])
    follower, said = Grammar(grammar, vocabulary), b""
    try:
        for _ in range(max_steps):
            allowed = np.flatnonzero(follower.allows(ids))
            assert len(allowed), f"nothing follows {said!r}"
            chances = weights[allowed] / weights[allowed].sum()
            token = int(ids[rng.choice(allowed, p=chances)])
            if vocabulary.is_eog(token):
                return said.decode("utf-8", "replace"), True
            follower.accept(token)
            said += vocabulary.piece(token)
        return said.decode("utf-8", "replace"), False
    finally:
        follower.free()
