"""Which passages an engine computes once: chosen by its mode and by what its model can do."""

from __future__ import annotations

import logging
from collections.abc import Collection
from importlib.metadata import version

from models.context import Context, LoadedModel
from models.engine_settings import NUM_PASSAGE_SEQUENCES, EngineSettings
from models.errors import ModelError
from models.jobs import Job
from models.kvstore import KvStats, KvStore, identify
from models.llama import library
from models.placement import Placer
from models.protocols import Prompt

logger = logging.getLogger("mynah.engine")

# Set by `mynah tune export`: passages were trained not to see each other.
BLOCK_ATTENTION_KEY = "mynah.block_attention"


class PassageReuse:
    """The reuse of passages of one engine; does nothing where its mode is another."""

    def __init__(self, placer: Placer | None) -> None:
        self._placer = placer

    @property
    def is_on(self) -> bool:
        """Whether passages are placed."""
        return self._placer is not None

    @property
    def stats(self) -> KvStats:
        """What is kept, and how often it was of use."""
        return self._placer.store.stats if self._placer else KvStats(0, 0, 0, 0, 0, 0)

    def place(self, job: Job, prompt: Prompt) -> None:
        """Have the passages of a job's prompt placed."""
        if self._placer is not None and prompt.blocks:
            job.place(self._placer.plan(prompt.tokens, prompt.blocks))

    def fetch(self, prompt: Prompt) -> bool:
        """Read what is saved of a prompt's passages ahead of its use; whether all of it is there.

        From any thread but the one that decodes.
        """
        if self._placer is None or not prompt.blocks:
            return True
        return self._placer.fetch(prompt.tokens, prompt.blocks)

    def sweep(self) -> bool:
        """Drop what another process had deleted; whether there was something new."""
        return self._placer is not None and self._placer.store.sweep()

    def forget(self, owners: Collection[str]) -> None:
        """Drop the states of deleted documents. Raises `OSError`."""
        if self._placer is not None and owners:
            self._placer.store.forget(owners)

    def close(self) -> None:
        """Save what waits for it. Idempotent."""
        if self._placer is not None:
            self._placer.store.close()


def open_reuse(model: LoadedModel, context: Context, settings: EngineSettings) -> PassageReuse:
    """The reuse of passages for a model.

    Off where the mode is another, and where the model's keys cannot be moved. Raises `ModelError`
    for a folder that cannot be used.
    """
    if not wants_passages(model, settings):
        return PassageReuse(None)
    if not (model.is_movable and context.can_shift):
        logger.warning("this model's keys cannot be moved; only equal beginnings are reused")
        return PassageReuse(None)
    lib = library()
    parts = (
        "state-1",
        model.header.text("tokenizer.chat_template"),
        settings.kv_type,
        # Values lie transposed without it.
        str(settings.flash_attention),
        str(lib.LLAMA_STATE_SEQ_VERSION),
        version("llama_cpp_python"),
    )
    try:
        store = KvStore(
            identify(parts, settings.path),
            max_ram_bytes=settings.passage_ram_bytes,
            folder=settings.passage_folder,
            max_disk_bytes=settings.passage_disk_bytes,
        )
    except OSError as error:
        raise ModelError(
            f"The folder {settings.passage_folder} for the states of passages cannot be used:"
            f" {error.strerror}; make it writable or set kv_reuse to exact.",
            param="kv_reuse",
        ) from error
    first = settings.num_sequences
    sequences = range(first, first + NUM_PASSAGE_SEQUENCES)
    return PassageReuse(Placer(context, store, sequences, settings.link_tokens))


def wants_passages(model: LoadedModel, settings: EngineSettings) -> bool:
    """Whether passages are to be reused: as set, else where the model was trained for it."""
    if settings.reuse != "auto":
        return settings.reuse == "passages"
    return model.header.text(BLOCK_ATTENTION_KEY).lower() == "true"
