"""The engine: one decode thread, one context, many requests at once.

A step is three lines: schedule, run, postprocess.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from models.admission import check_prompt
from models.background import Background
from models.batch import Run, absorb_runs, split_runs
from models.context import Context, DecodeFailed
from models.engine_settings import EngineSettings
from models.errors import EngineStopped, ModelError
from models.generation import DeltaStream
from models.generation_job import GenerationJob
from models.jobs import Job
from models.kvstore import KvStats
from models.loaded_model import LoadedModel
from models.protocols import (
    ContinuationScore,
    EngineLoad,
    Message,
    ModelInfo,
    Prompt,
    PromptDocument,
    SamplingSettings,
)
from models.reuse import choose_attention, open_reuse
from models.scheduler import Scheduler
from models.scoring import ScoreJob
from models.slots import open_slots
from models.stats import EngineStats
from models.tokens import open_tokenizer

logger = logging.getLogger("mynah.engine")

# llama_decode found no cells, though they were promised: sharing was counted wrongly.
_NO_CELLS = 1
_NOT_COMPUTED = "The model could not compute this request; try it again."
# An idle engine looks so often for what other processes have deleted; a busy one at each request.
_SWEEP_S = 2.0


class LlamaEngine:
    """Runs one GGUF through llama.cpp. Implements `models.protocols.Engine`."""

    def __init__(self, settings: EngineSettings) -> None:
        """Load the model and start. Raises `ModelFileInvalid` or `ModelError`."""
        self._settings = settings
        self._model = LoadedModel(settings)
        try:
            self._open()
        except BaseException:
            self._model.free()
            raise
        self._changed = threading.Condition()
        self._freeing = threading.Lock()
        self._is_closing = self._forgets = False
        self._failure: EngineStopped | None = None
        self._thread = threading.Thread(target=self._serve, name="mynah-decode", daemon=True)
        self._thread.start()
        # Freed before the interpreter goes, while llama.cpp's threads can still be joined.
        atexit.register(self.close)

    def _open(self) -> None:
        settings, model = self._settings, self._model
        self._tokenizer = open_tokenizer(
            model.vocabulary, model.header.text("tokenizer.chat_template")
        )
        self._num_ctx, num_cells = settings.context_sizes(model.num_ctx_train)
        self._info = model.describe(settings, self._num_ctx, self._tokenizer.template.has_documents)
        self._context = Context(model, choose_attention(model, settings), num_cells)
        self._slots = open_slots(self._context, settings, model.width)
        self._reuse = open_reuse(model, self._context, settings, self._slots)
        self._background = Background(self.prepare, model.vocabulary, self._info, self._reuse)
        self._scheduler = Scheduler(
            self._slots,
            num_slots=settings.num_slots,
            max_waiting=settings.max_waiting,
            chunk_tokens=settings.chunk_tokens,
        )

    @property
    def info(self) -> ModelInfo:
        """What the model says about itself; `num_ctx` is what one request may take."""
        return self._info

    @property
    def stats(self) -> EngineStats:
        """What it is doing now and has done so far."""
        with self._changed:
            return self._scheduler.stats

    @property
    def load(self) -> EngineLoad:
        """How busy the engine is now."""
        with self._changed:
            return self._scheduler.load

    def prepare(
        self,
        messages: Sequence[Message],
        documents: Sequence[PromptDocument] = (),
        *,
        add_generation_prompt: bool = True,
    ) -> Prompt:
        """Render the chat template and tokenise it segment by segment.

        Raises `PromptInvalid` if the template refuses the messages.
        """
        with self._model.use():
            prompt = self._tokenizer.prepare(
                messages, documents, add_generation_prompt=add_generation_prompt
            )
        self._reuse.fetch(prompt)
        return prompt

    def num_tokens(self, text: str) -> int:
        """Number of tokens of `text` as content."""
        with self._model.use():
            return len(self._tokenizer.encode_content(text))

    def generate(self, prompt: Prompt, sampling: SamplingSettings) -> DeltaStream:
        """Queue a generation and return at once.

        Raises `QueueFull`, `ContextLengthExceeded`, `GrammarInvalid`, `SamplingInvalid`,
        `PromptInvalid` or `EngineStopped`.
        """
        wanted = sampling.max_tokens
        check_prompt(prompt, 1 if wanted is None else wanted, self._info)
        max_tokens = self._num_ctx - prompt.num_tokens if wanted is None else wanted
        with self._model.use() as vocabulary:
            encode = partial(self._tokenizer.encode_content, follows_text=True)
            job = GenerationJob(
                prompt.tokens, max_tokens, sampling, vocabulary, self._cancel, encode=encode
            )
            job.jumps = self._settings.jumps
            if self._settings.drafts and not self._model.has_recurrence:
                job.bind(self._context.truncate)
            job.expire_after([self._settings.deadline_s, sampling.deadline_s])
            self._reuse.place(job, prompt)
            self._submit(job)
        return job.stream

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[ContinuationScore]:
        """Score texts as parallel continuations of one shared, once-prefilled prompt.

        Raises as `generate` does. Cancelling the awaiting task stops the work.
        """
        check_prompt(prompt, 0, self._info)
        with self._model.use():
            texts = self._tokenizer.encode_continuations(prompt, continuations)
            check_prompt(prompt, max(map(len, texts), default=0), self._info)
            if not any(texts):
                return [ContinuationScore(0.0, 0) for _ in texts]
            job = ScoreJob(
                prompt.tokens, texts, self._settings.num_spare_sequences, self._context.num_cells
            )
            job.bind(self._context.copy_prefix, self._context.drop)
            job.expire_after([self._settings.deadline_s])
            self._reuse.place(job, prompt)
            self._submit(job)
        try:
            return await asyncio.wrap_future(job.result)
        except asyncio.CancelledError:
            self._cancel(job)
            raise

    def precompute(self, messages: Sequence[Message], documents: Sequence[PromptDocument]) -> int:
        """Compute passages ahead, while nobody waits for anything; return how many are queued.

        `messages` begin as those that the passages will be read with: a system message counts.
        """
        with self._changed:
            self._changed.notify_all()
            return self._background.add(messages, documents)

    @property
    def passage_stats(self) -> KvStats:
        """What is kept of passages, and how often it was of use."""
        return replace(self._reuse.stats, num_waiting=self._background.num_waiting)

    def forget_prefixes(self, owners: Collection[str] = ()) -> None:
        """Drop the cells kept of finished requests, as when a document was deleted.

        The states of the passages of `owners`, ids of documents, go too, those on disk for good.
        Raises `OSError`.
        """
        self._reuse.forget(owners)
        self._tokenizer.forget()
        with self._changed:
            self._forgets = True
            self._changed.notify_all()

    def close(self) -> None:
        """Stop the decode thread and free the model; running generations fail. Idempotent."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()
        atexit.unregister(self.close)
        # Two who close at once must not free the same.
        with self._freeing:
            self._reuse.close()
            self._model.free()

    def _submit(self, job: Job) -> None:
        try:
            with self._changed:
                if self._failure is not None:
                    raise EngineStopped(self._failure.message)
                if self._is_closing:
                    raise EngineStopped("The engine is closed.")
                self._forgets = self._reuse.sweep() or self._forgets
                self._background.give_way()
                self._scheduler.submit(job)
                self._changed.notify_all()
        except ModelError:
            job.free()
            raise

    def _cancel(self, job: Job) -> None:
        with self._changed:
            job.is_cancelled = True
            self._changed.notify_all()

    def _serve(self) -> None:
        """The decode thread."""
        failure = EngineStopped("The engine was closed before the answer was complete.")
        try:
            while True:
                with self._changed:
                    if not self._changed.wait_for(self._is_due, _SWEEP_S):
                        self._forgets = self._reuse.sweep()
                    if self._is_closing:
                        break
                    runs = self._schedule()
                for part in split_runs(runs):
                    if (logits := self._run(part)) is not None:
                        self._postprocess(part, logits)
        except Exception as error:
            logger.exception("the decode thread failed")
            failure = EngineStopped(f"The engine stopped: {error}. Start it again.")
        with self._changed:
            self._failure = failure
            self._scheduler.fail_all(failure.message)
        self._context.free()

    def _is_due(self) -> bool:
        is_asked = self._is_closing or self._forgets
        return is_asked or self._scheduler.has_work or self._background.has_work

    def _schedule(self) -> list[Run]:
        if self._forgets:
            self._forgets = False
            self._tokenizer.forget()
            self._reuse.forget_prefix()
            self._slots.forget_all()
        if not self._scheduler.has_work and (job := self._background.start()):
            self._scheduler.submit(job)
        context = self._context
        return self._scheduler.schedule(context.max_step_tokens, context.max_step_outputs)

    def _run(self, runs: list[Run]) -> Any:
        """Compute a step; None if llama.cpp could not, its requests failed then."""
        try:
            return self._reuse.choose_context(runs).decode(runs)
        except DecodeFailed as error:
            if error.status == _NO_CELLS and self._slots.kept_sequences:
                with self._changed:
                    self._slots.forget_all()
                return self._run(runs)
            logger.error("llama_decode returned %d", error.status)
            with self._changed:
                for job in {id(run.job): run.job for run in runs}.values():
                    self._scheduler.fail(job, ModelError(_NOT_COMPUTED))
            return None

    def _postprocess(self, runs: list[Run], logits: Any) -> None:
        for job, error in absorb_runs(runs, logits):
            with self._changed:
                if error is None:
                    self._scheduler.finish(job)
                else:
                    self._scheduler.fail(job, error)


def open_engine(path: str | Path, **settings: Any) -> LlamaEngine:
    """Return a running engine for the GGUF at `path`; `settings` as in `EngineSettings`."""
    return LlamaEngine(EngineSettings(path=Path(path), **settings))
