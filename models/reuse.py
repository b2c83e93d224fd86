"""Which passages an engine computes once: chosen by its mode and by what its model can do."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import cast

import numpy as np

from models.apart import ApartPrompt
from models.batch import Run
from models.context import Context
from models.engine_settings import NUM_PASSAGE_SEQUENCES, EngineSettings
from models.errors import ModelError
from models.jobs import Job
from models.kvfolder import DeletionWatch
from models.kvstore import KvStats, KvStore, identify
from models.llama import library
from models.loaded_model import LoadedModel
from models.placement import PlacedPrompt, Placer
from models.protocols import Prompt
from models.slots import SlotTable
from models.turning import KeyTurner
from models.workbench import Seats, SpareSequences, Workbench, open_workbench

logger = logging.getLogger("mynah.engine")

# Set by `mynah tune export`: passages were trained not to see each other.
BLOCK_ATTENTION_KEY = "mynah.block_attention"
_NUM_PROBE_TOKENS = 16
_MAX_PROBE_DISTANCE = 8192


class PassageReuse:
    """The reuse of passages of one engine; does nothing where its mode is another."""

    def __init__(
        self,
        spare: SpareSequences,
        slots: SlotTable,
        watch: DeletionWatch | None,
        placer: Placer | None = None,
        bench: Workbench | None = None,
    ) -> None:
        """`spare` are of the engine's context; pieces are computed at `bench` if there is one.

        Whole prompts too, while several run in `slots`. `watch` tells what others have deleted.
        """
        self._context = spare.context
        self._spare, self._slots = spare, slots
        self._watch = watch
        self._placer = placer
        self._bench = bench

    @property
    def is_on(self) -> bool:
        """Whether passages are placed."""
        return self._placer is not None

    @property
    def stats(self) -> KvStats:
        """What is kept, and how often it was of use."""
        off = KvStats(0, 0, 0, 0, 0, 0, is_on=False)
        return off if self._placer is None else self._placer.store.stats

    def choose_context(self, runs: Sequence[Run]) -> Context:
        """The context that computes `runs`, all of one."""
        bench = self._bench if runs[0].is_apart else None
        return self._context if bench is None else bench.context

    def place(self, job: Job, prompt: Prompt) -> None:
        """Have the passages of a job's prompt placed, or all of it computed apart."""
        planned: PlacedPrompt | ApartPrompt | None = None
        if self._placer is not None and prompt.blocks:
            planned = self._placer.plan(prompt.tokens, prompt.blocks)
        if planned is None and self._bench is not None:
            planned = ApartPrompt(job.prompt, self._bench, self._spare, self._slots)
        job.place(planned)

    def fetch(self, prompt: Prompt) -> bool:
        """Read what is saved of a prompt's passages ahead of its use; whether all of it is there.

        From any thread but the one that decodes.
        """
        if self._placer is None or not prompt.blocks:
            return True
        return self._placer.fetch(prompt.tokens, prompt.blocks)

    def sweep(self) -> bool:
        """Drop states of what any process had deleted; whether there was something new."""
        if self._watch is None or not self._watch.is_changed():
            return False
        if self._placer is not None:
            self._placer.store.drop_gone(self._watch.is_gone)
        return self._watch.has_new()

    def forget_prefix(self) -> None:
        """Drop what the bench holds of the last prompt; by the thread that decodes."""
        if self._bench is not None:
            self._bench.forget_prefix()

    def forget(self, owners: Collection[str]) -> None:
        """Drop the states of deleted documents. Raises `OSError`."""
        if self._placer is not None and owners:
            self._placer.store.forget(owners)

    def close(self) -> None:
        """Save what waits for it, and free the bench. Idempotent; nothing may decode any more."""
        if self._placer is not None:
            self._placer.store.close()
        if self._bench is not None:
            self._bench.free()


def open_reuse(
    model: LoadedModel, context: Context, settings: EngineSettings, slots: SlotTable
) -> PassageReuse:
    """The reuse of passages for a model, and where its prompts are computed.

    Off where the mode is another, and where the model's keys cannot be moved. Raises `ModelError`
    for a folder that cannot be used.
    """
    first = settings.num_sequences
    sequences = range(first, first + NUM_PASSAGE_SEQUENCES)
    spare, watch = SpareSequences(context, sequences), _watch(settings)
    if not wants_passages(model, settings):
        is_useful = settings.reuse != "off" and settings.num_slots > 1 and context.can_compact
        bench = open_workbench(model, spare, settings) if is_useful else None
        return PassageReuse(spare, slots, watch, bench=bench)
    turner = KeyTurner(model.header, is_neox=model.has_neox_rope)
    can_turn = model.is_movable and _is_right(turner, context, sequences, model)
    # llama.cpp crashes on quantized keys whose width no Hadamard matrix has, and its turn of those
    # that are turned in part is wrong.
    can_shift = context.can_shift and settings.kv_type != "q8_0"
    if not (model.is_movable and (can_turn or can_shift)):
        logger.warning("this model's keys cannot be moved; only equal beginnings are reused")
        return PassageReuse(spare, slots, watch)
    lib = library()
    parts = (
        "state-1",
        model.header.text("tokenizer.chat_template"),
        settings.kv_type,
        # Values lie transposed without it.
        str(context.has_flash_attention),
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
    bench = open_workbench(model, spare, settings)
    own_turner = turner if can_turn else None
    placer = Placer(store, spare, Seats(spare, bench), settings.link_tokens, own_turner)
    return PassageReuse(spare, slots, watch, placer, bench)


def _watch(settings: EngineSettings) -> DeletionWatch | None:
    if settings.passage_folder is None:
        return None
    try:
        return DeletionWatch(settings.passage_folder)
    except OSError:
        # Then no library can be opened beside it either, and nothing is deleted there.
        return None


def _is_right(
    turner: KeyTurner, context: Context, sequences: Sequence[int], model: LoadedModel
) -> bool:
    """Whether keys are turned as the model would have computed them: tried on a few tokens."""
    num_tokens = min(_NUM_PROBE_TOKENS, context.max_step_tokens // 2)
    tokens = np.arange(num_tokens, dtype=np.int32) % model.vocabulary.num_vocab
    # Far: slow pairs turn little on a short way.
    distance = max(min(model.num_ctx_train, _MAX_PROBE_DISTANCE) - num_tokens, num_tokens)
    states = []
    for sequence, position in zip(sequences, (0, distance), strict=False):
        # It asks for no logits, so there is no job to give them to.
        context.decode([Run(cast(Job, None), sequence, position, tokens, 0)])
        states.append(context.save(sequence))
        context.drop(sequence)
    return turner.agrees(states[0], states[1], distance)


def wants_passages(model: LoadedModel, settings: EngineSettings) -> bool:
    """Whether passages are to be reused: as set, else where the model was trained for it."""
    if settings.reuse != "auto":
        return settings.reuse == "passages"
    return model.header.text(BLOCK_ATTENTION_KEY).lower() == "true"


def choose_attention(model: LoadedModel, settings: EngineSettings) -> EngineSettings:
    """Settings that say how the engine's own context computes attention, if they did not.

    Where passages are computed apart, it is left with few tokens a step that see many cells: there
    llama.cpp's flash attention on a processor takes longer than the plain one.
    """
    if settings.flash_attention is not None:
        return settings
    can_choose = not settings.num_gpu_layers and settings.kv_type != "q8_0"
    is_plain = can_choose and wants_passages(model, settings)
    return replace(settings, flash_attention=not is_plain)
