"""What speaks for an answer standing in the documents, weighed to one chance.

No single signal tells a near miss from an answer: a text on the very topic of an unanswerable
question is as near to it as the answer would be. So the retriever's, the words' and the model's
own view are combined by a logistic regression, fitted on questions whose answerability is known
(`python -m bench.abstention` for the defaults, `mynah calibrate` on a user's own documents).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from models.text.expectation import expect_answer
from models.text.plain import read_plain
from models.text.words import WordWeights, find_topic_words, match_stem
from server.grounding.candidates import Candidate

# Beyond it a chance says no more than that the model is sure.
_MAX_LOG_ODDS = 8.0
_NUM_BEST = 3


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of a question's answer before it is written.

    `meaning` and `passage`: the best cosine of a sentence and of a passage with the question;
    `words`: the largest share (0..1) of the question's word weight that one sentence holds;
    `covered`: the share that stands in any sentence found or above it; `form`: whether one of the
    best sentences has what is asked for (a number, a name, a date), 0..1; `lead`: how far the best
    sentence's score is above the next but one; `refusal`: log odds that a model which was trained
    to refuse does so, 0 for others; `read`: log odds that one of the sentences answers, of a reader
    that read each with the question, 0 where none did.
    """

    meaning: float = 0.0
    passage: float = 0.0
    words: float = 0.0
    covered: float = 0.0
    form: float = 0.0
    lead: float = 0.0
    refusal: float = 0.0
    read: float = 0.0


SIGNAL_NAMES = tuple(signal.name for signal in fields(Signals))


def read_signals(
    question: str, candidates: Sequence[Candidate], refusal_logprob: float | None = None
) -> Signals:
    """The signals of a question over its ranked sentences; all 0 where nothing was found.

    `refusal_logprob` is the natural logarithm of the model's chance of the whole refusal.
    """
    if not candidates:
        return Signals()
    best = candidates[:_NUM_BEST]
    expectation = expect_answer(question)
    return Signals(
        meaning=max(candidate.meaning for candidate in candidates),
        passage=max(candidate.hit.dense_score or 0.0 for candidate in candidates),
        words=max(candidate.words for candidate in candidates),
        covered=_measure_cover(question, candidates),
        form=max(expectation.measure(read_plain(candidate.text), question) for candidate in best),
        lead=best[0].score - best[-1].score,
        refusal=0.0 if refusal_logprob is None else _to_log_odds(refusal_logprob),
        read=_sum_odds([c.odds for c in candidates if c.odds is not None]),
    )


def _measure_cover(question: str, candidates: Sequence[Candidate]) -> float:
    stems = [set(find_topic_words(f"{c.context} {read_plain(c.text)}")) for c in candidates]
    weights = WordWeights([list(found) for found in stems])
    known = set().union(*stems)
    wanted = list(dict.fromkeys(find_topic_words(question)))
    total = sum(weights.weigh(stem) for stem in wanted)
    if not total:
        return 1.0
    found = sum(
        weights.weigh(stem)
        for stem in wanted
        if stem in known or any(match_stem(stem, other) for other in known)
    )
    return found / total


def _sum_odds(odds: Sequence[float]) -> float:
    """Log odds that any of the sentences answers."""
    if not odds:
        return 0.0
    highest = max(odds)
    total = highest + math.log(sum(math.exp(value - highest) for value in odds))
    return max(-_MAX_LOG_ODDS, min(_MAX_LOG_ODDS, total))


def _to_log_odds(logprob: float) -> float:
    chance = min(max(math.exp(min(logprob, 0.0)), 1e-9), 1 - 1e-9)
    log_odds = math.log(chance) - math.log1p(-chance)
    return max(-_MAX_LOG_ODDS, min(_MAX_LOG_ODDS, log_odds))


@dataclass(frozen=True, slots=True)
class Abstention:
    """A logistic regression over `Signals`, and the chance below which an answer is refused."""

    weights: Mapping[str, float]
    bias: float
    min_evidence: float

    def weigh(self, signals: Signals) -> float:
        """The chance (0..1) that the documents hold the answer."""
        values = asdict(signals)
        total = self.bias + sum(weight * values[name] for name, weight in self.weights.items())
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, total))))


# Weights from `python -m bench.abstention`, before near misses were told from answers there; a new
# fit tells them no better. The least chances are lower than it proposes: what refuses 5 % of the
# answerable questions there refuses 32 % over real handbooks, where the decoder's log odds of a
# refusal lie higher (docs/adr/0017-refusing-rests-on-two-signals.md).
FOR_EXCERPTS = Abstention(
    {
        "refusal": -0.458,
        "meaning": 1.81,
        "passage": 1.078,
        "words": -1.466,
        "covered": 0.663,
        "lead": 2.132,
    },
    bias=-0.699,
    min_evidence=0.4,
)
READ_FOR_EXCERPTS = Abstention({"read": 0.577, "refusal": -0.319}, bias=0.149, min_evidence=0.35)
FOR_ANY_MODEL = Abstention(
    {"meaning": 3.226, "passage": 0.659, "words": -1.249, "covered": 0.789, "lead": 1.433},
    bias=-0.528,
    min_evidence=0.618,
)
READ_FOR_ANY_MODEL = Abstention(
    {"read": 0.745, "meaning": 0.36, "passage": -0.151, "lead": 1.702},
    bias=0.21,
    min_evidence=0.491,
)


def default_abstention(*, reads_excerpts: bool, has_reader: bool) -> Abstention:
    """When to refuse by default, for a model that was trained to refuse or any other."""
    if has_reader:
        return READ_FOR_EXCERPTS if reads_excerpts else READ_FOR_ANY_MODEL
    return FOR_EXCERPTS if reads_excerpts else FOR_ANY_MODEL
