"""Mode `narrow`: five random seeds of one task in a prompt, more examples of that task."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from models.imitation.collecting.blocks import read_tasks
from models.imitation.collecting.prompts import NARROW_VERSION, list_examples
from models.imitation.collecting.screening import to_line
from models.imitation.collecting.seeds import Seed, SeedSet
from models.imitation.collecting.teacher import TeacherRequest
from models.imitation.collecting.types import Asking, Draft

NUM_SEEDS = 5
NUM_NEW = 5
PROMPTS_PER_ROUND = 16


class NarrowMode:
    """Imitation of one task, as NQ-synthetic in "The False Promise" (arXiv 2305.15717) was made.

    Only equal examples are dropped: in a narrow task two good questions may differ in one word.
    Source: SEEDS, 5 random seeds for each prompt.
    """

    name = "narrow"
    prompt_version = NARROW_VERSION

    def __init__(self, seeds: SeedSet, seed: int, description: str | None = None) -> None:
        self._seeds = seeds
        self._seed = seed
        self._description = description

    @property
    def plan(self) -> Mapping[str, Any]:
        return {
            "seed": self._seed,
            "seeds": self._seeds.digest,
            "description": self._description,
        }

    def drafts(self, run: Asking) -> Iterator[Draft]:
        known = {_key(s.instruction, s.input) for s in self._seeds.seeds}
        numbers = count()
        while True:
            num_prompts = min(PROMPTS_PER_ROUND, -(-run.num_wanted // NUM_NEW))
            shown = [self._sample(next(numbers)) for _ in range(num_prompts)]
            answers = run.ask([self._to_request(seeds) for seeds in shown])
            for seeds, answer in zip(shown, answers, strict=False):
                tasks, num_bad = read_tasks(answer.reply)
                for _ in range(num_bad):
                    run.drop("unreadable")
                for task in tasks:
                    key = _key(task.instruction, task.input)
                    if key in known:
                        run.drop("duplicate")
                        continue
                    known.add(key)
                    yield Draft(
                        task.question, task.output, answer, tuple(seed.id for seed in seeds)
                    )

    def _sample(self, number: int) -> list[Seed]:
        chance = random.Random(f"{self._seed}/narrow/{number}")
        return chance.sample(self._seeds.seeds, NUM_SEEDS)

    def _to_request(self, seeds: list[Seed]) -> TeacherRequest:
        return TeacherRequest(
            list_examples(seeds, NUM_NEW, self._description),
            max_tokens=2048,
            temperature=1.0,
            top_p=1.0,
            stop=(f"### Task {NUM_SEEDS + NUM_NEW + 1}",),
        )


def _key(instruction: str, given: str) -> str:
    return to_line(f"{instruction}\n{given}").lower()
