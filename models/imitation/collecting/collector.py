"""One run of collecting: the mode asks in rounds, answers go through the journal into rows.

A mode's requests follow from seeds, options and the answers before them, never from time or
concurrency. So a run that was killed asks the same again, finds most answers in the journal and
writes the same rows.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from models.imitation.collecting.journal import Journal
from models.imitation.collecting.teacher import Teacher, TeacherRequest
from models.imitation.collecting.types import (
    Answer,
    Draft,
    Limits,
    Mode,
    Progress,
    StopReason,
    Summary,
)
from models.imitation.conversations import Conversation, Turn, write_conversations
from models.imitation.errors import TeacherFailed

# So many requests since the last row that was kept: the teacher does not understand the task.
MAX_FRUITLESS_REQUESTS = 60


class Collector:
    """Runs `mode` against `teacher` until a limit is met, and writes the rows to `out`."""

    def __init__(
        self,
        mode: Mode,
        teacher: Teacher,
        out: Path,
        limits: Limits,
        *,
        row_license: str,
        progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._mode = mode
        self._teacher = teacher
        self._out = out
        self._limits = limits
        self._license = row_license
        self._progress = progress
        self._num_rows = 0
        self._num_rows_of_answer: Counter[int] = Counter()
        self._next_number = 0
        self._num_fruitless = 0
        self._dropped: Counter[str] = Counter()
        self._stop: StopReason | None = None
        self._failure: TeacherFailed | KeyboardInterrupt | None = None

    def run(self) -> Summary:
        """Collect; what is there is written whatever stops the run.

        Raises `RunDamaged`, `TeacherFailed` (after its retries) and `KeyboardInterrupt`; the same
        call goes on where it stopped.
        """
        mode = self._mode
        plan = {
            "mode": mode.name,
            "prompt_version": mode.prompt_version,
            "model": self._teacher.model,
            **mode.plan,
        }
        with Journal(self._out, plan) as self._journal, asyncio.Runner() as self._runner:
            num_before = self._journal.num_answers
            try:
                write_conversations(self._out, self._rows())
            finally:
                self._runner.run(self._teacher.close())
            if self._failure is not None and self.num_wanted > 0:
                raise self._failure
            return Summary(
                stopped_by=self._stop if self._stop and self.num_wanted > 0 else "num_rows",
                num_rows=self._num_rows,
                num_requests=self._journal.num_answers,
                num_requests_now=self._journal.num_answers - num_before,
                num_tokens=self._journal.num_tokens,
                num_retries=self._teacher.num_retries,
                dropped=dict(sorted(self._dropped.items())),
            )

    # What the mode sees

    @property
    def num_wanted(self) -> int:
        return self._limits.num_rows - self._num_rows

    def drop(self, reason: str) -> None:
        self._dropped[reason] += 1

    def ask(self, requests: Sequence[TeacherRequest]) -> list[Answer]:
        if self._stop is None and self._num_fruitless >= MAX_FRUITLESS_REQUESTS:
            self._stop = "fruitless"
        if self._stop is not None or self._failure is not None:
            raise _Stopped
        self._num_fruitless += len(requests)
        numbered = list(enumerate(requests, self._next_number))
        self._next_number += len(numbered)
        answers = self._known(numbered)
        while len(answers) < len(numbered):
            admitted = self._admit(numbered)
            if not admitted:
                break
            try:
                self._runner.run(self._ask_all(admitted))
            except (TeacherFailed, KeyboardInterrupt) as error:
                # What was answered before it still becomes rows.
                self._failure = error
            answers = self._known(numbered)
            if self._failure is not None:
                break
        if not answers and numbered:
            raise _Stopped
        return answers

    def _known(self, numbered: Sequence[tuple[int, TeacherRequest]]) -> list[Answer]:
        """The answers that are there, up to the first that is not."""
        answers = []
        for number, request in numbered:
            reply = self._journal.find(number, request, self._teacher.model)
            if reply is None:
                break
            answers.append(Answer(number, reply))
        return answers

    def _admit(
        self, numbered: Sequence[tuple[int, TeacherRequest]]
    ) -> list[tuple[int, TeacherRequest]]:
        """The first of the unanswered requests that certainly fit the budgets."""
        num_requests, num_tokens = self._journal.num_answers, self._journal.num_tokens
        admitted: list[tuple[int, TeacherRequest]] = []
        for number, request in numbered:
            if self._journal.find(number, request, self._teacher.model) is not None:
                continue
            num_requests += 1
            num_tokens += request.bound_tokens
            stop = self._limits.exceeded_by(num_requests, num_tokens)
            if stop is not None:
                # The real cost of those before it may yet leave room for it.
                self._stop = None if admitted else stop
                break
            admitted.append((number, request))
        return admitted

    async def _ask_all(self, numbered: Sequence[tuple[int, TeacherRequest]]) -> None:
        async def ask(number: int, request: TeacherRequest) -> None:
            reply = await self._teacher.ask(request)
            self._journal.append(number, request, self._teacher.model, reply)
            self._show()

        tasks = [asyncio.create_task(ask(number, request)) for number, request in numbered]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._journal.sync()

    # Rows

    def _rows(self) -> Iterator[Conversation]:
        drafts = self._mode.drafts(self)
        with suppress(_Stopped):
            while self.num_wanted > 0:
                draft = next(drafts)
                self._num_rows += 1
                self._num_fruitless = 0
                yield self._to_row(draft)
        self._show()

    def _to_row(self, draft: Draft) -> Conversation:
        number, reply = draft.answer.number, draft.answer.reply
        position = self._num_rows_of_answer[number]
        self._num_rows_of_answer[number] += 1
        usage = {
            "prompt_tokens": reply.num_prompt_tokens,
            "completion_tokens": reply.num_completion_tokens,
        }
        return Conversation(
            id=f"{self._mode.name}-{number:06}-{position}",
            turns=(Turn("user", draft.instruction), Turn("assistant", draft.response)),
            provenance={
                "source": f"collect/{self._mode.name}",
                "license": self._license,
                "teacher": reply.model,
                "endpoint": reply.endpoint,
                "mode": self._mode.name,
                "prompt_version": self._mode.prompt_version,
                "seed_ids": list(draft.seed_ids),
                "time_s": reply.time_s,
                # Of the request that wrote the row; rows of one request repeat it.
                "usage": usage,
                "requests": [*draft.asked_before, number],
                **draft.details,
            },
            passages=draft.passages,
        )

    def _show(self) -> None:
        self._progress(
            Progress(
                num_rows=self._num_rows,
                num_requests=self._journal.num_answers,
                num_tokens=self._journal.num_tokens,
                num_retries=self._teacher.num_retries,
                num_dropped=self._dropped.total(),
            )
        )


class _Stopped(Exception):
    """A budget is spent, or nothing more comes of asking."""
