"""Whether the search finds the evidence of each question, and how high."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from index.types import Hit, Retriever
from models.imitation.errors import RunDamaged
from models.imitation.metrics import contains_answer
from server.evaluation.passages import PassagePool
from server.evaluation.questions import Question
from server.grounding.conversation import read_conversation

DEPTH = 20
_NDCG_DEPTH = 10
_ANSWER_DEPTH = 5


@dataclass(frozen=True, slots=True)
class RetrievalRow:
    """What the search found for one question.

    `rank` is that of the first passage with the question's (first) evidence among the first
    `DEPTH`, 0 if none is, None where no evidence is known. `num_found` of `num_needed` pieces of
    evidence are among the first ten. `answer_found`: an expected answer stands in the first five.
    """

    id: str
    kind: str
    is_follow_up: bool
    rank: int | None = None
    ndcg: float | None = None
    num_needed: int = 0
    num_found: int = 0
    answer_found: float | None = None

    def to_json(self) -> dict[str, Any]:
        """One JSON object; `from_json` gives the row back."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> RetrievalRow:
        """Raises `RunDamaged` for what is no such row."""
        if not isinstance(row, Mapping) or set(row) != {field.name for field in fields(cls)}:
            raise RunDamaged("a row of retrieval has other fields than this version writes.")
        return cls(**row)


def measure_retrieval(
    questions: Sequence[Question],
    pool: PassagePool,
    retriever: Retriever,
    progress: Callable[[int, int], None],
) -> list[RetrievalRow]:
    """One row for each answerable question, searched for as the grounder does."""
    answerable = [question for question in questions if question.is_answerable]
    rows = []
    for number, question in enumerate(answerable, 1):
        query = read_conversation(question.messages).search_query
        hits = retriever.search(query, collections=[pool.collection], max_hits=DEPTH)
        rows.append(score_hits(question, hits, pool.find_holders(question)))
        progress(number, len(answerable))
    return rows


def score_hits(
    question: Question, hits: Sequence[Hit], holders: Sequence[frozenset[int]]
) -> RetrievalRow:
    """The row of a question whose pieces of evidence stand in the passages `holders`.

    Where a piece stands nowhere in the documents, its rank is not known either.
    """
    first = [text for hit in hits[:_ANSWER_DEPTH] for text in (hit.passage.text,)]
    row = RetrievalRow(
        id=question.id,
        kind=question.kind,
        is_follow_up=bool(question.history),
        answer_found=float(any(contains_answer(text, question.answers) for text in first)),
    )
    if not holders or not all(holders):
        return row
    ranks = [find_rank([hit.passage.id for hit in hits], ids) for ids in holders]
    return RetrievalRow(
        **{
            **row.to_json(),
            "rank": ranks[0],
            "ndcg": measure_ndcg(ranks, _NDCG_DEPTH),
            "num_needed": len(ranks),
            "num_found": sum(0 < rank <= _NDCG_DEPTH for rank in ranks),
        }
    )


def find_rank(found: Sequence[int], wanted: frozenset[int]) -> int:
    """The place, from 1, of the first of the wanted ids; 0 if none is there."""
    return next((rank for rank, id_ in enumerate(found, 1) if id_ in wanted), 0)


def measure_ndcg(ranks: Sequence[int], depth: int) -> float:
    """The nDCG of needs first met at `ranks`, 0 for never (Järvelin and Kekäläinen, 2002).

    Each need is worth 1. The best order meets one a rank; needs of one rank stand in one passage
    and count as one.
    """
    distinct = sorted({rank for rank in ranks if rank}) + [0] * sum(not rank for rank in ranks)
    gain = sum(1 / math.log2(1 + rank) for rank in distinct if 0 < rank <= depth)
    best = sum(1 / math.log2(1 + rank) for rank in range(1, min(len(distinct), depth) + 1))
    return gain / best
