"""The values that the index keeps and returns."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal, Protocol

from index.errors import RankingInvalid
from index.filters import Filter


@dataclass(frozen=True, slots=True)
class PassageDraft:
    """A passage before it has an id: the slice `[start, end)` of its document's text."""

    start: int
    end: int
    headings: tuple[str, ...]
    page: int | None
    num_tokens: int


@dataclass(frozen=True, slots=True)
class DocumentDraft:
    """A document read and split, ready to be committed.

    `path` is relative to what was ingested, with forward slashes; `page_starts[i]` is the offset
    in `text` at which page `i + 1` begins (empty where the format has no pages).
    """

    path: str
    media_type: str
    content_hash: str
    size_bytes: int
    text: str
    page_starts: tuple[int, ...]
    passages: tuple[PassageDraft, ...]
    title: str | None = None
    attributes: Mapping[str, str | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Document:
    """One source at one version. `created_s` is Unix time in seconds."""

    id: str
    collection: str
    path: str
    media_type: str
    content_hash: str
    size_bytes: int
    num_passages: int
    created_s: int
    title: str | None
    page_starts: tuple[int, ...]
    attributes: Mapping[str, str | float | bool]

    @property
    def filename(self) -> str:
        """Last part of the path."""
        return self.path.rsplit("/", 1)[-1]

    def page_at(self, offset: int) -> int | None:
        """Page number (from 1) that holds the character at `offset`; None without pages."""
        return bisect_right(self.page_starts, offset) or None


@dataclass(frozen=True, slots=True)
class Passage:
    """A slice `[start, end)` of a document's text; `text` is that slice, verbatim."""

    id: int
    document_id: str
    ordinal: int
    start: int
    end: int
    headings: tuple[str, ...]
    page: int | None
    num_tokens: int
    text: str

    @property
    def heading(self) -> str:
        """The last two headings above it, as its sentences are read under them."""
        return " > ".join(self.headings[-2:])


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found for a query; `score` in 0..1, `rank` from 1.

    `dense_score` is the cosine similarity, None where only BM25 found the passage;
    `bm25_rank` its rank among the BM25 hits, None where only the dense search found it. `copies`
    are other documents that hold the same text.
    """

    passage: Passage
    document: Document
    score: float
    rank: int
    dense_score: float | None
    bm25_rank: int | None
    copies: tuple[Document, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """Neighbouring passages under the same headings, in order.

    `text` is the document's text from the first one's start to the last one's end.
    """

    passages: tuple[Passage, ...]
    text: str


@dataclass(frozen=True, slots=True)
class RankingOptions:
    """How one search ranks: the `ranking_options` of the OpenAI API.

    `ranker` "none" fuses the two searches and stops there; "auto" looks into the passages too.
    Of the weights only the proportion matters; with one at 0 that half takes no part at all.
    Hits below `score_threshold` (0..1) are left out.
    """

    ranker: Literal["auto", "none", "default-2024-11-15"] = "auto"
    score_threshold: float = 0.0
    embedding_weight: float = 0.5
    text_weight: float = 0.5

    def __post_init__(self) -> None:
        """Raise `RankingInvalid` for what no search can do."""
        is_usable = min(self.embedding_weight, self.text_weight) >= 0 and self.total_weight > 0
        if not is_usable or not isfinite(self.total_weight):
            raise RankingInvalid(
                "embedding_weight and text_weight must be 0 or more, and one of them above 0.",
                param="hybrid_search",
            )
        if not 0.0 <= self.score_threshold <= 1.0:
            raise RankingInvalid("score_threshold must lie in 0..1.", param="score_threshold")

    @property
    def total_weight(self) -> float:
        """Sum of the two weights."""
        return self.embedding_weight + self.text_weight


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection's name and size; `created_s` is Unix time in seconds.

    `layout` says how its vectors are searched, "flat" (each is compared) or "ivf-sq8" (inverted
    lists of 8-bit codes); `recall` is that layout's recall@10 against exact search as measured
    when it was built, None where search is exact.
    """

    name: str
    num_documents: int
    num_passages: int
    embedder_model: str
    created_s: int
    layout: str = "flat"
    recall: float | None = None


class Retriever(Protocol):
    """Query to hits."""

    def search(
        self,
        query: str,
        *,
        context: str = "",
        collections: Sequence[str] | None = None,
        max_hits: int = 6,
        ranking: RankingOptions | None = None,
        filters: Filter | None = None,
    ) -> list[Hit]:
        """Best hits first, at most `max_hits`; None searches every collection.

        `context` holds words that the query leaves out because a turn before said them; they count
        for less than its own. Only passages of documents whose attributes satisfy `filters` are
        ranked. Raises `CollectionNotFound` and `EmbedderMismatch`.
        """
        ...

    def read_section(self, hit: Hit) -> Section:
        """The hit's passage and its neighbours under the same headings.

        The passage alone where its document is gone.
        """
        ...
