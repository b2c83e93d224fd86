"""Rows on disk as batches of fixed shape."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.imitation.architecture import tree_mask
from models.imitation.dataset import FIELDS
from models.imitation.rows import ANSWER, ancestors

# The first word of an answer chooses the sentence; it is counted apart from the words copied.
FIRST = 5


@dataclass(frozen=True)
class Batch:
    """Tensors of fixed shape: rows, and the positions whose predictions cost something.

    `picks` int64 `[num_picks]` index the flattened rows; `targets`, `kinds` and `groups` go with
    them (`groups` numbers the questions of the batch from 1). Unused picks have kind 0.
    """

    tokens: Tensor
    positions: Tensor
    mask: Tensor
    picks: Tensor
    targets: Tensor
    kinds: Tensor
    groups: Tensor


class RowReader:
    """Reads batches from a folder of rows; the batch of a step depends on the step alone."""

    def __init__(self, folder: Path, tokens_per_step: int, seed: int, assistant: int) -> None:
        self._folder = folder
        self._tokens_per_step = tokens_per_step
        self._seed = seed
        self._assistant = assistant

    @cached_property
    def _fields(self) -> dict[str, Any]:
        # Opened at the first batch: a later stage may still be being written when a run starts.
        return {name: np.load(self._folder / f"{name}.npy", mmap_mode="r") for name in FIELDS}

    def batch(self, step: int) -> Batch:
        num_rows, length = self._fields["tokens"].shape
        batch_rows = min(num_rows, max(1, self._tokens_per_step // length))
        per_epoch = num_rows // batch_rows
        order = np.random.default_rng((self._seed, step // per_epoch)).permutation(num_rows)
        start = step % per_epoch * batch_rows
        return self.select(np.sort(order[start : start + batch_rows]), (self._seed, step))

    def select(self, rows: Any, seed: tuple[int, ...]) -> Batch:
        """Return the batch of the rows with these indices."""
        part = {name: np.asarray(array[rows]) for name, array in self._fields.items()}
        kinds = part["kinds"].reshape(-1)
        # A quarter of the positions is predicted: all verdicts and first words of answers, then as
        # much of the answers, then of questions and passages, as there is room for, at random.
        noise = np.random.default_rng(seed).random(kinds.size)
        is_first = (part["tokens"].reshape(-1) == self._assistant) & (kinds == ANSWER)
        kinds = np.where(is_first, FIRST, kinds)
        rank = np.array([9.0, 4.0, 4.0, 3.0, 0.0, 1.0])[kinds] + noise
        picks = np.argsort(rank)[: kinds.size // 4]
        groups = part["questions"].astype(np.int64)
        groups += np.where(groups > 0, 256 * np.arange(len(rows))[:, None], 0)
        seen = torch.from_numpy(ancestors(part["parents"]))
        segments = torch.from_numpy(part["segments"].astype(np.int64))
        return Batch(
            tokens=torch.from_numpy(part["tokens"].astype(np.int64)),
            positions=torch.from_numpy(part["positions"].astype(np.int64)),
            mask=tree_mask(segments, seen),
            picks=torch.from_numpy(picks),
            targets=torch.from_numpy(part["targets"].reshape(-1)[picks].astype(np.int64)),
            kinds=torch.from_numpy(kinds[picks].astype(np.int64)),
            groups=torch.from_numpy(groups.reshape(-1)[picks]),
        )
