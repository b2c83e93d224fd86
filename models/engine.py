"""The engine: one decode thread, one context, many requests at once.

A step is three lines: schedule, run, postprocess.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from models.batch import Run
from models.context import Context, DecodeFailed, LoadedModel
from models.engine_settings import EngineSettings
from models.errors import ContextLengthExceeded, EngineStopped, ModelError, PromptInvalid
from models.generation import DeltaStream
from models.jobs import GenerationJob, Job
from models.protocols import (
    ContinuationScore,
    EngineLoad,
    Message,
    ModelInfo,
    Prompt,
    PromptDocument,
    SamplingSettings,
)
from models.scheduler import Scheduler
from models.scoring import ScoreJob
from models.slots import SlotTable
from models.template import ChatTemplate
from models.tokens import PromptTokenizer

logger = logging.getLogger("mynah.engine")

# llama_decode found no cells, though they were promised: sharing was counted wrongly.
_NO_CELLS = 1


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
        self._is_closing = False
        self._forgets = False
        self._failure: EngineStopped | None = None
        self._thread = threading.Thread(target=self._serve, name="mynah-decode", daemon=True)
        self._thread.start()
        # Freed before the interpreter goes, while llama.cpp's threads can still be joined.
        atexit.register(self.close)

    def _open(self) -> None:
        settings, model = self._settings, self._model
        vocabulary = model.vocabulary
        template = ChatTemplate(
            model.header.text("tokenizer.chat_template"),
            bos=vocabulary.text(vocabulary.bos_id),
            eos=vocabulary.text(vocabulary.eos_id),
        )
        self._tokenizer = PromptTokenizer(vocabulary, template)
        # Computed now, so that the first request does not pay for it.
        _ = self._tokenizer.forbidden_ids
        self._num_ctx, num_cells = settings.context_sizes(model.num_ctx_train)
        self._info = model.describe(settings, self._num_ctx, template.has_documents)
        self._context = Context(model, settings, num_cells)
        self._slots = SlotTable(
            self._context,
            settings.num_sequences,
            settings.num_kept_prefixes,
            can_share=not model.has_recurrence,
        )
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
    def load(self) -> EngineLoad:
        """How busy the engine is now."""
        with self._changed:
            return EngineLoad(
                num_slots=self._settings.num_slots,
                num_running=self._scheduler.num_running,
                num_waiting=self._scheduler.num_waiting,
                max_waiting=self._settings.max_waiting,
            )

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
            return self._tokenizer.prepare(
                messages, documents, add_generation_prompt=add_generation_prompt
            )

    def num_tokens(self, text: str) -> int:
        """Number of tokens of `text` as content."""
        with self._model.use():
            return len(self._tokenizer.encode_content(text))

    def generate(self, prompt: Prompt, sampling: SamplingSettings) -> DeltaStream:
        """Queue a generation and return at once.

        Raises `QueueFull`, `ContextLengthExceeded`, `GrammarInvalid`, `SamplingInvalid`,
        `PromptInvalid` or `EngineStopped`.
        """
        num_wanted = 1 if sampling.max_tokens is None else sampling.max_tokens
        self._check(prompt, num_wanted)
        max_tokens = sampling.max_tokens
        if max_tokens is None:
            max_tokens = self._num_ctx - prompt.num_tokens
        with self._model.use() as vocabulary:
            encode = partial(self._tokenizer.encode_content, follows_text=True)
            job = GenerationJob(
                prompt.tokens, max_tokens, sampling, vocabulary, self._cancel, encode=encode
            )
            job.jumps = self._settings.jumps
            if self._settings.drafts and not self._model.has_recurrence:
                job.bind(self._context.truncate)
            self._submit(job)
        return job.stream

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[ContinuationScore]:
        """Score texts as parallel continuations of one shared, once-prefilled prompt.

        Raises as `generate` does. Cancelling the awaiting task stops the work.
        """
        self._check(prompt, 0)
        with self._model.use() as vocabulary:
            # A continuation goes on where the prompt ends, often right behind a control token.
            follows_text = not vocabulary.is_special(prompt.tokens[-1])
            texts = [
                self._tokenizer.encode_content(text, follows_text=follows_text)
                for text in continuations
            ]
            self._check(prompt, max(map(len, texts), default=0))
            if not any(texts):
                return [ContinuationScore(0.0, 0) for _ in texts]
            job = ScoreJob(
                prompt.tokens, texts, self._settings.num_spare_sequences, self._context.num_cells
            )
            job.bind(self._context.copy_prefix, self._context.drop)
            self._submit(job)
        try:
            return await asyncio.wrap_future(job.result)
        except asyncio.CancelledError:
            self._cancel(job)
            raise

    def forget_prefixes(self) -> None:
        """Drop the cells kept of finished requests, as when a document was deleted."""
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
        self._model.free()

    def _check(self, prompt: Prompt, num_answer_tokens: int) -> None:
        num_vocab = self._info.num_vocab
        if not prompt.tokens:
            raise PromptInvalid("The prompt is empty.", param="messages")
        if min(prompt.tokens) < 0 or max(prompt.tokens) >= num_vocab:
            raise PromptInvalid(
                f"The prompt holds token ids outside 0 to {num_vocab - 1}.", param="messages"
            )
        if prompt.num_tokens + num_answer_tokens > self._num_ctx:
            raise ContextLengthExceeded(prompt.num_tokens, num_answer_tokens, self._num_ctx)

    def _submit(self, job: Job) -> None:
        try:
            with self._changed:
                if self._failure is not None:
                    raise EngineStopped(self._failure.message)
                if self._is_closing:
                    raise EngineStopped("The engine is closed.")
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
                    self._changed.wait_for(self._is_due)
                    if self._is_closing:
                        break
                    runs = self._schedule()
                if runs:
                    self._postprocess(runs, self._run(runs))
        except Exception as error:
            logger.exception("the decode thread failed")
            failure = EngineStopped(f"The engine stopped: {error}. Start it again.")
        with self._changed:
            self._failure = failure
            self._scheduler.fail_all(failure.message)
        self._context.free()

    def _is_due(self) -> bool:
        return self._is_closing or self._forgets or self._scheduler.has_work

    def _schedule(self) -> list[Run]:
        if self._forgets:
            self._forgets = False
            self._slots.forget_all()
        return self._scheduler.schedule(
            self._context.max_step_tokens, self._context.max_step_outputs
        )

    def _run(self, runs: list[Run]) -> Any:
        """Compute a step; None if llama.cpp could not, its requests failed then."""
        try:
            return self._context.decode(runs)
        except DecodeFailed as error:
            if error.status == _NO_CELLS and self._slots.kept_sequences:
                with self._changed:
                    self._slots.forget_all()
                return self._run(runs)
            logger.error("llama_decode returned %d", error.status)
            with self._changed:
                for job in {id(run.job): run.job for run in runs}.values():
                    self._scheduler.fail(
                        job, ModelError("The model could not compute this request; try it again.")
                    )
            return None

    def _postprocess(self, runs: list[Run], logits: Any) -> None:
        if logits is None:
            return
        row = 0
        ended: set[int] = set()
        for run in runs:
            rows = logits[row : row + run.num_outputs]
            row += run.num_outputs
            if id(run.job) in ended:
                continue
            try:
                is_done = run.job.absorb(run, rows)
            except ModelError as error:
                ended.add(id(run.job))
                with self._changed:
                    self._scheduler.fail(run.job, error)
                continue
            if is_done:
                ended.add(id(run.job))
                with self._changed:
                    self._scheduler.finish(run.job)


def open_engine(path: str | Path, **settings: Any) -> LlamaEngine:
    """Return a running engine for the GGUF at `path`; `settings` as in `EngineSettings`."""
    return LlamaEngine(EngineSettings(path=Path(path), **settings))
