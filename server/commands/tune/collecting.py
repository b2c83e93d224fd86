"""The modes of `tune collect` from its options; imported by the command once it runs."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

from index.collection import Library
from index.retriever import HybridRetriever
from index.types import Document, Passage, Retriever
from models.imitation.collecting import alpaca, narrow, self_instruct
from models.imitation.collecting.grounded import (
    NUM_PASSAGES,
    UNANSWERABLE_SHARE,
    GroundedMode,
    SampledPassage,
)
from models.imitation.collecting.seeds import (
    BROAD_SEEDS,
    GROUNDED_SEEDS,
    read_one_task,
    read_seeds,
)
from models.imitation.collecting.types import Mode
from models.imitation.errors import TrainingDataInvalid
from server.assembly import make_embedder, open_library
from server.commands.context import CommandContext
from server.commands.tune.collect import ModeChoice

# Words of a passage that are searched for to find others near it.
_QUERY_CHARS = 400


@contextmanager
def make_mode(
    mode: ModeChoice,
    choices: Mapping[str, Any],
    options: CommandContext,
    *,
    seeds: Path | None,
    seed: int,
) -> Iterator[Mode]:
    """The mode; `grounded` holds the library open meanwhile.

    `choices` has `task`, `description`, `collection`, `unanswerable` and `num_passages`, None
    where not given. Raises `TrainingDataInvalid`, and for `grounded` a `StoreError`.
    """
    task = choices["task"]
    if mode is ModeChoice.alpaca:
        found = read_seeds(seeds or BROAD_SEEDS, at_least=alpaca.NUM_SEEDS)
        yield alpaca.AlpacaMode(found, seed)
    elif mode is ModeChoice.self_instruct:
        found = read_seeds(seeds or BROAD_SEEDS, at_least=self_instruct.NUM_SHOWN)
        yield self_instruct.SelfInstructMode(found, seed)
    elif mode is ModeChoice.narrow:
        found = read_one_task(seeds or GROUNDED_SEEDS, at_least=narrow.NUM_SEEDS, task=task)
        yield narrow.NarrowMode(found, seed, choices["description"])
    else:
        found = read_one_task(seeds or GROUNDED_SEEDS, at_least=2, task=task)
        settings = options.load_settings()
        embedder = make_embedder(settings)
        share, num_passages = choices["unanswerable"], choices["num_passages"]
        with open_library(settings, embedder) as library:
            retriever = HybridRetriever(library, embedder)
            yield GroundedMode(
                found,
                seed,
                LibraryPassages(library, retriever, choices["collection"]),
                unanswerable=UNANSWERABLE_SHARE if share is None else share,
                num_passages=NUM_PASSAGES if num_passages is None else num_passages,
            )


class LibraryPassages:
    """A `PassageSource` over one collection, or over all.

    Raises `CollectionNotFound`, and `TrainingDataInvalid` where there are no documents.
    """

    def __init__(self, library: Library, retriever: Retriever, collection: str | None) -> None:
        self._library = library
        self._retriever = retriever
        self._collections = None if collection is None else [collection]
        self._documents = library.documents(collection)
        self._ends = list(accumulate(document.num_passages for document in self._documents))
        self.num_passages = self._ends[-1] if self._ends else 0
        if not self.num_passages:
            raise TrainingDataInvalid(
                "there are no documents to ask about; add some with `mynah ingest PATH`.",
                param="collection",
            )
        said = [[d.id, d.content_hash, d.num_passages] for d in self._documents]
        self.fingerprint = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]

    def read(self, index: int) -> SampledPassage:
        place = bisect_right(self._ends, index)
        document = self._documents[place]
        ordinal = index - (self._ends[place - 1] if place else 0)
        return _to_sampled(self._library.passages(document.id)[ordinal], document)

    def find_near(self, passage: SampledPassage, num_near: int) -> list[SampledPassage]:
        if not num_near:
            return []
        hits = self._retriever.search(
            passage.text[:_QUERY_CHARS], collections=self._collections, max_hits=num_near + 1
        )
        near = [_to_sampled(h.passage, h.document) for h in hits if h.passage.id != passage.id]
        return near[:num_near]


def _to_sampled(passage: Passage, document: Document) -> SampledPassage:
    row_license = document.attributes.get("license")
    return SampledPassage(
        id=passage.id,
        title=" > ".join([document.filename, *passage.headings]),
        text=passage.text,
        document=document.id,
        path=document.path,
        license=None if row_license is None else str(row_license),
    )
