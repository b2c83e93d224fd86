"""Saved keys moved to other positions, without llama.cpp.

llama.cpp turns the keys of a sequence that was moved by going through its whole cache, every cell
of every request; a passage's own keys are few. Rotary embedding (RoFormer, Su et al. 2021)
turns each pair of a key's numbers by an angle that grows with its position, so a move is one more
turn, the same for all tokens.

Nothing here is trusted before `agrees` has compared it with keys that the model computed in the
other place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.gguf import GgufHeader
from models.kvfolder import State
from models.state_layout import (
    F16,
    Q8_0,
    Layer,
    LayoutUnknown,
    measure_cosine,
    read_cells,
    read_keys,
    to_floats,
)

Keys = npt.NDArray[np.float32]

_Q8_BLOCK = np.dtype([("scale", "<f2"), ("values", "i1", 32)])
# llama.cpp turns quantized keys by a Hadamard matrix of at least this size before it keeps them.
_LEAST_HADAMARD = 64
_LEAST_COSINE = 0.999


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
        read_cells(moved)["position"] += distance
        phases = np.exp(1j * distance * self._angles).astype(np.complex64)
        # A key that is no number stays none.
        with np.errstate(invalid="ignore", over="ignore"):
            for layer in read_keys(moved, self._width):
                rows = layer.data
                if layer.kind == Q8_0:
                    self._turn_quantized(rows, phases)
                else:
                    values = rows.view("<f2" if layer.kind == F16 else "<f4")
                    keys = values.reshape(len(rows), -1, self._width)[..., : self._num_turned]
                    _assign(keys, self._rotate(_copy_floats(keys), phases))
        return moved

    def agrees(self, state: State, moved: State, distance: int) -> bool:
        """Whether `turn` makes of `state` what the model computed `distance` positions on."""
        try:
            turned = self.turn(state, distance)
            if len(turned) != len(moved) or not np.array_equal(
                read_cells(turned)["position"], read_cells(moved)["position"]
            ):
                return False
            pairs = zip(read_keys(turned, self._width), read_keys(moved, self._width), strict=True)
            return all(
                measure_cosine(self._read(a), self._read(b)) > _LEAST_COSINE for a, b in pairs
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
        keys = self._mix(self._read(Layer(Q8_0, rows))).reshape(len(rows), -1, self._width)
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

    def _read(self, layer: Layer) -> Keys:
        if layer.kind != Q8_0:
            return to_floats(layer)
        blocks = layer.data.view(_Q8_BLOCK)
        values = blocks["values"] * blocks["scale"][..., None].astype(np.float32)
        return values.reshape(len(layer.data), -1)


def _copy_floats(keys: npt.NDArray[Any]) -> Keys:
    """A contiguous copy as float32; with half floats torch is seven times as fast as NumPy."""
    import torch

    return np.asarray(torch.from_numpy(keys).to(torch.float32, copy=True).contiguous().numpy())


def _assign(keys: npt.NDArray[Any], values: Keys) -> None:
    """Write `values` into `keys`, as the numbers that those are."""
    import torch

    torch.from_numpy(keys).copy_(torch.from_numpy(values))


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
