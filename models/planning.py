"""How large a context to open where nobody said: from the model's cells and the memory there is."""

from __future__ import annotations

from dataclasses import dataclass

# One request's share by default; longer contexts are asked for by those who need them.
_MAX_CTX = 8192
_MIN_CTX = 2048
_MAX_SLOTS = 8
# A grounded question with its answer.
_SLOT_TOKENS = 2048
# A cache that is too large costs others their memory, one that is too small some waiting.
_SHARE = 0.25
_MAX_CACHE_BYTES = 2 << 30
_MAX_CELLS = 32_768
_DEFAULT_CELLS = 8192
_DEFAULT_SLOTS = 4
# llama.cpp rounds the size of its cache up to this.
_STEP = 256


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """Tokens for one request, cells for all of them, and requests decoded together."""

    num_ctx: int
    num_cells: int
    num_slots: int


def plan_context(
    *,
    num_ctx_train: int,
    cell_bytes: float,
    weights_bytes: int,
    available_bytes: int | None,
    num_ctx: int | None = None,
    num_slots: int | None = None,
) -> ContextPlan:
    """Return sizes that fit; `num_ctx` and `num_slots` are the user's and stay as they are.

    The cache takes at most a quarter of what the weights leave of `available_bytes`, and 2 GiB;
    the least is one request of 2,048 tokens, or of what the model was trained for. None: memory is
    unknown or not what the cache is put into.
    """
    trained = num_ctx_train if num_ctx_train > 0 else _MAX_CTX
    affordable = _count_cells(cell_bytes, weights_bytes, available_bytes)
    if num_ctx is None:
        num_ctx = min(trained, _MAX_CTX, max(affordable, _MIN_CTX))
    if num_slots is None and available_bytes is None:
        num_slots = _DEFAULT_SLOTS
    elif num_slots is None:
        num_slots = min(max(affordable // min(_SLOT_TOKENS, num_ctx), 1), _MAX_SLOTS)
    return ContextPlan(num_ctx, max(min(num_ctx * num_slots, affordable), num_ctx), num_slots)


def _count_cells(cell_bytes: float, weights_bytes: int, available_bytes: int | None) -> int:
    """Cells that the memory is good for, at most `_MAX_CELLS`."""
    if available_bytes is None:
        return _DEFAULT_CELLS
    # Weights are mapped from their file, so that what is free does not count them yet.
    room = min(_SHARE * (available_bytes - weights_bytes), _MAX_CACHE_BYTES)
    num_cells = min(int(max(room, 0) / cell_bytes), _MAX_CELLS)
    return num_cells - num_cells % _STEP
