"""A KV cache of Python objects and jobs that know their answers, for tests of who holds what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from models.batch import Run
from models.context import Context
from models.drawing import Logits
from models.errors import ModelError
from models.jobs import Job
from models.scheduler import Scheduler
from models.scoring import ScoreJob
from models.shelf import Shelf
from models.slots import SlotTable
from models.turns import Turns
from models.vocabulary import TokenIds

NUM_VOCAB = 4


class SavedCells(dict[int, list[int]]):
    """A state: cells by their positions, a byte each."""

    @property
    def nbytes(self) -> int:
        return len(self)


class Cells:
    """Counts cells as a unified cache does: shared cells once.

    A cell is a list of its one token, so that copies are told from shares.
    """

    def __init__(self, num_cells: int) -> None:
        self.num_cells = num_cells
        self.can_compact = True
        self.held: dict[int, dict[int, list[int]]] = {}

    def copy_range(self, source: int, target: int, start: int, end: int) -> None:
        from_cells, to_cells = self.held[source], self.held.setdefault(target, {})
        for position in range(start, end):
            assert position not in to_cells, "a sequence has two cells for one position"
            to_cells[position] = from_cells[position]

    def copy_prefix(self, source: int, target: int, num_tokens: int) -> None:
        self.copy_range(source, target, 0, num_tokens)

    def drop_range(self, sequence: int, start: int, end: int) -> None:
        for position in range(start, end):
            del self.held[sequence][position]

    def truncate(self, sequence: int, num_tokens: int) -> None:
        cells = self.held.get(sequence, {})
        self.held[sequence] = {p: cell for p, cell in cells.items() if p < num_tokens}

    def drop(self, sequence: int) -> None:
        self.held.pop(sequence, None)

    def save(self, sequence: int) -> SavedCells:
        return SavedCells({at: [*cell] for at, cell in self.held[sequence].items()})

    def restore(self, sequence: int, state: SavedCells) -> bool:
        assert not self.held.get(sequence), "a state is restored into a sequence that holds cells"
        self.held[sequence] = {position: [*cell] for position, cell in state.items()}
        assert self.num_used <= self.num_cells, "a restored state found no cells"
        return True

    def fill(self, sequence: int, position: int, tokens: Sequence[int]) -> None:
        """Compute tokens as a decode does: they see all that stands in front of them."""
        cells = self.held.setdefault(sequence, {})
        assert sorted(cells) == list(range(position)), "a token is computed behind a gap"
        for offset, token in enumerate(tokens):
            cells[position + offset] = [int(token)]
        assert self.num_used <= self.num_cells, "a step ran out of cells"

    def tokens(self, sequence: int) -> list[int]:
        cells = self.held.get(sequence, {})
        return [cells[position][0] for position in sorted(cells)]

    @property
    def num_used(self) -> int:
        return len({id(cell) for cells in self.held.values() for cell in cells.values()})


class ScriptedJob(Job):
    """Answers what it is told to, a token a step."""

    def __init__(self, prompt: Sequence[int], answer: Sequence[int]) -> None:
        super().__init__(prompt, len(prompt) + len(answer))
        self.answer: TokenIds = np.array(answer, dtype=np.int32)
        self.num_answered = 0
        self.error: ModelError | None = None
        self.was_cancelled = False

    @property
    def is_answering(self) -> bool:
        return not self.is_prefilling

    @property
    def computed(self) -> TokenIds:
        return np.concatenate([self.prompt[: self.num_prefilled], self.answer[: self.num_answered]])

    def _next_runs(self, max_tokens: int, max_outputs: int) -> list[Run]:
        token = self.answer[self.num_answered : self.num_answered + 1]
        position = len(self.prompt) + self.num_answered
        return [Run(self, self.held_slot.sequence, position, token, 1)]

    def _absorb_prompt(self, logits: Logits) -> bool:
        return not len(self.answer)

    def _absorb(self, run: Run, logits: Logits) -> bool:
        self.num_answered += 1
        return self.num_answered == len(self.answer)

    def cancel(self) -> None:
        self.was_cancelled = True

    def fail(self, error: ModelError) -> None:
        self.error = error


class House:
    """Cells, slots and a scheduler, with the engine's loop around them."""

    def __init__(
        self, *, num_cells: int, num_sequences: int, num_slots: int, chunk_tokens: int,
        max_waiting: int = 100, kept_cells: int | None = None, can_share: bool = True,
        turns: Turns | None = None, shelf_tokens: int | None = None,
    ) -> None:  # fmt: skip
        self.cells = Cells(num_cells)
        self.num_sequences, self.num_slots = num_sequences, num_slots
        self.chunk_tokens = chunk_tokens
        kept = num_cells if kept_cells is None else kept_cells
        holder = cast(Context, self.cells)
        self.shelf = Shelf(holder, shelf_tokens, least_tokens=2) if shelf_tokens else None
        self.slots = SlotTable(holder, num_sequences, kept, can_share=can_share, shelf=self.shelf)
        self.scheduler = Scheduler(
            self.slots, num_slots=num_slots, max_waiting=max_waiting, chunk_tokens=chunk_tokens,
            turns=turns,
        )  # fmt: skip
        self.num_computed = 0

    def score_job(self, prompt: Sequence[int], texts: Sequence[Sequence[int]]) -> ScoreJob:
        spare = self.num_sequences - self.num_slots
        job = ScoreJob(prompt, texts, spare, self.cells.num_cells)
        job.bind(self.cells.copy_prefix, self.cells.drop)
        return job

    def step(self) -> list[Run]:
        """Schedule, run and postprocess; what was run."""
        runs = self.scheduler.schedule(self.chunk_tokens + self.num_slots, 1000)
        assert runs or not self.scheduler.num_running, "a step was idle"
        for run in runs:
            self.cells.fill(run.sequence, run.position, run.tokens.tolist())
            self.num_computed += len(run.tokens)
            known = run.job.prompt[: run.position].tolist()
            assert self.cells.tokens(run.sequence)[: len(known)] == known
        ended: set[int] = set()
        for run in runs:
            logits = np.zeros((run.num_outputs, NUM_VOCAB), dtype=np.float32)
            if run.job.absorb(run, logits):
                ended.add(id(run.job))
                self.scheduler.finish(run.job)
        return runs

    def run_all(self, max_steps: int = 10_000) -> list[list[Run]]:
        """Step until nothing is left to do."""
        steps = []
        while self.scheduler.has_work:
            steps.append(self.step())
            assert len(steps) < max_steps, "somebody starves"
        return steps

    def assert_counts(self) -> None:
        """The table's books agree with the cache."""
        slots, cells = self.slots, self.cells
        promised, kept = slots.num_promised_cells, slots.num_kept_cells
        assert promised + kept <= cells.num_cells
        assert cells.num_used <= promised + kept
        assert kept <= slots.max_kept_cells or slots.slots
        held = {slot.sequence for slot in slots.slots}
        held |= {sequence for slot in slots.slots for sequence in slot.spare_sequences}
        assert {sequence for sequence, own in cells.held.items() if own} <= held | set(
            slots.kept_sequences
        )
        for sequence, node in slots.kept.ends.items():
            path = [*node.path()][::-1]
            tokens = [token for step in path for token in step.tokens.tolist()]
            assert cells.tokens(sequence) == tokens
            assert not node.num_pins
            assert not node.children
        if not slots.slots:
            assert cells.num_used == kept
        for saved, state in self.shelf._states.values() if self.shelf else ():
            assert [state[place][0] for place in sorted(state)] == saved.tolist()
        assert sorted([*slots.kept.free, *slots.kept.ends, *held]) == list(
            range(self.num_sequences)
        )

    def assert_empty(self) -> None:
        """Nothing is left once everything is dropped."""
        self.slots.forget_all()
        assert not self.shelf
        assert not any(self.cells.held.values())
        assert sorted(self.slots.kept.free) == list(range(self.num_sequences))
        assert self.slots.tree.num_tokens == self.slots.num_promised_cells == 0
