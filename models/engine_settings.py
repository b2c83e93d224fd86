"""How an engine runs its model, and what is chosen where nothing is said."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

KvType = Literal["f16", "f32", "q8_0"]
Reuse = Literal["auto", "off", "exact", "passages"]

# Eight thousand cells serve four grounded answers at once and stay near 1 GB for an 8B model.
_DEFAULT_NUM_CELLS = 8192
# What is kept saves prefill, but attention passes over every cell up to the last one in use, also
# over those that it may not see. On a processor 4,500 kept cells took two fifths of the speed of a
# model 512 wide (8 layers, 8 heads). Attention grows with the width, the rest with its square: so
# many cells for each number of it cost models of any size about as much.
_KEPT_CELLS_PER_WIDTH = 2
_LEAST_KEPT_CELLS = 1024
_KEPT_SHARE = 2
# Passages that are computed or placed at the same time, by all requests together.
NUM_PASSAGE_SEQUENCES = 8


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Everything an engine is opened with.

    `num_ctx`: tokens that one request may take, prompt and answer; by default what the model was
    trained for, at most 8,192. `num_cells`: cells of the KV cache that all requests share.
    `num_threads`: 0 for the physical cores; `num_batch_threads` compute steps of more than one
    token, 0 for as many. `num_gpu_layers`: -1 for all. `chunk_tokens`: most prompt tokens computed
    in one step, which is how long a running stream may have to wait.
    `flash_attention`: faster for long prompts, but how it rounds depends on what else is in a step.
    Switched off and with `kv_type` f32, a request computes the same bits in any company. By default
    as suits the reuse (`models.reuse.choose_attention`).
    `num_spare_sequences`: continuations scored side by side. `num_kept_sequences`: sequences
    for finished requests whose beginnings later ones may take over; those of idle slots are used
    too. `num_kept_cells`: cells that only finished requests may hold, by default half of
    all, on a processor no more than suit the model's width; they make room where a request needs
    it. `drafts`: whether tokens that follow in the prompt are computed ahead and verified.
    `deadline_s`: time after which any request ends with `DeadlineExceeded`, its wait in the queue
    included.
    `reuse`: what is computed once for many requests: nothing, beginnings that are equal, or those
    and passages wherever they stand; `auto` takes passages where the model was trained for it.
    `passage_ram_bytes`, `passage_disk_bytes`, `passage_folder`: room for the states of passages.
    `link_tokens`: tokens at the beginning of each passage that are computed anew in every prompt.
    `jumps`: whether text that a grammar leaves no choice about is taken without asking the model.
    """

    path: Path
    num_ctx: int | None = None
    num_cells: int | None = None
    num_slots: int = 4
    num_threads: int = 0
    num_batch_threads: int = 0
    num_gpu_layers: int = 0
    chunk_tokens: int = 256
    kv_type: KvType = "f16"
    flash_attention: bool | None = None
    max_waiting: int = 64
    num_spare_sequences: int = 16
    num_kept_sequences: int = 32
    num_kept_cells: int | None = None
    drafts: bool = True
    deadline_s: float | None = None
    reuse: Reuse = "auto"
    passage_ram_bytes: int = 1 << 30
    passage_disk_bytes: int = 4 << 30
    passage_folder: Path | None = None
    link_tokens: int = 0
    jumps: bool = True

    def __post_init__(self) -> None:
        for name, least in (
            ("num_slots", 1),
            ("num_threads", 0),
            ("num_batch_threads", 0),
            ("num_gpu_layers", -1),
            ("chunk_tokens", 16),
            ("max_waiting", 0),
            ("num_spare_sequences", 1),
            ("num_kept_sequences", 0),
            ("num_kept_cells", 0),
            ("passage_ram_bytes", 0),
            ("passage_disk_bytes", 0),
            ("link_tokens", 0),
            ("num_ctx", 16),
            ("num_cells", 16),
        ):
            value: int | None = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; {least} is the least")
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise ValueError(f"deadline_s is {self.deadline_s}; it must be above 0")
        if self.kv_type not in ("f16", "f32", "q8_0"):
            raise ValueError(f"kv_type is {self.kv_type!r}; use f16, f32 or q8_0")
        if self.kv_type == "q8_0" and self.flash_attention is False:
            raise ValueError("kv_type q8_0 needs flash_attention")
        if self.reuse not in ("auto", "off", "exact", "passages"):
            raise ValueError(f"reuse is {self.reuse!r}; use auto, off, exact or passages")
        if self.num_sequences + NUM_PASSAGE_SEQUENCES > 256:
            raise ValueError("num_slots, num_spare_sequences and num_kept_sequences exceed 256")

    @property
    def num_sequences(self) -> int:
        """Sequences the context is made for; llama.cpp has room for 256."""
        return self.num_slots + self.num_spare_sequences + self.num_kept_sequences

    def count_kept_cells(self, num_cells: int, width: int) -> int:
        """Cells out of `num_cells` that finished requests alone may hold of a model so wide."""
        if self.num_kept_cells is not None:
            return min(self.num_kept_cells, num_cells)
        half = num_cells // _KEPT_SHARE
        if self.num_gpu_layers:
            return half
        return min(half, max(_KEPT_CELLS_PER_WIDTH * width, _LEAST_KEPT_CELLS))

    @property
    def value_bytes(self) -> float:
        """Bytes of one number in the KV cache."""
        return {"f32": 4.0, "f16": 2.0, "q8_0": 1.0625}[self.kv_type]

    def context_sizes(self, num_ctx_train: int) -> tuple[int, int]:
        """Return tokens for one request and cells for all, for a model trained so far."""
        trained = num_ctx_train if num_ctx_train > 0 else _DEFAULT_NUM_CELLS
        num_ctx = self.num_ctx or min(trained, self.num_cells or _DEFAULT_NUM_CELLS)
        wanted = min(num_ctx * self.num_slots, _DEFAULT_NUM_CELLS)
        return num_ctx, max(self.num_cells or wanted, num_ctx)


def count_threads(num_threads: int = 0) -> int:
    """Return `num_threads`, or for 0 the physical cores this process may use."""
    if num_threads > 0:
        return num_threads
    cores = _physical_cores()
    quota = _cpu_quota()
    return max(1, min(cores, quota) if quota else cores)


def _physical_cores() -> int:
    """Two threads on one core share its arithmetic units: decoding gains nothing from them."""
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # Not on every system.
        return max(1, (os.cpu_count() or 2) // 2)
    cores = set()
    for cpu in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text())
        except OSError:
            return len(allowed)
    return len(cores)


def _cpu_quota() -> int:
    """Whole processors that the container is given, 0 without a limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        return 0 if quota == "max" else max(1, round(int(quota) / int(period)))
    except (OSError, ValueError):
        return 0
