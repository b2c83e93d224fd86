"""How llama.cpp lays out the saved state of a sequence (`llama_kv_cache::state_write`).

Head, a record of each cell, the keys of each layer, the values of each layer. Values stand as rows
of cells where attention is computed by flash attention, and transposed elsewhere.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.kvfolder import State

Bytes = npt.NDArray[np.uint8]

F32, F16, Q8_0 = 0, 1, 8
# magic, sequence, number of streams, number of cells; then for each cell position, one, sequence.
_HEAD = struct.Struct("<IiII")
_CELL = np.dtype([("position", "<i4"), ("num_sequences", "<u4"), ("sequence", "<i4")])
# Whether values are transposed, number of layers.
_LAYOUT = struct.Struct("<II")
# Type, bytes of a row.
_ROWS = struct.Struct("<iQ")
# Type, bytes of a number, numbers of a row.
_COLUMNS = struct.Struct("<iII")
_NUMBER_BYTES = {F32: 4, F16: 2}


class LayoutUnknown(Exception):
    """The state is not laid out as expected."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Keys or values of one layer: `data` has shape `(cells, bytes)`, a view of the state."""

    kind: int
    data: Bytes


def read_cells(state: State) -> npt.NDArray[Any]:
    """The records of the cells, a view of the state. Raises `LayoutUnknown`."""
    _, _, num_streams, num_cells = _unpack(_HEAD, state, 0)
    end = _HEAD.size + num_cells * _CELL.itemsize
    if num_streams != 1 or not num_cells or end > len(state):
        raise LayoutUnknown
    cells = state[_HEAD.size : end].view(_CELL)
    if (cells["num_sequences"] != 1).any():
        raise LayoutUnknown
    return cells


def read_keys(state: State, width: int) -> list[Layer]:
    """The keys of each layer, whose heads are `width` numbers wide. Raises `LayoutUnknown`."""
    return _read_keys(state, width)[0]


def read_values(state: State, width: int) -> list[Layer]:
    """The values of each layer, of a state without quantized ones. Raises `LayoutUnknown`."""
    keys, place, is_transposed = _read_keys(state, width)
    num_cells = len(read_cells(state))
    layers = []
    for _ in keys:
        kind, data, place = _read_values(state, place, num_cells, is_transposed=is_transposed)
        layers.append(Layer(kind, data))
    if place != len(state):
        raise LayoutUnknown
    return layers


def has_transposed_values(state: State, width: int) -> bool:
    """Whether the values of a state are transposed. Raises `LayoutUnknown`."""
    return _read_keys(state, width)[2]


def lay_values(state: State, width: int, *, transposed: bool) -> State:
    """The same state with its values transposed or not. Raises `LayoutUnknown`."""
    keys, place, is_transposed = _read_keys(state, width)
    if is_transposed == transposed:
        return state
    values = read_values(state, width)
    head = state[:place].copy()
    num_cells = len(read_cells(state))
    layout_at = _HEAD.size + num_cells * _CELL.itemsize
    _LAYOUT.pack_into(head.data, layout_at, int(transposed), len(keys))
    parts: list[Bytes] = [head]
    for layer in values:
        row_bytes = layer.data.shape[1]
        number_bytes = _NUMBER_BYTES[layer.kind]
        if transposed:
            form = _COLUMNS.pack(layer.kind, number_bytes, row_bytes // number_bytes)
            data = layer.data.view(f"u{number_bytes}").T
        else:
            form = _ROWS.pack(layer.kind, row_bytes)
            data = layer.data
        parts += [
            np.frombuffer(form, dtype=np.uint8),
            np.ascontiguousarray(data).view(np.uint8).ravel(),
        ]
    return np.concatenate(parts)


def are_alike(one: Sequence[Layer], other: Sequence[Layer], least_cosine: float) -> bool:
    """Whether the numbers of all layers point the same way; not for quantized ones."""
    pairs = list(zip(one, other, strict=True))
    return all(
        a.kind == b.kind
        and a.kind in _NUMBER_BYTES
        and a.data.shape == b.data.shape
        and measure_cosine(to_floats(a), to_floats(b)) > least_cosine
        for a, b in pairs
    )


def to_floats(layer: Layer) -> npt.NDArray[np.float32]:
    """The numbers of a layer that is not quantized, shape `(cells, numbers)`."""
    data = np.ascontiguousarray(layer.data)
    return np.asarray(data.view("<f2" if layer.kind == F16 else "<f4"), dtype=np.float32)


def measure_cosine(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """The cosine of two arrays as vectors."""
    a, b = one.ravel(), other.ravel()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _read_keys(state: State, width: int) -> tuple[list[Layer], int, bool]:
    """The keys, where they end, and whether the values behind them are transposed."""
    num_cells = len(read_cells(state))
    place = _HEAD.size + num_cells * _CELL.itemsize
    transposed, num_layers = _unpack(_LAYOUT, state, place)
    if transposed > 1:
        raise LayoutUnknown
    place += _LAYOUT.size
    layers = []
    for _ in range(num_layers):
        kind, row_bytes = _unpack(_ROWS, state, place)
        place += _ROWS.size
        end = place + num_cells * row_bytes
        key_bytes = {F32: 4.0, F16: 2.0, Q8_0: 34 / 32}.get(kind, 0) * width
        if not key_bytes or row_bytes % key_bytes or end > len(state):
            raise LayoutUnknown
        layers.append(Layer(kind, state[place:end].reshape(num_cells, row_bytes)))
        place = end
    return layers, place, bool(transposed)


def _read_values(
    state: State, place: int, num_cells: int, *, is_transposed: bool
) -> tuple[int, Bytes, int]:
    """Type, rows of bytes and end of the values at `place`."""
    if is_transposed:
        kind, number_bytes, num_numbers = _unpack(_COLUMNS, state, place)
        place += _COLUMNS.size
        row_bytes = number_bytes * num_numbers
    else:
        kind, row_bytes = _unpack(_ROWS, state, place)
        place += _ROWS.size
    end = place + num_cells * row_bytes
    size = _NUMBER_BYTES.get(kind)
    if size is None or not row_bytes or row_bytes % size or end > len(state):
        raise LayoutUnknown
    if not is_transposed:
        return kind, state[place:end].reshape(num_cells, row_bytes), end
    if number_bytes != size:
        raise LayoutUnknown
    # What stands at no address that numbers may have is copied.
    columns = state[place:end].copy().view(f"u{size}").reshape(-1, num_cells)
    return kind, np.ascontiguousarray(columns.T).view(np.uint8), end


def _unpack(form: struct.Struct, state: State, place: int) -> tuple[int, ...]:
    if place + form.size > len(state):
        raise LayoutUnknown
    return form.unpack_from(state.data, place)
