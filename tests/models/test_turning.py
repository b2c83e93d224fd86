"""A moved key is what rotary embedding makes of it in the other place."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.gguf import GgufHeader
from models.kvfolder import State
from models.state_layout import LayoutUnknown, read_keys
from models.turning import KeyTurner

NUM_CELLS, NUM_HEADS, NUM_LAYERS = 3, 2, 2
KINDS = {"f32": (0, 4.0), "f16": (1, 2.0), "q8_0": (8, 34 / 32)}
Values = npt.NDArray[np.float32]


def _turner(width: int, num_turned: int, *, is_neox: bool, base: float = 10_000.0) -> KeyTurner:
    metadata: dict[str, str | int | float | bool] = {
        "general.architecture": "x",
        "x.attention.head_count": NUM_HEADS,
        "x.embedding_length": NUM_HEADS * width,
        "x.rope.dimension_count": num_turned,
        "x.rope.freq_base": base,
    }
    return KeyTurner(GgufHeader(3, 0, metadata, 0, 0), is_neox=is_neox)


def _state(kind: str, keys: Values) -> State:
    """As llama.cpp writes one: `keys` has the shape (layers, cells, heads, width)."""
    number, value_bytes = KINDS[kind]
    parts = [struct.pack("<IiII", 0xAF143CD8, 3, 1, NUM_CELLS)]
    parts += [struct.pack("<iIi", 10 + cell, 1, 3) for cell in range(NUM_CELLS)]
    parts.append(struct.pack("<II", 0, NUM_LAYERS))
    for layer in keys:
        rows = layer.reshape(NUM_CELLS, -1)
        parts.append(struct.pack("<iQ", number, int(rows.shape[1] * value_bytes)))
        if kind == "q8_0":
            parts.append(_quantize(rows))
        else:
            parts.append(rows.astype("<f4" if kind == "f32" else "<f2").tobytes())
    parts.append(b"values")
    return np.frombuffer(b"".join(parts), dtype=np.uint8).copy()


def _quantize(rows: Values) -> bytes:
    blocks: npt.NDArray[Any] = np.zeros(
        (len(rows), rows.shape[1] // 32), dtype=[("scale", "<f2"), ("values", "i1", 32)]
    )
    groups = rows.reshape(*blocks.shape, 32)
    scales = np.abs(groups).max(axis=-1) / 127
    blocks["scale"], blocks["values"] = scales, np.rint(groups / scales[..., None])
    return blocks.tobytes()


def _keys(turner: KeyTurner, state: State) -> Values:
    return np.stack([turner._mix(turner._read(layer)) for layer in read_keys(state, turner._width)])


def _random(width: int, seed: int) -> Values:
    shape = (NUM_LAYERS, NUM_CELLS, NUM_HEADS, width)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _rope(keys: Values, distance: int, num_turned: int, *, is_neox: bool) -> Values:
    """Pair by pair, as the paper has it."""
    turned = keys.copy()
    for pair in range(num_turned // 2):
        a, b = (pair, pair + num_turned // 2) if is_neox else (2 * pair, 2 * pair + 1)
        angle = distance * 10_000.0 ** (-2 * pair / num_turned)
        turned[..., a] = keys[..., a] * np.cos(angle) - keys[..., b] * np.sin(angle)
        turned[..., b] = keys[..., a] * np.sin(angle) + keys[..., b] * np.cos(angle)
    return turned


@settings(deadline=None)
@given(
    kind=st.sampled_from(["f32", "f16", "q8_0"]),
    is_neox=st.booleans(),
    shape=st.sampled_from([(32, 32), (64, 64), (96, 64), (128, 32)]),
    distance=st.integers(-9, 5000),
    seed=st.integers(0, 9),
)
def test_keys_are_turned_as_the_formula_says(
    kind: str, is_neox: bool, shape: tuple[int, int], distance: int, seed: int
) -> None:
    width, num_turned = shape
    turner = _turner(width, num_turned, is_neox=is_neox)
    keys = _random(width, seed)
    mixed = turner._mix(keys) if kind == "q8_0" else keys
    before = _state(kind, mixed)
    after = turner.turn(before, distance)
    wanted = _rope(keys, distance, num_turned, is_neox=is_neox).reshape(NUM_LAYERS, NUM_CELLS, -1)
    got = (
        _keys(turner, after)
        if kind == "q8_0"
        else np.stack([turner._read(layer) for layer in read_keys(after, turner._width)])
    )
    tolerance = {"f32": 1e-4, "f16": 4e-3, "q8_0": 0.08}[kind]
    assert np.abs(got - wanted).max() < tolerance
    assert bytes(after[-6:]) == b"values"
    assert struct.unpack_from("<i", after.data, 16) == (10 + distance,)
    assert turner.agrees(before, after, distance)
    assert distance == 0 or not turner.agrees(before, after, distance + 40)


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(0, 255))
def test_no_bytes_make_it_do_more_than_refuse(place: int, value: int) -> None:
    turner = _turner(32, 32, is_neox=False)
    state = _state("f16", _random(32, 0))
    damaged = state.copy()
    damaged[place % len(damaged)] = value
    for candidate in (damaged, state[: place % len(state)]):
        try:
            assert len(turner.turn(candidate, 3)) == len(candidate)
        except LayoutUnknown:
            continue


@pytest.mark.parametrize("base", [500_000.0, 11_000.0])
def test_another_base_is_noticed(base: float) -> None:
    right, wrong = _turner(64, 64, is_neox=False), _turner(64, 64, is_neox=False, base=base)
    state = _state("f16", _random(64, 1))
    moved = right.turn(state, 8000)
    assert right.agrees(state, moved, 8000)
    assert not wrong.agrees(state, moved, 8000)
