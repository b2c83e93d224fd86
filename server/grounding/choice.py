"""Scored candidates and the model's view of them to the sentences that are quoted, or none."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from models.text.plain import read_plain
from models.text.words import WordWeights, find_topic_words, match_stem
from server.grounding.candidates import Candidate


@dataclass(frozen=True, slots=True)
class ChoiceRules:
    """How candidates are chosen; the figures are from `python -m bench.sentences`.

    `model_weight`: what one standard deviation of the model's view is worth on the candidates'
    scale of 0..1. `margin`: how far below the best a further sentence may score.
    A further sentence gains `novelty_bonus` if it has at least `min_novelty` of the question's word
    weight that no chosen sentence has: the second part of a question is answered elsewhere. Where
    the question is known to have several parts the gain is `parts_bonus`.
    """

    max_sentences: int = 3
    max_candidates: int = 8
    model_weight: float = 0.015
    margin: float = 0.085
    novelty_bonus: float = 0.10
    min_novelty: float = 0.10
    parts_bonus: float = 0.10

    def for_parts(self, num_parts: int) -> ChoiceRules:
        """The rules for a question of so many parts."""
        return replace(self, novelty_bonus=self.parts_bonus) if num_parts > 1 else self


# Where a reader tells sentences apart their scores lie further from each other, and a new word of
# the question says less than the reader does (docs/adr/0015-passages-are-read-too.md). Not where it
# asks twice: a reader takes the sentence that answers one half for the answer.
READ_RULES = ChoiceRules(margin=0.12, novelty_bonus=0.05)


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen candidate with its combined score."""

    candidate: Candidate
    score: float


def choose(
    question: str,
    candidates: Sequence[Candidate],
    views: Sequence[float],
    rules: ChoiceRules,
) -> list[Choice]:
    """The sentences to quote, best first, at most `rules.max_sentences`.

    A candidate's score is its retrieval score plus the model's view of it, standardised over the
    candidates so that models of any size speak on one scale.
    """
    open_choices = [
        Choice(candidate, candidate.score + rules.model_weight * view)
        for candidate, view in zip(candidates, _standardise(views), strict=True)
    ]
    coverage = _Coverage(question, candidates)
    chosen: list[Choice] = []
    while open_choices and len(chosen) < rules.max_sentences:

        def worth(choice: Choice) -> float:
            is_new = bool(chosen) and coverage.weigh_new(choice.candidate) >= rules.min_novelty
            return choice.score + (rules.novelty_bonus if is_new else 0.0)

        best = max(open_choices, key=worth)
        if chosen and worth(best) < chosen[0].score - rules.margin:
            break
        open_choices.remove(best)
        coverage.add(best.candidate)
        chosen.append(best)
    return chosen


class _Coverage:
    """Which of the question's words the chosen sentences and their headings have so far."""

    def __init__(self, question: str, candidates: Sequence[Candidate]) -> None:
        stems = {id(c): find_topic_words(f"{c.context} {read_plain(c.text)}") for c in candidates}
        self._weights = WordWeights(stems.values())
        self._wanted = list(dict.fromkeys(find_topic_words(question)))
        self._total = sum(self._weights.weigh(stem) for stem in self._wanted) or 1.0
        self._found = {
            key: {w for w in self._wanted if any(match_stem(w, other) for other in set(own))}
            for key, own in stems.items()
        }
        self._covered: set[str] = set()

    def weigh_new(self, candidate: Candidate) -> float:
        """Share (0..1) of the question's word weight that this candidate would add."""
        new = self._found[id(candidate)] - self._covered
        return sum(self._weights.weigh(stem) for stem in new) / self._total

    def add(self, candidate: Candidate) -> None:
        """Count the candidate as chosen."""
        self._covered |= self._found[id(candidate)]


def _standardise(values: Sequence[float]) -> list[float]:
    """Values less their mean, in standard deviations; zeros where they do not differ."""
    if len(values) < 2:
        return [0.0] * len(values)
    mean, deviation = statistics.fmean(values), statistics.pstdev(values)
    if deviation < 1e-6:
        return [0.0] * len(values)
    return [(value - mean) / deviation for value in values]
