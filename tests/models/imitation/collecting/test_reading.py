"""What is read from a teacher's text, and which instructions and instances are kept."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.imitation.collecting.blocks import Task, read_tasks
from models.imitation.collecting.instances import read_input_first, read_output_first, sift
from models.imitation.collecting.screening import (
    ALPACA_WORDS,
    SELF_INSTRUCT_WORDS,
    InstructionScreen,
)
from models.imitation.collecting.self_instruct import read_instructions
from models.imitation.collecting.teacher import TeacherReply

WORD = st.text("abcdefghij", min_size=1, max_size=8)
quick = settings(max_examples=30, deadline=None)
LINE = st.lists(WORD, min_size=1, max_size=6).map(" ".join)


def reply(text: str, finish_reason: str = "stop") -> TeacherReply:
    return TeacherReply(text, finish_reason, "m", "h", 0, 1, 1)


@quick
@given(st.lists(st.tuples(LINE, LINE, LINE), min_size=1, max_size=6), st.booleans())
def test_a_list_of_tasks_is_read_as_it_was_written(
    items: Sequence[tuple[str, str, str]], is_cut: bool
) -> None:
    text = "Here they are.\n" + "\n\n".join(
        f"### Task {number}\nInstruction: {i}\nInput:\n{g}\nOutput: {o}\n{o}"
        for number, (i, g, o) in enumerate(items, 4)
    )
    tasks, num_bad = read_tasks(reply(text, "length" if is_cut else "stop"))
    expected = [Task(i, g, f"{o}\n{o}") for i, g, o in items]
    assert tasks == (expected[:-1] if is_cut else expected)
    assert num_bad == 0


def test_a_list_may_go_on_where_the_prompt_ended() -> None:
    text = "Instruction: Sing a song.\nInput: <NONE>\nOutput: La.\n## Task 5.\nOutput: alone"
    assert read_tasks(reply(text)) == ([Task("Sing a song.", "", "La.")], 1)
    assert read_tasks(reply("Sorry, I cannot do that.")) == ([], 1)
    assert read_tasks(reply("", "length")) == ([], 0)


@quick
@given(st.lists(LINE, max_size=8))
def test_a_numbered_list_is_read_item_by_item(items: list[str]) -> None:
    text = "Sure:\n" + "\n".join(f"{n}. {item}\n  more" for n, item in enumerate(items, 9))
    assert read_instructions(reply(text)) == [f"{item[0].upper()}{item[1:]} more" for item in items]


@quick
@given(st.lists(st.tuples(st.one_of(st.just(""), LINE), LINE), min_size=1, max_size=7))
def test_instances_are_read_in_both_orders(pairs: Sequence[tuple[str, str]]) -> None:
    input_first = "\n".join(
        f"Example {n}\n" + (f"Input: {given}\n" if given else "") + f"Output: {output}"
        for n, (given, output) in enumerate(pairs, 1)
    )
    output_first = "\n".join(f"Label: {output}\nInput: {given}" for given, output in pairs)
    expected = [Task("t", given, output) for given, output in pairs]
    assert read_input_first("t", reply(input_first)) == expected
    assert read_output_first("t", reply(output_first)) == expected
    assert read_input_first("t", reply(input_first, "length")) == expected[:-1]
    assert read_output_first("t", reply(output_first, "length")) == expected[:-1]


def test_further_tasks_and_pairs_behind_an_instance_are_left_out() -> None:
    text = "Task: t\nExample 1\nInput: a\nOutput: b\nInput: c\nOutput: d\nTask: u\nOutput: e"
    assert read_input_first("t", reply(text)) == [Task("t", "a", "b")]
    assert read_input_first("t", reply("I do not know.")) == []
    assert read_output_first("t", reply("Input: a")) == []


def make(*pairs: tuple[str, str]) -> list[Task]:
    return [Task("t", given, output) for given, output in pairs]


@pytest.mark.parametrize(
    ("pairs", "kept", "reason"),
    [
        ([("a", "a"), ("b", "c")], [("b", "c")], "instance_echo"),
        ([("a", ""), ("b", "c")], [("b", "c")], "instance_empty"),
        ([("a:", "x"), ("b", "c")], [("b", "c")], "instance_unfinished"),
        ([("a", "x:"), ("b", "c")], [("b", "c")], "instance_unfinished"),
        ([("a", "x"), ("a", "x")], [("a", "x")], "instance_duplicate"),
        ([("a", "x"), ("b", "c"), ("a", "y")], [], "instance_ambiguous"),
        ([(str(n), "x") for n in range(7)], [(str(n), "x") for n in range(5)], "instance_surplus"),
    ],
)
def test_instances_that_teach_nothing_are_dropped(
    pairs: list[tuple[str, str]], kept: list[tuple[str, str]], reason: str
) -> None:
    found, dropped = sift(make(*pairs))
    assert found == make(*kept)
    assert list(dropped) == [reason]
    assert len(found) + sum(dropped.values()) == len(pairs)


def test_several_outputs_without_an_input_are_no_contradiction() -> None:
    pairs = make(("", "a haiku"), ("", "another haiku"))
    assert sift(pairs) == (pairs, {})


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("one two three", "instruction_length"),
        ("one two three four", None),
        (" ".join(["word"] * 150), None),
        (" ".join(["word"] * 151), "instruction_length"),
        ("Describe the Pictures of the ship", "instruction_keyword"),
        ("Please go to the shop now", "instruction_keyword"),
        ("Describe a cartographer's plotting of paragraphs", None),
        ("write a program that adds", "instruction_program"),
        ("Write about a program that adds", None),
        ("- list all the ships", "instruction_start"),
        ("éplucher des pommes de terre", "instruction_start"),
    ],
)
def test_the_form_of_an_instruction(instruction: str, reason: str | None) -> None:
    assert InstructionScreen([], SELF_INSTRUCT_WORDS).refuse(instruction) == reason


def test_rouge_above_seven_tenths_is_refused_and_at_it_kept() -> None:
    known = "a b c d e f g h i j"
    same = "a b c d e f g x y z"  # 7 of 10 tokens in order: F is 0.7
    assert InstructionScreen([known], SELF_INSTRUCT_WORDS).refuse(same) is None
    assert (
        InstructionScreen([known], SELF_INSTRUCT_WORDS).refuse("a b c d e f g h y z")
        == "instruction_similar"
    )
    screen = InstructionScreen([], SELF_INSTRUCT_WORDS)
    assert screen.refuse(known) is None
    assert screen.refuse(known) == "instruction_similar"


def test_the_lists_of_words_are_those_of_the_two_systems() -> None:
    assert len(ALPACA_WORDS) == 18
    assert set(ALPACA_WORDS) - set(SELF_INSTRUCT_WORDS) == {
        "video",
        "audio",
        "music",
        "flowchart",
        "diagram",
    }
