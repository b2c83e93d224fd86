"""How near a model's manner is to its teacher's: the five rows of Table 2 of arXiv 2305.15717.

The study counts lists, summary paragraphs and shared unigrams, correlates lengths, and asks GPT-4
for the tone. It prints no formulas; the definitions here are ours and stand at each function.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from models.imitation.statistics import Interval, bootstrap

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

Row = Literal["lists", "summary", "unigrams", "length", "tone"]
ROWS: dict[Row, str] = {
    "lists": "list when the teacher lists",
    "summary": "summary paragraph when the teacher writes one",
    "unigrams": "unigram intersection with the teacher's answer",
    "length": "length in words, Pearson r with the teacher's",
    "tone": "authoritative tone (lexical proxy)",
}

_ITEM = re.compile(r"^\s*(?:[-*•–]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s+\S", re.MULTILINE)
_SUMMARY = re.compile(
    r"(?:in (?:summary|conclusion|short|brief|essence)|to (?:sum up|summari[sz]e|conclude)"
    r"|overall|ultimately|all in all|taken together)\b",
    re.IGNORECASE,
)
_HEDGE = re.compile(
    r"\b(?:i (?:think|guess|suppose|believe|feel|assume|am not sure|don't know|do not know|doubt)"
    r"|i'm (?:not sure|sorry|afraid|unsure)|not (?:quite |entirely )?sure|maybe|perhaps|probably"
    r"|possibly|might|imho|imo|as far as i know|who knows|no idea|sort of|kind of|dunno)\b",
    re.IGNORECASE,
)
_TERMINAL = re.compile(r"[.!:)\]\"”’`|…。！]\s*$")


@dataclass(frozen=True, slots=True)
class StyleRow:
    """One row for one system: the figure with its interval over `num_answers` answers."""

    row: Row
    interval: Interval
    num_answers: int

    def to_json(self) -> dict[str, Any]:
        """The row's name, figure and number of answers."""
        return {"row": self.row, **self.interval.to_json(), "num_answers": self.num_answers}


def measure_style(answers: Sequence[str], teacher: Sequence[str]) -> list[StyleRow]:
    """The rows of a system; `answers[i]` and `teacher[i]` are of the same question.

    A row is left out where nothing can be said: no answer of the teacher's has a list, say, or
    fewer than three lengths make no correlation.
    """
    rows = []
    for row in ROWS:
        columns = _columns(row, answers, teacher)
        if columns and (row != "length" or _correlates(columns)):
            interval = bootstrap(_correlate if row == "length" else _mean, *columns)
            rows.append(StyleRow(row, interval, len(columns[0])))
    return rows


def compare_style(
    answers: Sequence[str], others: Sequence[str], teacher: Sequence[str]
) -> list[StyleRow]:
    """Each row of `answers` less that of `others`, paired by question."""
    rows = []
    for row in ROWS:
        mine, theirs = _columns(row, answers, teacher), _columns(row, others, teacher)
        if not mine or not theirs:
            continue
        if row != "length":
            interval = bootstrap(lambda x, y: x.mean(-1) - y.mean(-1), mine[0], theirs[0])
        elif _correlates(mine) and _correlates(theirs):
            interval = bootstrap(
                lambda x, y, t: _correlate(x, t) - _correlate(y, t), mine[0], *theirs
            )
        else:
            continue
        rows.append(StyleRow(row, interval, len(mine[0])))
    return rows


def has_list(text: str) -> bool:
    """Whether at least two lines begin as list items do."""
    return len(_ITEM.findall(text)) >= 2


def has_summary(text: str) -> bool:
    """Whether the last of several paragraphs opens as a summary does ("Overall", "In short")."""
    paragraphs = [part for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]
    return len(paragraphs) > 1 and _SUMMARY.match(paragraphs[-1].lstrip("*_# ")) is not None


def share_unigrams(text: str, other: str) -> float:
    """Words that both have, counted as often as both have them, over their mean number (0..1)."""
    mine, theirs = Counter(_words(text)), Counter(_words(other))
    total = mine.total() + theirs.total()
    return 2 * (mine & theirs).total() / total if total else 1.0


def is_authoritative(text: str) -> bool:
    """Whether the text sounds sure of itself: a proxy by words, which knows nothing of its truth.

    It has at least three words, ends as a finished statement or a list does and holds no hedge
    ("maybe", "I think", "not sure") and no apology. The study asked GPT-4 instead.
    """
    said = text.strip()
    last_line = said.rsplit("\n", 1)[-1]
    is_finished = _TERMINAL.search(said) is not None or _ITEM.match(last_line) is not None
    return len(_words(said)) >= 3 and is_finished and _HEDGE.search(said.replace("’", "'")) is None


def _columns(row: Row, answers: Sequence[str], teacher: Sequence[str]) -> list[list[float]]:
    """What the row's statistic takes, one list an argument; empty where no question applies."""
    pairs = list(zip(answers, teacher, strict=True))
    match row:
        case "lists":
            found = [float(has_list(a)) for a, t in pairs if has_list(t)]
        case "summary":
            found = [float(has_summary(a)) for a, t in pairs if has_summary(t)]
        case "unigrams":
            found = [share_unigrams(a, t) for a, t in pairs]
        case "tone":
            found = [float(is_authoritative(a)) for a, _ in pairs]
        case "length":
            lengths = [(float(len(_words(a))), float(len(_words(t)))) for a, t in pairs]
            return [list(column) for column in zip(*lengths, strict=True)]
    return [found] if found else []


def _correlates(columns: Sequence[Sequence[float]]) -> bool:
    """Whether Pearson's r exists: three points, none of the columns constant."""
    return len(columns[0]) >= 3 and all(len(set(column)) > 1 for column in columns)


def _mean(values: Array) -> Array:
    return np.asarray(values.mean(-1))


def _correlate(x: Array, y: Array) -> Array:
    """Pearson's r along the last axis; 0 where a resample drew one length only."""
    x, y = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
    scale = np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    return np.asarray(np.where(scale > 0, (x * y).sum(-1) / np.where(scale > 0, scale, 1.0), 0.0))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
