"""The four conditions under which the same questions are asked, and what each one shows."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from index.errors import CollectionNotFound
from index.filters import Filter
from index.types import Hit, RankingOptions, Retriever, Section
from models.imitation.metrics import contains_answer
from server.evaluation.passages import PassagePool
from server.evaluation.questions import Question
from server.grounding.conversation import read_conversation

ConditionName = Literal["closed_book", "gold", "retrieved", "wrong"]
# Passages looked at for near misses; as deep as the retriever fuses its two lists.
_DEPTH = 100


@dataclass(frozen=True, slots=True)
class Condition:
    """One way of asking; `shows` says what stands in the prompt."""

    name: ConditionName
    title: str
    shows: str


CONDITIONS = (
    Condition("closed_book", "closed book", "the question alone"),
    Condition("gold", "gold passage", "the passage with the answer among near misses, shuffled"),
    Condition("retrieved", "retrieved", "what the retriever finds in the documents"),
    Condition("wrong", "wrong passages only", "near misses without the answer"),
)


@dataclass(frozen=True, slots=True)
class Exhibits:
    """Passages that are laid before the model, by condition and question.

    `golds` are the ids of the passages that hold a question's evidence; a question that has
    evidence which was not found in the documents is among `unlocated`, an answerable one that
    names none among `unproven`: neither has exhibits.
    """

    shown: Mapping[tuple[ConditionName, str], tuple[Hit, ...]]
    golds: Mapping[str, frozenset[int]]
    unlocated: tuple[str, ...]
    unproven: tuple[str, ...] = ()


class FixedRetriever:
    """A `Retriever` that finds what it was given: each question is a collection of its own.

    The grounder runs over it as over the real one, so that prompt, decoding and attribution are
    those of every other answer.
    """

    def __init__(self, exhibits: Exhibits) -> None:
        self._hits = {name_exhibit(*key): hits for key, hits in exhibits.shown.items()}

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
        """The passages of the one collection named, whatever query and filter."""
        (name,) = collections or ("",)
        if name not in self._hits:
            raise CollectionNotFound(f"there is no exhibit {name!r}.", param="collection")
        return list(self._hits[name][:max_hits])

    def read_section(self, hit: Hit) -> Section:
        """The passage alone: an exhibit brings nothing along."""
        return Section((hit.passage,), hit.passage.text)


def name_exhibit(condition: ConditionName, question_id: str) -> str:
    """The collection that `FixedRetriever` knows a question's passages by."""
    return f"{condition}:{question_id}"


def prepare_exhibits(
    questions: Sequence[Question],
    pool: PassagePool,
    retriever: Retriever,
    *,
    num_distractors: int = 3,
    seed: int = 0,
) -> Exhibits:
    """Gold and wrong passages for every question.

    Distractors are the best hits of the question's own search that hold neither its evidence nor,
    where others are left, one of its answers. Gold passages are shuffled among them by a seed of
    the question's id, so that no run, model or machine sees another order.
    """
    shown: dict[tuple[ConditionName, str], tuple[Hit, ...]] = {}
    golds: dict[str, frozenset[int]] = {}
    unlocated: list[str] = []
    unproven: list[str] = []
    for question in questions:
        if question.is_answerable and not question.evidence:
            unproven.append(question.id)
            continue
        spans = pool.locate(question)
        if len(spans) < len(question.evidence):
            unlocated.append(question.id)
            continue
        golds[question.id] = frozenset(p.id for span in spans for match in span for p in match)
        query = read_conversation(question.messages).search_query
        found = retriever.search(query, collections=[pool.collection], max_hits=_DEPTH)
        others = _find_distractors(question, found, golds[question.id])
        first = list(dict.fromkeys(p.id for span in spans for p in span[0]))
        gold = _find_hits(first, found, pool, retriever, query)
        rng = random.Random(f"{seed}:{question.id}")
        # Without a gold passage one distractor more keeps the number of passages from telling.
        num_near = num_distractors if gold else num_distractors + 1
        shown["gold", question.id] = _shuffle([*gold, *others[:num_near]], rng)
        shown["wrong", question.id] = _shuffle(others[: num_distractors + 1], rng)
    return Exhibits(shown, golds, tuple(unlocated), tuple(unproven))


def _find_hits(
    ids: Sequence[int],
    found: Sequence[Hit],
    pool: PassagePool,
    retriever: Retriever,
    query: str,
) -> list[Hit]:
    """The passages as the search scored them; one too deep to be found has its cosine alone."""
    known = {hit.passage.id: hit for hit in found}
    if not known.keys() >= set(ids):
        everything = retriever.search(
            query, collections=[pool.collection], max_hits=pool.num_passages
        )
        cosines = {hit.passage.id: hit.dense_score for hit in everything}
        missed = [id_ for id_ in ids if id_ not in known]
        known |= {id_: replace(pool.to_hit(id_), dense_score=cosines.get(id_)) for id_ in missed}
    return [known[id_] for id_ in ids]


def _find_distractors(question: Question, found: Sequence[Hit], gold: frozenset[int]) -> list[Hit]:
    """Hits without evidence; those without any gold answer in them come first."""
    others = [hit for hit in found if hit.passage.id not in gold]
    return sorted(others, key=lambda hit: contains_answer(hit.passage.text, question.answers))


def _shuffle(hits: list[Hit], rng: random.Random) -> tuple[Hit, ...]:
    rng.shuffle(hits)
    return tuple(replace(hit, rank=rank) for rank, hit in enumerate(hits, 1))
