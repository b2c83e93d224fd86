"""How the engine is opened: what the settings say, then what was measured, then what fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from models.engine_settings import EngineSettings

if TYPE_CHECKING:
    from models.engine_tuning import EngineTuning
    from models.machine import Machine
    from server.config import Settings

# Of the data directory: the states of passages.
STATES_FOLDER = "kv"
_DEFAULT_CHUNK_TOKENS = 256


def to_engine_settings(settings: Settings, path: Path) -> EngineSettings:
    """The engine's settings for the GGUF at `path`, every open choice made.

    Raises `ModelFileInvalid` for a file that is no GGUF.
    """
    from models.context import count_cell_bytes
    from models.gguf import read_header
    from models.machine import read_machine
    from models.planning import plan_context

    header, machine = read_header(path), read_machine()
    num_gpu_layers = choose_gpu_layers(settings)
    bare = EngineSettings(path=path, kv_type=settings.kv_type)
    plan = plan_context(
        num_ctx_train=header.number("context_length"),
        cell_bytes=count_cell_bytes(header, bare),
        weights_bytes=header.size_bytes,
        # A cache on a GPU takes none of this memory.
        available_bytes=None if num_gpu_layers else machine.available_bytes,
        num_ctx=settings.context_tokens,
        num_slots=settings.num_slots,
    )
    tuned = find_tuning(settings, path, machine, num_gpu_layers)
    threads = (settings.num_threads, 0)
    if tuned is not None and not settings.num_threads:
        threads = (tuned.num_threads, tuned.num_batch_threads)
    chunk_tokens = settings.chunk_tokens or (tuned.chunk_tokens if tuned else None)
    return EngineSettings(
        path=path,
        num_ctx=plan.num_ctx,
        num_cells=plan.num_cells,
        num_slots=plan.num_slots,
        num_threads=threads[0],
        num_batch_threads=threads[1],
        num_gpu_layers=num_gpu_layers,
        chunk_tokens=chunk_tokens or _DEFAULT_CHUNK_TOKENS,
        kv_type=settings.kv_type,
        max_waiting=settings.max_waiting,
        deadline_s=settings.request_deadline_s,
        reuse=settings.kv_reuse,
        passage_ram_bytes=settings.kv_ram_bytes,
        passage_disk_bytes=settings.kv_disk_bytes,
        passage_folder=settings.data_dir / STATES_FOLDER,
        link_tokens=settings.kv_link_tokens,
    )


def choose_gpu_layers(settings: Settings) -> int:
    """The layers that are set, by default all where this build of llama.cpp has a GPU, else 0."""
    if settings.num_gpu_layers is not None:
        return settings.num_gpu_layers
    from models.llama import library

    return -1 if library().llama_supports_gpu_offload() else 0


def find_tuning(
    settings: Settings, path: Path, machine: Machine, num_gpu_layers: int
) -> EngineTuning | None:
    """What `mynah tune-engine` measured for this model on this machine, if it did."""
    from models.tuning_cache import TuningCache
    from server.grounding.calibration import fingerprint

    cache = TuningCache(settings.data_dir)
    if not cache.path.is_file():
        return None
    return cache.find(fingerprint(path), machine, to_variant(settings, num_gpu_layers))


def to_variant(settings: Settings, num_gpu_layers: int) -> str:
    """What else of the settings changes how fast a model is."""
    return f"kv {settings.kv_type}, {num_gpu_layers} layers on the GPU"
