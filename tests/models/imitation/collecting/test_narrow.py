from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.imitation.collecting.narrow import NarrowMode
from tests.models.imitation.collecting.runs import collect, make_seeds, read
from tests.models.imitation.collecting.scripted_teacher import (
    ScriptedTeacher,
    prompt_of,
    running,
    say_anything,
)

SEEDS = make_seeds(12)


def test_five_random_seeds_of_the_task_are_shown(tmp_path: Path) -> None:
    with running(ScriptedTeacher(say_anything)) as teacher:
        summary = collect(
            teacher, NarrowMode(SEEDS, 1, "answer\nabout things"), tmp_path / "rows", num_rows=40
        )
    # 40 rows at four a prompt: a round of 8, then one prompt for each missing five.
    assert summary.num_requests == len(teacher.bodies) == 10
    shown_by_all = set()
    for body in teacher.bodies:
        assert {name: value for name, value in body.items() if name != "messages"} == {
            "model": "teacher",
            "max_tokens": 2048,
            "temperature": 1.0,
            "top_p": 1.0,
            "stop": ["### Task 11"],
        }
        shown = re.findall(r"Instruction: Seed question number(\d+) ", prompt_of(body))
        assert len(set(shown)) == 5
        assert "The task: answer about things" in prompt_of(body)
        assert "examples 6 to 10" in prompt_of(body)
        shown_by_all |= set(shown)
    assert len(shown_by_all) == 12
    for row in read(tmp_path / "rows"):
        assert len(row.provenance["seed_ids"]) == 5


def test_equal_examples_are_dropped_and_like_ones_kept(tmp_path: Path) -> None:
    def say(body: Mapping[str, Any]) -> str:
        return "\n".join(
            f"### Task {number}\nInstruction: {instruction}\nInput: {given}\nOutput: yes"
            for number, (instruction, given) in enumerate(
                [
                    ("who won the cup in 1998", "<none>"),
                    ("who won the cup in 2002", "<none>"),
                    ("Who won  the cup in 1998", "<none>"),
                    ("who won the cup in 1998", "a table"),
                    ("Seed question number3 about thing3 please", "given3"),
                ],
                6,
            )
        )

    with running(ScriptedTeacher(say)) as teacher:
        summary = collect(
            teacher, NarrowMode(SEEDS, 1), tmp_path / "rows", max_requests=1, num_rows=9
        )
    assert [row.turns[0].content for row in read(tmp_path / "rows")] == [
        "who won the cup in 1998",
        "who won the cup in 2002",
        "who won the cup in 1998\n\na table",
    ]
    assert summary.dropped == {"duplicate": 2}
