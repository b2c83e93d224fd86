"""Passages computed ahead, while nobody waits for anything."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

from models.admission import check_prompt
from models.errors import ModelError
from models.generation_job import GenerationJob
from models.jobs import Job
from models.protocols import Message, ModelInfo, Prompt, PromptDocument, SamplingSettings
from models.reuse import PassageReuse
from models.vocabulary import Vocabulary

logger = logging.getLogger("mynah.engine")

Prepare = Callable[[Sequence[Message], Sequence[PromptDocument]], Prompt]
_Task = tuple[tuple[Message, ...], PromptDocument]

# A few bytes each beside the text; more would be computed long after they were wanted.
_MAX_WAITING = 100_000


class Background:
    """A queue of passages and the job that computes one; the engine's lock guards it."""

    def __init__(
        self,
        prepare: Prepare,
        vocabulary: Vocabulary,
        info: ModelInfo,
        reuse: PassageReuse,
    ) -> None:
        self._prepare = prepare
        self._vocabulary = vocabulary
        self._info = info
        self._reuse = reuse
        self._waiting: deque[_Task] = deque()
        self._running: tuple[Job, _Task] | None = None

    @property
    def has_work(self) -> bool:
        """Whether a passage waits."""
        return bool(self._waiting)

    @property
    def num_waiting(self) -> int:
        """How many passages wait."""
        return len(self._waiting)

    def add(self, messages: Sequence[Message], documents: Sequence[PromptDocument]) -> int:
        """Queue passages as far as there is room; return how many were taken."""
        room = _MAX_WAITING - len(self._waiting) if self._reuse.is_on else 0
        taken = [(tuple(messages), document) for document in documents[:room]]
        self._waiting.extend(taken)
        return len(taken)

    def start(self) -> Job | None:
        """The next job, None where nothing waits that is not kept already."""
        while self._waiting:
            task = self._waiting.popleft()
            job = self._make(task)
            if job is not None:
                self._running = (job, task)
                return job
        return None

    def give_way(self) -> None:
        """Stop what runs, to begin it again later."""
        if self._running is not None:
            job, task = self._running
            self._running = None
            if job.is_prefilling:
                job.is_cancelled = True
                self._waiting.appendleft(task)

    def _make(self, task: _Task) -> Job | None:
        messages, document = task
        try:
            prompt = self._prepare(messages, [document])
            check_prompt(prompt, 0, self._info)
        except ModelError as error:
            logger.info("a passage is not computed ahead: %s", error.message)
            return None
        if not prompt.blocks or self._reuse.fetch(prompt):
            return None
        settings = SamplingSettings(max_tokens=0)
        job = GenerationJob(prompt.tokens, 0, settings, self._vocabulary, lambda _: None)
        self._reuse.place(job, prompt)
        return job
