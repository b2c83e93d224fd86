"""Mode `alpaca`: three seeds in a prompt, a list of 20 tasks with one instance each."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from models.imitation.collecting.blocks import read_tasks
from models.imitation.collecting.prompts import ALPACA_VERSION, NUM_ALPACA, list_tasks
from models.imitation.collecting.screening import ALPACA_WORDS, InstructionScreen
from models.imitation.collecting.seeds import Seed, SeedSet
from models.imitation.collecting.teacher import TeacherRequest
from models.imitation.collecting.types import Asking, Draft

NUM_SEEDS = 3
PROMPTS_PER_ROUND = 5


class AlpacaMode:
    """Alpaca's steps: seeds are always written by people, and there is no step for classes.

    An instruction is kept if it passes the 18 forbidden words and the ROUGE rule against all
    seeds and all that were kept before it. Source: tatsu-lab/stanford_alpaca, as SEEDS gives it.
    """

    name = "alpaca"
    prompt_version = ALPACA_VERSION

    def __init__(self, seeds: SeedSet, seed: int) -> None:
        self._seeds = seeds
        self._seed = seed

    @property
    def plan(self) -> Mapping[str, Any]:
        return {"seed": self._seed, "seeds": self._seeds.digest}

    def drafts(self, run: Asking) -> Iterator[Draft]:
        screen = InstructionScreen((s.instruction for s in self._seeds.seeds), ALPACA_WORDS)
        for round_number in count():
            shown = [self._sample(round_number, place) for place in range(PROMPTS_PER_ROUND)]
            answers = run.ask([to_request(seeds) for seeds in shown])
            for seeds, answer in zip(shown, answers, strict=False):
                tasks, num_bad = read_tasks(answer.reply)
                for _ in range(num_bad):
                    run.drop("unreadable")
                for task in tasks:
                    reason = screen.refuse(task.instruction)
                    if reason is None:
                        ids = tuple(seed.id for seed in seeds)
                        yield Draft(task.question, task.output, answer, ids)
                    else:
                        run.drop(reason)

    def _sample(self, round_number: int, place: int) -> list[Seed]:
        chance = random.Random(f"{self._seed}/alpaca/{round_number}/{place}")
        return chance.sample(self._seeds.seeds, NUM_SEEDS)


def to_request(seeds: list[Seed]) -> TeacherRequest:
    """The request for a list that begins with `seeds`."""
    return TeacherRequest(
        list_tasks(seeds),
        max_tokens=3072,
        temperature=1.0,
        top_p=1.0,
        stop=(f"### Task {NUM_ALPACA + 1}",),
    )
