"""Passages computed before anybody asks: what was ingested, while the engine is idle.

Only where passages are reused (`kv_reuse`). The first question about a document then waits for the
question alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

from index.types import Document, Passage
from models.errors import AppError
from models.kvstore import KvStats
from models.protocols import Message, PromptDocument
from server.grounding.prompt import INSTRUCTION, frame_passage
from server.grounding.rules import GroundingRules

logger = logging.getLogger("mynah.server")

_INTERVAL_S = 20.0
# While there is something to compute, the engine's queue is filled so often.
_FEED_S = 0.5
# So many wait in the engine at a time: a document may be deleted before its turn comes.
_BATCH = 32
# Of the room for states: beyond that what is computed ahead would push out what was asked for.
_FILLED = 0.9


class WarmEngine(Protocol):
    """What the engine does for this."""

    @property
    def passage_stats(self) -> KvStats: ...
    def precompute(
        self, messages: Sequence[Message], documents: Sequence[PromptDocument]
    ) -> int: ...


class Documents(Protocol):
    """Where the passages are."""

    def documents(self) -> Sequence[Document]: ...
    def passages(self, document_id: str) -> Sequence[Passage]: ...


class PassageWarmer:
    """Hands the passages of documents, the newest first, to an engine that has nothing to do."""

    def __init__(
        self,
        engine: WarmEngine,
        documents: Documents,
        rules: GroundingRules,
        *,
        max_bytes: int,
        interval_s: float = _INTERVAL_S,
    ) -> None:
        """Passages are framed as `rules` have it.

        It stops at `max_bytes` of states, and looks for new documents every `interval_s`.
        """
        self._engine = engine
        self._documents = documents
        instruction = INSTRUCTION.format(refusal=rules.refusal)
        self._instruction = instruction if rules.is_instructed else None
        self._max_bytes = max_bytes
        self._interval_s = interval_s
        self._seen: set[str] = set()
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mynah-warm", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop. Idempotent."""
        self._is_closing.set()
        self._thread.join()

    def _run(self) -> None:
        waiting, pause_s = self._find_new(), min(_FEED_S, self._interval_s)
        while not self._is_closing.wait(pause_s):
            has_more = False
            try:
                has_more = self._feed(waiting)
            except AppError as error:
                # Deleted meanwhile, or the storage is busy: the next round begins anew.
                logger.info("passages are not computed ahead now: %s", error.message)
            pause_s = self._interval_s
            if has_more:
                pause_s = min(_FEED_S, self._interval_s)
            else:
                waiting = self._find_new()

    def _feed(self, waiting: Iterator[tuple[Document, Passage]]) -> bool:
        """Fill the engine's queue; whether there was something to put in."""
        stats = self._engine.passage_stats
        if max(stats.ram_bytes, stats.disk_bytes) > _FILLED * self._max_bytes:
            return True
        room = _BATCH - stats.num_waiting
        for _ in range(room):
            found = next(waiting, None)
            if found is None:
                return False
            messages, document = frame_passage(*found, self._instruction)
            self._engine.precompute(messages, [document])
        return True

    def _find_new(self) -> Iterator[tuple[Document, Passage]]:
        """Passages of documents that were not handed over yet, read when their turn comes."""
        found = sorted(self._documents.documents(), key=lambda document: -document.created_s)
        self._seen &= {document.id for document in found}
        for document in found:
            if document.id not in self._seen:
                for passage in self._documents.passages(document.id):
                    yield document, passage
                self._seen.add(document.id)
