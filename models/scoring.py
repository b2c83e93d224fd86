"""Scores texts as parallel continuations of one prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

from models.batch import Run
from models.drawing import Logits
from models.errors import ModelError
from models.jobs import Job
from models.protocols import ContinuationScore
from models.vocabulary import TokenIds

# copy_prefix(source, target, num_tokens) and drop(sequence) of the context.
CopyPrefix = Callable[[int, int, int], None]
Drop = Callable[[int], None]


class ScoreJob(Job):
    """Prefills a prompt once, then lets every continuation share its cells.

    Continuations are taken in groups of as many as there are spare sequences. All but the last
    token of each are computed, for the logits of its predecessor score a token.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        continuations: Sequence[Sequence[int]],
        max_spare: int,
        max_cells: int,
    ) -> None:
        self._continuations = [np.array(tokens, dtype=np.int32) for tokens in continuations]
        self._groups = self._group(max_spare, max_cells - len(prompt))
        self.num_spare_sequences = max(map(len, self._groups), default=0)
        largest = max((self._num_computed(group) for group in self._groups), default=0)
        super().__init__(prompt, len(prompt) + largest)
        self.result: Future[list[ContinuationScore]] = Future()
        self._copy_prefix: CopyPrefix | None = None
        self._drop: Drop | None = None
        self._sums = [0.0] * len(continuations)
        self._lasts = [0.0] * len(continuations)
        # Of the group being computed: sequence -> (continuation, tokens computed so far).
        self._branches: dict[int, tuple[int, int]] = {}

    def bind(self, copy_prefix: CopyPrefix, drop: Drop) -> None:
        """Give the job the two things it does to the KV cache between its groups."""
        self._copy_prefix, self._drop = copy_prefix, drop

    @property
    def num_branched(self) -> int:
        return sum(start for _, start in list(self._branches.values()))

    def _num_computed(self, group: Sequence[int]) -> int:
        return sum(len(self._continuations[i]) - 1 for i in group)

    def _group(self, max_members: int, max_cells: int) -> list[list[int]]:
        """Pack the continuations of two and more tokens; one token needs no cell at all."""
        groups: list[list[int]] = []
        for index, tokens in enumerate(self._continuations):
            if len(tokens) < 2:
                continue
            last = groups[-1] if groups else None
            fits = (
                last is not None
                and len(last) < max_members
                and self._num_computed([*last, index]) <= max_cells
            )
            if last is not None and fits:
                last.append(index)
            else:
                groups.append([index])
        return groups

    def _absorb_prompt(self, logits: Logits) -> bool:
        first = log_softmax(logits[None, :])[0]
        for index, tokens in enumerate(self._continuations):
            if len(tokens):
                self._sums[index] = self._lasts[index] = float(first[tokens[0]])
        return self._begin_group()

    def _begin_group(self) -> bool:
        if not self._groups:
            return self._finish()
        if self._copy_prefix is None:
            raise RuntimeError("the job is not bound to a context")
        group = self._groups.pop(0)
        for sequence, index in zip(self.held_slot.spare_sequences, group, strict=False):
            self._copy_prefix(self.held_slot.sequence, sequence, len(self.prompt))
            self._branches[sequence] = (index, 0)
        return False

    def _next_runs(self, max_tokens: int, max_outputs: int) -> list[Run]:
        room = min(max_tokens, max_outputs)
        runs: list[Run] = []
        for sequence, (index, start) in self._branches.items():
            if room < 1:
                break
            tokens: TokenIds = self._continuations[index][start:-1][:room]
            position = len(self.prompt) + start
            runs.append(Run(self, sequence, position, tokens, len(tokens)))
            room -= len(tokens)
        return runs

    def _absorb(self, run: Run, logits: Logits) -> bool:
        index, start = self._branches[run.sequence]
        tokens = self._continuations[index]
        end = start + len(run.tokens)
        logprobs = pick_logprobs(logits, tokens[start + 1 : end + 1])
        self._sums[index] += sum(logprobs)
        self._lasts[index] = logprobs[-1]
        if end < len(tokens) - 1:
            self._branches[run.sequence] = (index, end)
            return False
        del self._branches[run.sequence]
        if self._drop is not None:
            self._drop(run.sequence)
        return not self._branches and self._begin_group()

    def _finish(self) -> bool:
        scores = [
            ContinuationScore(logprob, len(tokens), last)
            for logprob, tokens, last in zip(
                self._sums, self._continuations, self._lasts, strict=True
            )
        ]
        if self.result.set_running_or_notify_cancel():
            self.result.set_result(scores)
        return True

    def cancel(self) -> None:
        self.result.cancel()

    def fail(self, error: ModelError) -> None:
        if self.result.set_running_or_notify_cancel():
            self.result.set_exception(error)


def log_softmax(logits: Logits) -> npt.NDArray[np.float32]:
    """Natural-log probabilities; shape and dtype of `logits`, each row for itself."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    norm: npt.NDArray[np.float32] = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return np.asarray(shifted - norm, dtype=np.float32)


def pick_logprobs(logits: Logits, tokens: TokenIds) -> list[float]:
    """Log-probabilities of `tokens`, one for each row of `logits`."""
    logprobs = []
    # Row by row: a temporary of all rows would be as large as the logits themselves.
    for row, token in zip(logits, tokens, strict=True):
        peak = row.max()
        logprobs.append(float(row[token] - peak - np.log(np.exp(row - peak).sum())))
    return logprobs
