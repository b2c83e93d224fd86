"""Verdicts on style, knowledge and grounding: read from intervals, never from point values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from models.imitation.errors import TrainingDataInvalid
from models.imitation.statistics import CONFIDENCE, Interval, bootstrap_mean, bootstrap_ratio
from models.imitation.style import ROWS, StyleRow
from server.evaluation.figures import Figure

Change = Literal["gained", "lost", "unchanged", "unknown"]
CAVEAT = (
    "Preference is no evidence of accuracy: people and judging models alike prefer answers that "
    "sound right, and neither notices the facts that are missing or wrong. Read the figures on "
    "knowledge and on grounded answers for that."
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an interval allows to say, and the sentence that says it."""

    change: Change
    sentence: str
    interval: Interval | None = None

    def to_json(self) -> dict[str, Any]:
        """`change`, `sentence` and the interval, null where nothing was measured."""
        interval = None if self.interval is None else self.interval.to_json()
        return {"change": self.change, "sentence": self.sentence, "interval": interval}


@dataclass(frozen=True, slots=True)
class Preference:
    """Blind comparisons of a system with `baseline`: counts, and the rate with ties half a win.

    Pairs of which both answers were found bad count as ties in the rate.
    """

    num_won: int
    num_lost: int
    num_tied: int
    interval: Interval
    num_both_bad: int = 0
    baseline: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The counts and the adjusted win rate with its interval."""
        return {
            "win": self.num_won,
            "loss": self.num_lost,
            "tie": self.num_tied,
            "both_bad": self.num_both_bad,
            "baseline": self.baseline,
            "win_rate_adjusted": self.interval.mean,
            "interval": self.interval.to_json(),
        }


def read_preference(path: Path) -> Preference:
    """The result of `mynah tune judge`. Raises `TrainingDataInvalid`."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        num_won, num_lost, num_tied = (int(row[name]) for name in ("win", "loss", "tie"))
        num_both_bad, baseline = int(row.get("both_bad", 0)), row.get("baseline")
        interval = Interval.from_json(row["interval"])
        rate = float(row["win_rate_adjusted"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingDataInvalid(f"{path} is no result of a judge: {error!r}.") from None
    if not 0 <= interval.low <= rate <= interval.high <= 1:
        raise TrainingDataInvalid(f"{path}: the interval does not hold the win rate {rate}.")
    return Preference(
        num_won,
        num_lost,
        num_tied,
        Interval(rate, interval.low, interval.high),
        num_both_bad,
        None if baseline is None else str(baseline),
    )


def read_change(interval: Interval, neutral: float = 0.0) -> Change:
    """`gained` or `lost` where the whole interval lies on one side of `neutral`."""
    if interval.low > neutral:
        return "gained"
    return "lost" if interval.high < neutral else "unchanged"


def judge_style(
    preference: Preference | None, difference: StyleRow | None, *, has_teacher: bool = True
) -> Verdict:
    """By the win rate against 0.5 where there is one, else by a style row less the base's."""
    if preference is not None:
        interval = preference.interval
        change = read_change(interval, 0.5)
        rival = preference.baseline or "what it was compared with"
        outcome = {
            "gained": f"preferred to {rival}",
            "lost": f"preferred less than {rival}",
            "unchanged": f"neither preferred to {rival} nor the other way round",
        }[change]
        return Verdict(change, f"It is {outcome}: win rate {describe(interval)}.", interval)
    if difference is None:
        lack = "no base was named" if has_teacher else "there are no answers of a teacher"
        return Verdict("unknown", f"Style was not compared: {lack}.")
    change = read_change(difference.interval)
    said = {"gained": "nearer to", "lost": "farther from", "unchanged": "as near as before to"}
    return Verdict(
        change,
        f"Its manner is {said[change]} the teacher's: {ROWS[difference.row]}, difference to the "
        f"base {describe(difference.interval, signed=True)}.",
        difference.interval,
    )


def judge_knowledge(difference: Figure | None, contained: Figure | None = None) -> Verdict:
    """By the difference of closed-book exact match to the base, against 0.

    `contained` is the difference of the share of answers that contain a gold one. It changes no
    verdict, but the sentence tells where it disagrees: a model that took on its teacher's manner
    answers in sentences, which match nothing exactly.
    """
    if difference is None:
        return Verdict("unknown", "Knowledge was not compared: no base was named.")
    interval, num = difference.interval, difference.num_questions
    change = read_change(interval)
    said = {
        "gained": "It knows more than its base",
        "lost": "It knows less than its base",
        "unchanged": "No change of knowledge is shown",
    }[change]
    sentence = (
        f"{said}: closed-book exact match, difference {describe(interval, signed=True)} over "
        f"{num} questions."
    )
    form = _tell_form(change, contained)
    if not form and interval.low == interval.mean == interval.high == 0:
        form = (
            " Both match the same questions or none, so that exact match tells little here; see the"
            " share of answers that contain a gold answer."
        )
    return Verdict(change, sentence + form, interval)


@dataclass(frozen=True, slots=True)
class GroundingGain:
    """Grounded over closed-book accuracy on the same answerable questions.

    `ratio` has one right answer added to both sides, which keeps it finite and draws it towards 1.
    `at_least` is the bound that the sample allows: the ratio's own, or, where no closed-book answer
    is right at all, the grounded share's lower bound over the exact upper bound of a share of
    which none of n was seen, 1 - 0.025^(1/n) (Clopper and Pearson, 1934).
    """

    grounded: Interval
    closed_book: Interval
    ratio: Interval
    at_least: float
    num_questions: int

    def to_json(self) -> dict[str, Any]:
        """The intervals, the bound and how many questions they rest on."""
        return {
            "grounded": self.grounded.to_json(),
            "closed_book": self.closed_book.to_json(),
            "ratio": self.ratio.to_json(),
            "at_least": self.at_least,
            "num_questions": self.num_questions,
            "smoothing": "one right answer added to both",
        }

    @property
    def sentence(self) -> str:
        """The gain in words."""
        return (
            f"With passages {describe(self.grounded)} of the answers hold a gold answer, without "
            f"them {describe(self.closed_book)}: {self.ratio.mean:.1f} times as many, one right "
            f"answer added to both ({self.ratio.low:.1f} to {self.ratio.high:.1f}), and at least "
            f"{self.at_least:.1f} times over {self.num_questions} questions."
        )


def judge_grounding(grounded: Sequence[float], closed_book: Sequence[float]) -> GroundingGain:
    """The gain from 0/1 scores of the same questions, in the same order."""
    share = bootstrap_mean(grounded)
    ratio = bootstrap_ratio(grounded, closed_book, smoothing=1.0)
    at_least = ratio.low
    if not any(closed_book):
        at_least = share.low / (1 - ((1 - CONFIDENCE) / 2) ** (1 / len(closed_book)))
    return GroundingGain(share, bootstrap_mean(closed_book), ratio, at_least, len(grounded))


def judge_gate(difference: Figure | None, contained: Figure | None = None) -> Verdict:
    """By the difference of grounded exact match to the base: a model must not fall behind it.

    `contained` is told where it disagrees, as in `judge_knowledge`.
    """
    if difference is None:
        return Verdict("unknown", "Grounded exact match was not compared: no base was named.")
    change = read_change(difference.interval)
    said = {
        "gained": "better than its base",
        "lost": "worse than its base, so it may not become the default",
        "unchanged": "not shown to be worse or better than its base",
    }[change]
    sentence = (
        f"Grounded exact match is {said}: difference "
        f"{describe(difference.interval, signed=True)} over {difference.num_questions} questions."
    )
    return Verdict(change, sentence + _tell_form(change, contained), difference.interval)


def _tell_form(change: Change, contained: Figure | None) -> str:
    """That the share of answers with a gold one changed otherwise than exact match; "" if not."""
    if contained is None or read_change(contained.interval) == change:
        return ""
    return (
        " By answers that contain a gold one the difference is "
        f"{describe(contained.interval, signed=True)}, so that exact match may see the form of the"
        " answers here rather than their facts."
    )


def describe(interval: Interval, *, signed: bool = False) -> str:
    """The figure with its bounds, `0.53 (0.47 to 0.60)`."""
    form = "+.3f" if signed else ".3f"
    return f"{interval.mean:{form}} ({interval.low:{form}} to {interval.high:{form}})"
