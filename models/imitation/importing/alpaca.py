"""Rows of the Alpaca format: an instruction, an optional input for it, and the output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.imitation.conversations import Turn
from models.imitation.errors import TrainingDataInvalid
from models.imitation.importing.report import Drop


def read_turns(row: Mapping[str, Any]) -> tuple[Turn, ...] | Drop:
    """Return question and answer, the input after a blank line; `system` becomes a system turn.

    Raises `TrainingDataInvalid` where the row is not of this format.
    """
    instruction, given, output = row.get("instruction"), row.get("input"), row.get("output")
    if not isinstance(instruction, str) or not isinstance(output, str):
        raise TrainingDataInvalid("no texts `instruction` and `output`")
    if given is not None and not isinstance(given, str):
        raise TrainingDataInvalid("`input` is not a text")
    system = row.get("system")
    if system is not None and not isinstance(system, str):
        raise TrainingDataInvalid("`system` is not a text")
    question = "\n\n".join(part for part in (instruction.strip(), (given or "").strip()) if part)
    answer = output.strip()
    if not question or not answer:
        return Drop("empty turn")
    first = (Turn("system", system.strip()),) if system and system.strip() else ()
    return (*first, Turn("user", question), Turn("assistant", answer))
