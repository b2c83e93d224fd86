"""Saved keys moved to other positions, without llama.cpp.

llama.cpp turns the keys of a sequence that was moved by going through its whole cache, every cell
of every request; a passage's own keys are few. Rotary embedding (RoFormer, Su et al. 2021)
turns each pair of a key's numbers by an angle that grows with its position, so a move is one more
turn, the same for all tokens.

The layout of a saved state is that of llama.cpp's `llama_kv_cache::state_write`. Nothing here is
trusted before `agrees` has compared it with keys that the model computed in the other place.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from models.gguf import GgufHeader
from models.kvfolder import State

Keys = npt.NDArray[np.float32]

# magic, sequence, number of streams, number of cells; then for each cell position, one, sequence.
_HEAD = struct.Struct("<IiII")
_CELL = np.dtype([("position", "<i4"), ("num_sequences", "<u4"), ("sequence", "<i4")])
_LAYOUT = struct.Struct("<II")
_LAYER = struct.Struct("<iQ")
_F32, _F16, _Q8_0 = 0, 1, 8
_Q8_BLOCK = np.dtype([("scale", "<f2"), ("values", "i1", 32)])
# llama.cpp turns quantized keys by a Hadamard matrix of at least this size before it keeps them.
_LEAST_HADAMARD = 64
_LEAST_COSINE = 0.999


class LayoutUnknown(Exception):
    """The state is not laid out as expected."""


class KeyTurner:
    """Moves states of one model; `is_neox` says which numbers of a key are pairs."""

    def __init__(self, header: GgufHeader, *, is_neox: bool) -> None:
        num_heads = header.number("attention.head_count")
        width = header.number("embedding_length") // num_heads if num_heads else 0
        self._width = header.number("attention.key_length") or width
        self._num_turned = header.number("rope.dimension_count") or self._width
        self._is_neox = is_neox
        architecture = header.text("general.architecture")
        base = float(header.metadata.get(f"{architecture}.rope.freq_base", 10_000.0))
        scale = float(header.metadata.get(f"{architecture}.rope.scaling.factor", 1.0)) or 1.0
        exponents = np.arange(0, self._num_turned, 2) / max(self._num_turned, 1)
        self._angles = base**-exponents / scale
        self._hadamard = _hadamard(_hadamard_size(self._width))

    def turn(self, state: State, distance: int) -> State:
        """A state of the same tokens `distance` positions on. Raises `LayoutUnknown`."""
        if not distance:
            return state
        moved = state.copy()
        _cells(moved)["position"] += distance
        phases = np.exp(1j * distance * self._angles).astype(np.complex64)
        # A key that is no number stays none.
        with np.errstate(invalid="ignore", over="ignore"):
            for kind, rows in self._layers(moved):
                if kind == _Q8_0:
                    self._turn_quantized(rows, phases)
                else:
                    values = rows.view("<f2" if kind == _F16 else "<f4")
                    keys = values.reshape(len(rows), -1, self._width)[..., : self._num_turned]
                    _assign(keys, self._rotate(_to_floats(keys), phases))
        return moved

    def agrees(self, state: State, moved: State, distance: int) -> bool:
        """Whether `turn` makes of `state` what the model computed `distance` positions on."""
        try:
            turned = self.turn(state, distance)
            if len(turned) != len(moved) or not np.array_equal(
                _cells(turned)["position"], _cells(moved)["position"]
            ):
                return False
            return all(
                _cosine(self._read(kind, a), self._read(kind, b)) > _LEAST_COSINE
                for (kind, a), (_, b) in zip(self._layers(turned), self._layers(moved), strict=True)
            )
        except (LayoutUnknown, ValueError):
            return False

    def _rotate(self, part: Keys, phases: npt.NDArray[np.complex64]) -> Keys:
        if self._is_neox:
            half = self._num_turned // 2
            pairs = part[..., :half] + 1j * part[..., half:]
            pairs *= phases
            return np.concatenate([pairs.real, pairs.imag], axis=-1)
        pairs = part.view(np.complex64)
        pairs *= phases
        return part

    def _turn_quantized(
        self, rows: npt.NDArray[np.uint8], phases: npt.NDArray[np.complex64]
    ) -> None:
        keys = self._mix(self._read(_Q8_0, rows)).reshape(len(rows), -1, self._width)
        part = np.ascontiguousarray(keys[..., : self._num_turned])
        keys[..., : self._num_turned] = self._rotate(part, phases)
        blocks = rows.view(_Q8_BLOCK)
        values = self._mix(keys).reshape(*blocks.shape, 32)
        scales = np.abs(values).max(axis=-1) / 127
        inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
        blocks["scale"] = scales
        blocks["values"] = np.rint(values * inverse[..., None])

    def _mix(self, keys: Keys) -> Keys:
        """Turn by the Hadamard matrix, which is its own inverse."""
        if self._hadamard is None:
            return keys
        mixed = keys.reshape(-1, len(self._hadamard)) @ self._hadamard
        return mixed.reshape(keys.shape)

    def _read(self, kind: int, rows: npt.NDArray[np.uint8]) -> Keys:
        if kind == _Q8_0:
            blocks = rows.view(_Q8_BLOCK)
            values = blocks["values"] * blocks["scale"][..., None].astype(np.float32)
            return values.reshape(len(rows), -1)
        return np.asarray(rows.view("<f2" if kind == _F16 else "<f4"), dtype=np.float32)

    def _layers(self, state: State) -> list[tuple[int, npt.NDArray[np.uint8]]]:
        """Type and bytes of the keys of each layer, shape `(cells, bytes)`; views of the state."""
        num_cells = len(_cells(state))
        place = _HEAD.size + num_cells * _CELL.itemsize
        transposed, num_layers = _unpack(_LAYOUT, state, place)
        if transposed > 1:
            raise LayoutUnknown
        place += _LAYOUT.size
        layers = []
        for _ in range(num_layers):
            kind, row_bytes = _unpack(_LAYER, state, place)
            place += _LAYER.size
            end = place + num_cells * row_bytes
            key_bytes = {_F32: 4.0, _F16: 2.0, _Q8_0: 34 / 32}.get(kind, 0) * self._width
            if not key_bytes or row_bytes % key_bytes or end > len(state):
                raise LayoutUnknown
            layers.append((kind, state[place:end].reshape(num_cells, row_bytes)))
            place = end
        return layers


def _to_floats(keys: npt.NDArray[Any]) -> Keys:
    """A contiguous copy as float32; with half floats torch is seven times as fast as NumPy."""
    import torch

    return np.asarray(torch.from_numpy(keys).to(torch.float32, copy=True).contiguous().numpy())


def _assign(keys: npt.NDArray[Any], values: Keys) -> None:
    """Write `values` into `keys`, as the numbers that those are."""
    import torch

    torch.from_numpy(keys).copy_(torch.from_numpy(values))


def _cells(state: State) -> npt.NDArray[Any]:
    """The records of the cells, a view of the state."""
    _, _, num_streams, num_cells = _unpack(_HEAD, state, 0)
    end = _HEAD.size + num_cells * _CELL.itemsize
    if num_streams != 1 or not num_cells or end > len(state):
        raise LayoutUnknown
    cells = state[_HEAD.size : end].view(_CELL)
    if (cells["num_sequences"] != 1).any():
        raise LayoutUnknown
    return cells


def _unpack(form: struct.Struct, state: State, place: int) -> tuple[int, ...]:
    if place + form.size > len(state):
        raise LayoutUnknown
    return form.unpack_from(state.data, place)


def _hadamard_size(width: int) -> int:
    """The largest power of two, from 64 on, that divides a key's width; 0 where there is none."""
    size = 0
    candidate = _LEAST_HADAMARD
    while width and width % candidate == 0:
        size, candidate = candidate, 2 * candidate
    return size


def _hadamard(size: int) -> Keys | None:
    """The orthonormal Walsh-Hadamard matrix (Sylvester's construction)."""
    if not size:
        return None
    matrix = np.ones((1, 1), dtype=np.float32)
    while len(matrix) < size:
        doubled = np.block([[matrix, matrix], [matrix, -matrix]]) / np.sqrt(2)
        matrix = doubled.astype(np.float32)
    return matrix


def _cosine(one: Keys, other: Keys) -> float:
    a, b = one.ravel(), other.ravel()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
