"""Mode `self-instruct`: new instructions from old ones, then a class, then instances."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from models.imitation.collecting.instances import (
    MAX_INSTANCES,
    read_input_first,
    read_output_first,
    sift,
)
from models.imitation.collecting.prompts import (
    NUM_LISTED,
    SELF_INSTRUCT_VERSION,
    ask_classification,
    ask_input_first,
    ask_output_first,
    list_instructions,
)
from models.imitation.collecting.screening import (
    SELF_INSTRUCT_WORDS,
    InstructionScreen,
    to_line,
)
from models.imitation.collecting.seeds import SeedSet
from models.imitation.collecting.teacher import TeacherReply, TeacherRequest
from models.imitation.collecting.types import Answer, Asking, Draft

NUM_SHOWN = 8
NUM_MACHINE = 2
PROMPTS_PER_ROUND = 5
# Instructions that are classified, then given instances, together.
GROUP_SIZE = 8

_NUMBER = re.compile(r"^[ \t]*\d+[ \t]*[.)][ \t]+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Instruction:
    """An accepted instruction: who wrote it, from which examples."""

    id: str
    text: str
    number: int
    shown_ids: tuple[str, ...]


class SelfInstructMode:
    """Self-Instruct's steps and constants; a round is 5 prompts, then its instructions in groups.

    `seed_ids` of a row names the instructions that its prompt showed, the machine's own ones by
    their ids `machine-N-K`. Source: yizhongw/self-instruct, as SEEDS gives it.
    """

    name = "self-instruct"
    prompt_version = SELF_INSTRUCT_VERSION

    def __init__(self, seeds: SeedSet, seed: int) -> None:
        self._seeds = seeds
        self._seed = seed

    @property
    def plan(self) -> Mapping[str, Any]:
        return {"seed": self._seed, "seeds": self._seeds.digest}

    def drafts(self, run: Asking) -> Iterator[Draft]:
        screen = InstructionScreen((s.instruction for s in self._seeds.seeds), SELF_INSTRUCT_WORDS)
        machine: list[_Instruction] = []
        for round_number in count():
            new = self._grow(run, screen, machine, round_number)
            machine += new
            for start in range(0, len(new), GROUP_SIZE):
                yield from _instantiate(run, new[start : start + GROUP_SIZE])

    def _grow(
        self,
        run: Asking,
        screen: InstructionScreen,
        machine: Sequence[_Instruction],
        round_number: int,
    ) -> list[_Instruction]:
        """The instructions that one round of prompts adds to the pool."""
        shown = [self._sample(machine, round_number, place) for place in range(PROMPTS_PER_ROUND)]
        answers = run.ask([to_request([text for _, text in examples]) for examples in shown])
        accepted = []
        for examples, answer in zip(shown, answers, strict=False):
            if answer.reply.is_cut:
                run.drop("instructions_cut")
                continue
            ids = tuple(id_ for id_, _ in examples)
            for place, text in enumerate(read_instructions(answer.reply)):
                reason = screen.refuse(text)
                if reason is None:
                    id_ = f"machine-{answer.number}-{place}"
                    accepted.append(_Instruction(id_, text, answer.number, ids))
                else:
                    run.drop(reason)
        return accepted

    def _sample(
        self, machine: Sequence[_Instruction], round_number: int, place: int
    ) -> list[tuple[str, str]]:
        """Ids and texts of 2 machine and 6 human instructions, shuffled; 8 human at the start."""
        chance = random.Random(f"{self._seed}/self-instruct/{round_number}/{place}")
        own = chance.sample(machine, min(NUM_MACHINE, len(machine)))
        human = chance.sample(self._seeds.seeds, NUM_SHOWN - len(own))
        examples = [(i.id, i.text) for i in own] + [(s.id, s.instruction) for s in human]
        chance.shuffle(examples)
        return examples


def _instantiate(run: Asking, group: Sequence[_Instruction]) -> Iterator[Draft]:
    """Classify the instructions of a group, ask for instances of each and yield them."""
    verdicts = run.ask([to_class_request(instruction.text) for instruction in group])
    classes = [says_yes(verdict.reply) for verdict in verdicts]
    classified = list(zip(group, verdicts, classes, strict=False))
    answers = run.ask([to_instance_request(i.text, is_class) for i, _, is_class in classified])
    for (instruction, verdict, is_class), answer in zip(classified, answers, strict=False):
        yield from _read_instances(run, instruction, verdict, answer, is_class)


def _read_instances(
    run: Asking, instruction: _Instruction, verdict: Answer, answer: Answer, is_class: bool
) -> Iterator[Draft]:
    read = read_output_first if is_class else read_input_first
    found = read(instruction.text, answer.reply)
    if not found:
        run.drop("instances_missing")
    tasks, dropped = sift(found)
    for reason, number in dropped.items():
        for _ in range(number):
            run.drop(reason)
    for task in tasks:
        yield Draft(
            task.question,
            task.output,
            answer,
            instruction.shown_ids,
            asked_before=(instruction.number, verdict.number),
            details={"instruction_id": instruction.id, "is_classification": is_class},
        )


def to_request(instructions: Sequence[str]) -> TeacherRequest:
    """The request for new instructions."""
    return TeacherRequest(
        list_instructions(instructions),
        max_tokens=1024,
        temperature=0.7,
        top_p=0.5,
        presence_penalty=2.0,
        stop=(f"\n{NUM_LISTED + 1}.",),
    )


def to_class_request(instruction: str) -> TeacherRequest:
    """The request whether an instruction is a classification task."""
    return TeacherRequest(ask_classification(instruction), max_tokens=3, temperature=0.0)


def to_instance_request(instruction: str, is_class: bool) -> TeacherRequest:
    """The request for instances: output first for classes, so that no label is left out."""
    return TeacherRequest(
        ask_output_first(instruction) if is_class else ask_input_first(instruction),
        max_tokens=300 if is_class else 350,
        temperature=0.0,
        presence_penalty=1.5,
        stop=() if is_class else (f"Example {MAX_INSTANCES + 1}",),
    )


def read_instructions(reply: TeacherReply) -> list[str]:
    """The items of a numbered list, each on one line; what stands before the first is no item."""
    items = (to_line(item) for item in _NUMBER.split(reply.text)[1:])
    return [item[0].upper() + item[1:] for item in items if item]


def says_yes(reply: TeacherReply) -> bool:
    """Whether the verdict begins with yes."""
    return reply.text.strip().lower().startswith("yes")
