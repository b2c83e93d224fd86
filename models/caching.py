"""An embedder that remembers: texts asked for again cost nothing."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

from models.protocols import Embedder, EmbedderIdentity, Vectors

_MAX_VECTORS = 20_000


class CachingEmbedder:
    """The given embedder, with the vectors of the texts that were asked for last.

    A question is embedded for the search and again for its sentences, and the sentences of good
    passages come back with every other question. 20,000 vectors of 384 floats take 31 MB. Texts
    are kept as hashes alone, so nothing readable of a deleted document stays. Safe for many
    threads.
    """

    def __init__(self, embedder: Embedder, *, max_vectors: int = _MAX_VECTORS) -> None:
        self._embedder = embedder
        self._max_vectors = max_vectors
        self._vectors: OrderedDict[bytes, Vectors] = OrderedDict()
        self._lock = Lock()

    @property
    def identity(self) -> EmbedderIdentity:
        """The embedder's own."""
        return self._embedder.identity

    def encode(self, texts: Sequence[str]) -> Vectors:
        """As the embedder does it, shape `(len(texts), dimension)`; only unseen texts are run."""
        import numpy as np

        if not texts:
            return self._embedder.encode([])
        keys = [_key(text) for text in texts]
        with self._lock:
            known = {key: self._vectors[key] for key in keys if key in self._vectors}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            # Copies: a row of the batch would keep the whole batch alive.
            rows = (row.copy() for row in self._embedder.encode(list(missing.values())))
            known.update(zip(missing, rows, strict=True))
        with self._lock:
            for key, vector in known.items():
                self._vectors[key] = vector
                self._vectors.move_to_end(key)
            while len(self._vectors) > self._max_vectors:
                self._vectors.popitem(last=False)
        return np.stack([known[key] for key in keys])

    def num_tokens(self, texts: Sequence[str]) -> list[int]:
        """The embedder's own count."""
        return self._embedder.num_tokens(texts)


def remember(embedder: Embedder) -> CachingEmbedder:
    """The embedder with a memory, the same object if it has one already."""
    return embedder if isinstance(embedder, CachingEmbedder) else CachingEmbedder(embedder)


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
