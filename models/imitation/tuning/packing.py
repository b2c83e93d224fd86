"""Examples packed into rows of one length, none of which sees its neighbours."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.imitation.tuning.block_attention import attention_mask
from models.imitation.tuning.masking import IGNORED, Example

if TYPE_CHECKING:
    from torch import Tensor

_MAX_OPEN_ROWS = 64
# Few different shapes: on CPU each new one leaves memory behind that no other can use.
_LENGTH_STEP, _PICK_STEP = 32, 64


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows as tensors, and the places whose next id costs something.

    `ids`, `positions` int64 and `mask` bool `[rows, 1, length, length]` as the model takes them.
    `picks` int64 `[num_picks]` index the flattened rows; the prediction there is compared with
    `targets`, weighed by `weights` float32: 1 for an answer, less for other text, 0 for filling.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    picks: Tensor
    targets: Tensor
    weights: Tensor

    def to(self, device: Any) -> Batch:
        """The batch on a device."""
        names = ("ids", "positions", "mask", "picks", "targets", "weights")
        return Batch(*(getattr(self, name).to(device, non_blocking=True) for name in names))


def pack(examples: Sequence[Example], length: int, rng: random.Random) -> list[list[Example]]:
    """Return rows of examples of together at most `length` ids, in random order.

    First fit among the last rows that are not full.
    """
    order = list(examples)
    rng.shuffle(order)
    rows: list[list[Example]] = []
    # (index of a row, ids that fit into it still)
    room: list[list[int]] = []
    for example in order:
        size = len(example.ids)
        place = next((entry for entry in room if entry[1] >= size), None)
        if place is None:
            place = [len(rows), length]
            rows.append([])
            room.append(place)
        rows[place[0]].append(example)
        place[1] -= size
        # The fullest row makes way: it is the least likely to take another example.
        if place[1] == 0 or len(room) > _MAX_OPEN_ROWS:
            room.remove(min(room, key=lambda entry: entry[1]))
    return rows


def collate(rows: Sequence[Sequence[Example]], *, text_weight: float = 0.0) -> Batch:
    """Return rows as one batch, padded to the longest.

    Positions start anew in every example, and no token sees one of another example.
    `text_weight` is what predicting anything else than an answer weighs.
    """
    import torch

    longest = max(sum(len(example.ids) for example in row) for row in rows)
    length = -(-longest // _LENGTH_STEP) * _LENGTH_STEP
    ids = np.zeros((len(rows), length), np.int64)
    positions = np.zeros_like(ids)
    # Filling is an example of its own (-1): a row of a mask that sees nothing gives no number.
    numbers = np.full_like(ids, -1)
    blocks = np.zeros_like(ids)
    weights = np.zeros((len(rows), length), np.float32)
    for index, row in enumerate(rows):
        start = 0
        for number, example in enumerate(row):
            size = len(example.ids)
            place = slice(start, start + size)
            ids[index, place] = example.ids
            positions[index, place] = np.arange(size)
            numbers[index, place] = number
            blocks[index, place] = example.blocks
            weights[index, place] = np.where(example.labels == IGNORED, text_weight, 1.0)
            # Nothing predicts the first id of an example.
            weights[index, start] = 0.0
            start += size
    picks, targets, chosen = _choose(ids, weights)
    return Batch(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        mask=attention_mask(torch.from_numpy(numbers), torch.from_numpy(blocks)),
        picks=torch.from_numpy(picks),
        targets=torch.from_numpy(targets),
        weights=torch.from_numpy(chosen),
    )


def _choose(
    ids: npt.NDArray[np.int64], weights: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    flat_ids, flat_weights = ids.reshape(-1), weights.reshape(-1)
    wanted = np.flatnonzero(flat_weights)
    padded = np.zeros(max(_PICK_STEP, -(-len(wanted) // _PICK_STEP) * _PICK_STEP), np.int64)
    targets, chosen = np.zeros_like(padded), np.zeros(len(padded), np.float32)
    # The prediction of an id stands at the one before it.
    padded[: len(wanted)] = wanted - 1
    targets[: len(wanted)] = flat_ids[wanted]
    chosen[: len(wanted)] = flat_weights[wanted]
    return padded, targets, chosen
