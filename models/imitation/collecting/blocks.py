"""Lists of solved tasks as a teacher writes them: `### Task 4`, then instruction, input, output."""

from __future__ import annotations

import re
from dataclasses import dataclass

from models.imitation.collecting.prompts import NO_INPUT
from models.imitation.collecting.screening import to_line
from models.imitation.collecting.teacher import TeacherReply

_HEAD = re.compile(r"^[ \t]*#+[ \t]*Task[ \t]+\d+[ \t]*[.:]?[ \t]*$", re.MULTILINE | re.IGNORECASE)
_PARTS = re.compile(
    r"\s*Instruction:(?P<instruction>.*?)^[ \t]*Input:(?P<input>.*?)^[ \t]*Output:(?P<output>.*)",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Task:
    """A task with its solution; `input` may be empty."""

    instruction: str
    input: str
    output: str

    @property
    def question(self) -> str:
        """Instruction and input as one message."""
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction


def read_tasks(reply: TeacherReply) -> tuple[list[Task], int]:
    """The tasks of a list, and how many of its items are none; the last of a cut list is left out.

    Text before the first head is no item, unless the reply goes on right where the prompt ended.
    """
    before, *items = _HEAD.split(reply.text)
    if "Instruction:" in before or not items:
        items.insert(0, before)
    if reply.is_cut:
        items.pop()
    tasks = [_read_task(item) for item in items]
    return [task for task in tasks if task is not None], tasks.count(None)


def _read_task(item: str) -> Task | None:
    found = _PARTS.match(item)
    if found is None:
        return None
    instruction = to_line(found["instruction"]).rstrip(":")
    given, output = found["input"].strip(), found["output"].strip()
    if not instruction or not output:
        return None
    is_empty = given.lower() in ("", NO_INPUT, "none", "n/a", "<noinput>")
    return Task(instruction, "" if is_empty else given, output)
