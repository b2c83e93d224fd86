"""Instances of an instruction, read from a teacher's reply and sifted."""

from __future__ import annotations

import re

from models.imitation.collecting.blocks import Task
from models.imitation.collecting.prompts import NO_INPUT
from models.imitation.collecting.teacher import TeacherReply

MAX_INSTANCES = 5

_EXAMPLE = re.compile(r"^[ \t]*Example[ \t]*\d*[ \t]*[.:]?[ \t]*$", re.MULTILINE | re.IGNORECASE)
_OUTPUT = re.compile(r"^[ \t]*Output[ \t]*\d*[ \t]*:", re.MULTILINE | re.IGNORECASE)
_INPUT = re.compile(r"^[ \t]*Input[ \t]*\d*[ \t]*:", re.MULTILINE | re.IGNORECASE)
_TASK = re.compile(r"^[ \t]*Task[ \t]*:.*$", re.MULTILINE | re.IGNORECASE)
_LABEL = re.compile(r"^[ \t]*Label[ \t]*\d*[ \t]*:", re.MULTILINE | re.IGNORECASE)


def read_input_first(instruction: str, reply: TeacherReply) -> list[Task]:
    """The examples of a task, input before output; the last of a cut reply is left out."""
    tasks = []
    for item in _EXAMPLE.split(_only_task(reply.text)):
        before, *outputs = _OUTPUT.split(item, maxsplit=1)
        if not outputs:
            continue
        # Where a second pair follows without a head of its own, the first is kept.
        output = _INPUT.split(_OUTPUT.split(outputs[0], maxsplit=1)[0], maxsplit=1)[0]
        given = _INPUT.split(before, maxsplit=1)[-1] if _INPUT.search(before) else ""
        tasks.append(_to_task(instruction, given, output))
    return tasks[:-1] if reply.is_cut else tasks


def read_output_first(instruction: str, reply: TeacherReply) -> list[Task]:
    """The examples of a classification task, label before input; as above where it is cut."""
    tasks = []
    for item in _LABEL.split(_only_task(reply.text))[1:]:
        label, _, rest = item.strip().partition("\n")
        given = _INPUT.split(rest, maxsplit=1)[-1]
        tasks.append(_to_task(instruction, given, label))
    return tasks[:-1] if reply.is_cut else tasks


def sift(tasks: list[Task]) -> tuple[list[Task], dict[str, int]]:
    """The instances worth keeping, at most `MAX_INSTANCES`, and how many fell to which rule.

    Self-Instruct's rules: no output, output equal to input, a colon at the end of either (it was
    to go on); one input with two outputs spoils all instances; each instance stands once.
    """
    kept: list[Task] = []
    dropped: dict[str, int] = {}
    for task in tasks:
        reason = _reason(task) or ("instance_duplicate" if task in kept else None)
        if reason is None:
            kept.append(task)
        else:
            dropped[reason] = dropped.get(reason, 0) + 1
    inputs = [task.input for task in kept if task.input]
    if len(set(inputs)) < len(inputs):
        dropped["instance_ambiguous"] = len(kept)
        kept = []
    if len(kept) > MAX_INSTANCES:
        dropped["instance_surplus"] = len(kept) - MAX_INSTANCES
    return kept[:MAX_INSTANCES], dropped


def _reason(task: Task) -> str | None:
    if not task.output:
        return "instance_empty"
    if task.input == task.output:
        return "instance_echo"
    if task.input.endswith(":") or task.output.endswith(":"):
        return "instance_unfinished"
    return None


def _only_task(text: str) -> str:
    """`text` without the task that it repeats in front, and without further tasks behind."""
    parts = [part for part in _TASK.split(text, maxsplit=2) if part.strip()]
    return parts[0] if parts else ""


def _to_task(instruction: str, given: str, output: str) -> Task:
    given = given.strip()
    return Task(instruction, "" if given.lower() == NO_INPUT else given, output.strip())
