"""Rows on disk as batches of fixed shape."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.imitation.rows import ANSWER, FIELDS, FIRST


@dataclass(frozen=True)
class Batch:
    """Tensors of fixed shape: rows, and the positions whose predictions cost something.

    `picks` int64 `[num_picks]` index the flattened rows; `targets` and `kinds` go with them.
    Unused picks have kind 0.
    """

    tokens: Tensor
    positions: Tensor
    mask: Tensor
    picks: Tensor
    targets: Tensor
    kinds: Tensor


class RowReader:
    """Reads batches from a folder of rows; the batch of a step depends on the step alone.

    Rows come in the order in which they were written the first time (so an early part of a run sees
    what was put first), then shuffled.
    """

    def __init__(self, folder: Path, rows_per_step: int, seed: int) -> None:
        self._folder = folder
        self._rows_per_step = rows_per_step
        self._seed = seed

    @cached_property
    def _fields(self) -> dict[str, Any]:
        return {name: np.load(self._folder / f"{name}.npy", mmap_mode="r") for name in FIELDS}

    @property
    def num_steps(self) -> int:
        """Steps in which every row is seen once."""
        return max(1, len(self._fields["tokens"]) // self._rows_per_step)

    @property
    def row_length(self) -> int:
        """Positions of a row."""
        return int(self._fields["tokens"].shape[1])

    def batch(self, step: int) -> Batch:
        """Return the batch of `step`."""
        num_rows = len(self._fields["tokens"])
        size = min(num_rows, self._rows_per_step)
        epoch, place = divmod(step, self.num_steps)
        order = np.arange(num_rows)
        if epoch:
            order = np.random.default_rng((self._seed, epoch)).permutation(num_rows)
        return self.select(np.sort(order[place * size : (place + 1) * size]), (self._seed, step))

    def select(self, rows: Any, seed: tuple[int, ...]) -> Batch:
        """Return the batch of the rows with these indices."""
        part = {name: np.asarray(array[rows]) for name, array in self._fields.items()}
        kinds = part["kinds"].reshape(-1)
        # A quarter of the positions is predicted: answers, then as much of the questions and
        # passages as there is room for, at random. One shape for every batch.
        noise = np.random.default_rng(seed).random(kinds.size)
        rank = np.where((kinds == ANSWER) | (kinds == FIRST), 0.0, np.where(kinds > 0, 2.0, 4.0))
        picks = np.argsort(rank + noise)[: kinds.size // 4]
        return Batch(
            tokens=torch.from_numpy(part["tokens"].astype(np.int64)),
            positions=torch.from_numpy(part["positions"].astype(np.int64)),
            mask=attention_mask(
                torch.from_numpy(part["examples"].astype(np.int64)),
                torch.from_numpy(part["passages"].astype(np.int64)),
            ),
            picks=torch.from_numpy(picks),
            targets=torch.from_numpy(part["targets"].reshape(-1)[picks].astype(np.int64)),
            kinds=torch.from_numpy(kinds[picks].astype(np.int64)),
        )


def attention_mask(examples: Tensor, passages: Tensor) -> Tensor:
    """Return bool `[batch, 1, length, length]`, true where a row may see a column.

    A position sees earlier ones of its own example; one inside passage `n` of a block-diagonal
    example (`passages` > 0) sees what stands before all passages and its own passage alone.
    """
    same = examples[:, :, None] == examples[:, None, :]
    inside, other = passages[:, :, None], passages[:, None, :]
    open_ = (inside == 0) | (other == 0) | (inside == other)
    return (same & open_).tril()[:, None]
