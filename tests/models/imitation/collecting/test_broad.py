"""Modes `self-instruct` and `alpaca` against a scripted teacher."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from models.imitation.collecting.alpaca import AlpacaMode
from models.imitation.collecting.self_instruct import SelfInstructMode
from models.imitation.filtering.rouge import rouge_l
from tests.models.imitation.collecting.runs import collect, make_seeds, read
from tests.models.imitation.collecting.scripted_teacher import (
    ScriptedTeacher,
    prompt_of,
    running,
    say_anything,
)

SEEDS = make_seeds(175)
TASK = "### Task {}\nInstruction: {}\nInput: {}\nOutput: {}"


def parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    """All of a body but what it says."""
    return {name: value for name, value in body.items() if name != "messages"}


def shown_in(body: Mapping[str, Any]) -> list[str]:
    return re.findall(r"^\d+\. (.+)$", prompt_of(body), re.MULTILINE)


def stage(teacher: ScriptedTeacher, *max_tokens: int) -> list[dict[str, Any]]:
    return [body for body in teacher.bodies if body["max_tokens"] in max_tokens]


# Self-Instruct


def test_self_instruct_asks_as_the_paper_does(tmp_path: Path) -> None:
    with running(ScriptedTeacher(say_anything)) as teacher:
        summary = collect(
            teacher, SelfInstructMode(SEEDS, 1), tmp_path / "rows", max_requests=100, num_rows=10**6
        )
    assert summary.stopped_by == "max_requests"
    assert summary.num_requests == len(teacher.bodies) == 100
    growing, classes, instances = (stage(teacher, n) for n in (1024, 3, 300))
    instances += stage(teacher, 350)
    # A round: 5 prompts of 8 instructions each, then groups of 8, classified and instantiated.
    assert (len(growing), len(classes), len(instances)) == (10, 48, 42)
    for body in growing:
        assert parameters(body) == {
            "model": "teacher",
            "max_tokens": 1024,
            "temperature": 0.7,
            "top_p": 0.5,
            "presence_penalty": 2.0,
            "stop": ["\n17."],
        }
    for body in classes:
        assert parameters(body) == {"model": "teacher", "max_tokens": 3, "temperature": 0.0}
    for body in instances:
        is_class = body["max_tokens"] == 300
        assert body["temperature"] == 0.0
        assert body["presence_penalty"] == 1.5
        assert ("Label:" in prompt_of(body)) == is_class
        assert body.get("stop") == (None if is_class else ["Example 6"])


def test_prompts_show_eight_human_instructions_then_six_and_two_of_the_machine(
    tmp_path: Path,
) -> None:
    with running(ScriptedTeacher(say_anything)) as teacher:
        collect(
            teacher, SelfInstructMode(SEEDS, 1), tmp_path / "rows", max_requests=90, num_rows=10**6
        )
    human = {seed.instruction for seed in SEEDS.seeds}
    growing = stage(teacher, 1024)
    assert len(growing) == 10
    places = set()
    for number, body in enumerate(growing):
        shown = shown_in(body)
        assert len(set(shown)) == 8
        machine = [text for text in shown if text not in human]
        assert len(machine) == (0 if number < 5 else 2)
        places |= {shown.index(text) for text in machine}
    # Shuffled: the machine's own do not always stand at the same places.
    assert len(places) > 2


def test_a_class_is_instantiated_output_first_and_any_other_input_first(tmp_path: Path) -> None:
    def say(body: Mapping[str, Any]) -> str:
        if body["max_tokens"] == 3:
            return " yes." if "Amber" in prompt_of(body).rpartition("Task:")[2] else "No"
        if body["max_tokens"] == 1024:
            return "9. Amber anchor basil beacon cedar.\n10. Cobalt copper dune ember fern."
        if body["max_tokens"] == 300:
            return "Task: repeated\nLabel: heron\nInput: some reeds\nLabel: raven\nInput: a quill"
        return "Example 1\nInput: indigo\nOutput: linen\nExample 2\nOutput: maple"

    with running(ScriptedTeacher(say)) as teacher:
        collect(teacher, SelfInstructMode(SEEDS, 1), tmp_path / "rows", num_rows=4)
    rows = read(tmp_path / "rows")
    assert [[turn.content for turn in row.turns] for row in rows] == [
        ["Amber anchor basil beacon cedar.\n\nsome reeds", "heron"],
        ["Amber anchor basil beacon cedar.\n\na quill", "raven"],
        ["Cobalt copper dune ember fern.\n\nindigo", "linen"],
        ["Cobalt copper dune ember fern.", "maple"],
    ]
    assert [row.provenance["is_classification"] for row in rows] == [True, True, False, False]
    # Five prompts, two instructions of the first accepted, two classes, two lists of instances.
    assert [row.provenance["requests"] for row in rows] == [[0, 5, 7]] * 2 + [[0, 6, 8]] * 2


def test_a_list_that_was_cut_is_discarded_whole(tmp_path: Path) -> None:
    def say(body: Mapping[str, Any]) -> str | tuple[str, str]:
        text = say_anything(body)
        is_cut = body["max_tokens"] == 1024 and len(text) % 2
        return (text, "length") if is_cut else text

    with running(ScriptedTeacher(say)) as teacher:
        summary = collect(
            teacher, SelfInstructMode(SEEDS, 1), tmp_path / "rows", max_requests=60, num_rows=10**6
        )
    num_cut = sum(len(say_anything(body)) % 2 for body in stage(teacher, 1024))
    assert 0 < summary.dropped["instructions_cut"] == num_cut < len(stage(teacher, 1024))
    whole = [say_anything(b) for b in stage(teacher, 1024) if not len(say_anything(b)) % 2]
    for row in read(tmp_path / "rows"):
        instruction = row.turns[0].content.partition("\n")[0]
        assert any(instruction in text for text in whole)


def test_a_verdict_that_is_cut_counts(tmp_path: Path) -> None:
    """Three tokens always end by length where the model says more than Yes."""

    def say(body: Mapping[str, Any]) -> str | tuple[str, str]:
        return ("Yes, it", "length") if body["max_tokens"] == 3 else say_anything(body)

    with running(ScriptedTeacher(say)) as teacher:
        collect(teacher, SelfInstructMode(SEEDS, 1), tmp_path / "rows", num_rows=5)
    assert stage(teacher, 300)
    assert not stage(teacher, 350)


# Alpaca


def test_alpaca_asks_as_its_code_does(tmp_path: Path) -> None:
    with running(ScriptedTeacher(say_anything)) as teacher:
        summary = collect(teacher, AlpacaMode(SEEDS, 1), tmp_path / "rows", num_rows=50)
    assert summary.stopped_by == "num_rows"
    # Five prompts a round of four tasks each: the third round brings the 50th row.
    assert summary.num_requests == len(teacher.bodies) == 15
    assert len(read(tmp_path / "rows")) == 50
    human = {seed.instruction: seed for seed in SEEDS.seeds}
    for body in teacher.bodies:
        assert parameters(body) == {
            "model": "teacher",
            "max_tokens": 3072,
            "temperature": 1.0,
            "top_p": 1.0,
            "stop": ["### Task 21"],
        }
        prompt = prompt_of(body)
        shown = re.findall(r"Instruction: (.+)\nInput: (.+)\nOutput: (.+)", prompt)
        assert len(shown) == 3
        # Never machine ones, and each with its own input and output.
        assert all((human[i].input, human[i].output) == (g, o) for i, g, o in shown)
        assert "tasks 4 to 20" in prompt
    assert len({prompt_of(body) for body in teacher.bodies}) == 15


def test_alpaca_seeds_differ_by_seed_and_only_by_it(tmp_path: Path) -> None:
    asked = []
    for number, seed in enumerate((1, 1, 2)):
        with running(ScriptedTeacher(say_anything)) as teacher:
            collect(teacher, AlpacaMode(SEEDS, seed), tmp_path / str(number), num_rows=1)
        asked.append(sorted(prompt_of(body) for body in teacher.bodies))
    assert asked[0] == asked[1]
    assert not set(asked[0]) & set(asked[2])


def test_alpaca_keeps_what_no_filter_refuses(tmp_path: Path) -> None:
    texts = [
        "Amber anchor basil beacon cedar.",
        "Seed question number7 about thing7 please",  # a seed, verbatim
        "Amber anchor basil beacon cedar now.",  # like the first
        "Draw amber anchors with basil.",
        "Write a program that sorts basil.",
        "Too short it",
        "(Cobalt copper dune ember fern.)",
        "Éclair cobalt copper dune ember.",
        "Hum the music of cobalt dunes.",
        "Indigo jasper kelp lagoon lantern.",
        "Linen maple marble meadow mica cut",
    ]

    def say(body: Mapping[str, Any]) -> tuple[str, str]:
        items = [
            TASK.format(number, text, "<none>" if number % 2 else "reeds", f"answer {number}")
            for number, text in enumerate(texts, 4)
        ]
        return "\n\n".join([*items[:-1], "### Task 9\nsomething else", items[-1]]), "length"

    with running(ScriptedTeacher(say)) as teacher:
        summary = collect(
            teacher, AlpacaMode(SEEDS, 1), tmp_path / "rows", max_requests=5, num_rows=99
        )
    rows = read(tmp_path / "rows")
    assert [[turn.content for turn in row.turns] for row in rows] == [
        ["Amber anchor basil beacon cedar.\n\nreeds", "answer 4"],
        ["Indigo jasper kelp lagoon lantern.", "answer 13"],
    ]
    # The four other prompts got the same tasks, which were known then; the cut one never counts.
    assert summary.dropped == {
        "instruction_keyword": 10,
        "instruction_length": 5,
        "instruction_program": 5,
        "instruction_similar": 2 * 5 + 2 * 4,
        "instruction_start": 10,
        "unreadable": 5,
    }


@pytest.mark.parametrize("mode", [AlpacaMode, SelfInstructMode])
def test_no_kept_instruction_is_like_a_seed_or_another(mode: Any, tmp_path: Path) -> None:
    def say(body: Mapping[str, Any]) -> str:
        # Few words: many instructions resemble each other.
        return re.sub(r"\b[a-z]{3,}", lambda found: "abcd"[len(found[0]) % 4], say_anything(body))

    with running(ScriptedTeacher(say)) as teacher:
        summary = collect(
            teacher, mode(SEEDS, 3), tmp_path / "rows", max_requests=40, num_rows=10**6
        )
    assert summary.dropped["instruction_similar"] > 0
    kept = {row.turns[0].content.partition("\n")[0] for row in read(tmp_path / "rows")}
    texts = [*kept, *(seed.instruction for seed in SEEDS.seeds)]
    for place, text in enumerate(kept):
        assert max(rouge_l(text, other) for other in texts[place + 1 :]) <= 0.7
