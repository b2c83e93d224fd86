"""Comparisons of two systems with telling names, and judgements of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.imitation.judging.answers import Answered
from models.imitation.judging.judgements import Choice, Judgement, JudgementLog, Outcome, choice_of
from models.imitation.judging.pairs import Comparison, Pair, Role, make_comparison
from tests.models.imitation.collecting.scripted_teacher import prompt_of

SYSTEM = "quetzal-net"
BASELINE = "Zorblax"


def make_answers(role: Role, num: int) -> dict[str, Answered]:
    """Answers that end in a mark of their system; those of the system are two words longer."""
    mark = "One more word: pomelo." if role == "system" else "A word: medlar."
    return {
        f"q{number}": Answered(f"What is number {number}?", f"It is {number}. {mark}")
        for number in range(num)
    }


def compare(num: int, seed: int = 0, **options: Any) -> Comparison:
    names: dict[Role, str] = {"system": SYSTEM, "baseline": BASELINE}
    answers: dict[Role, dict[str, Answered]] = {
        "system": make_answers("system", num),
        "baseline": make_answers("baseline", num),
    }
    return make_comparison(names, answers, seed=seed, **options)


def judge(
    comparison: Comparison, folder: Path, rater: str, outcomes: Sequence[Outcome | None]
) -> None:
    """Keep outcomes of the first pairs, on the sides on which they stand; None passes one over."""
    with JudgementLog(folder) as log:
        for time_s, (pair, outcome) in enumerate(zip(comparison.pairs, outcomes, strict=False)):
            if outcome is not None:
                assert log.add(make_judgement(pair, rater, outcome, time_s))


def make_judgement(pair: Pair, rater: str, outcome: Outcome, time_s: int = 0) -> Judgement:
    choice: Choice
    match outcome:
        case "win":
            choice = choice_of("system", pair.sides)
        case "loss":
            choice = choice_of("baseline", pair.sides)
        case _:
            choice = outcome
    return Judgement(pair.id, rater, choice, pair.sides, time_s)


def find_asked(body: Mapping[str, Any]) -> tuple[str, str, str]:
    """Question, answer A and answer B of a judge's prompt."""
    found = re.search(
        r"--- question ---\n(.*)\n--- end of the question ---\n\n"
        r"--- answer A ---\n(.*)\n--- end of answer A ---\n\n"
        r"--- answer B ---\n(.*)\n--- end of answer B ---",
        prompt_of(body),
        re.DOTALL,
    )
    assert found is not None
    return found[1], found[2], found[3]


def say_first(body: Mapping[str, Any]) -> str:
    """The verdict of a judge that sees nothing but the place."""
    return "The first one reads well. [[A]]"


def say_pomelo(body: Mapping[str, Any]) -> str:
    """The verdict of a judge that knows the system's mark, on whichever side it stands."""
    _, a, _ = find_asked(body)
    return f"Fruit decides. [[{'A' if 'pomelo' in a else 'B'}]]"
