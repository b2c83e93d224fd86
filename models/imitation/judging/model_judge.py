"""A model as the rater: every pair in both orders, and a win only where both verdicts name it.

Answers go through a journal, so a judge that was stopped asks nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from models.imitation.collecting.journal import Journal
from models.imitation.collecting.teacher import Teacher, TeacherReply, TeacherRequest
from models.imitation.collecting.types import Limits, StopReason
from models.imitation.judging.judgements import MODEL_PREFIX, Judgement, JudgementLog, choice_of
from models.imitation.judging.pairs import Comparison, Pair, Role, Shown, other
from models.imitation.judging.prompt import PROMPT_VERSION, make_prompt, read_verdict

ANSWER_TOKENS = 1024
# Pairs that are asked about before the next are weighed against the budgets.
_ROUND = 64


@dataclass(frozen=True, slots=True)
class JudgeSummary:
    """What a run left. Requests and tokens are counted over all runs of this judge and folder."""

    rater: str
    num_pairs: int
    num_judged: int
    num_errors: int
    num_requests: int
    num_requests_now: int
    num_tokens: int
    num_retries: int
    stopped_by: StopReason | Literal["done"]

    def to_json(self) -> dict[str, Any]:
        """Every field by its name."""
        return {name: getattr(self, name) for name in self.__slots__}


class ModelJudge:
    """Judges `comparison` with `teacher` at temperature 0 and keeps what it says in `log`.

    `progress` is called with verdicts there, verdicts wanted and retries.
    """

    def __init__(
        self,
        comparison: Comparison,
        teacher: Teacher,
        log: JudgementLog,
        folder: Path,
        *,
        max_requests: int | None = None,
        max_tokens: int | None = None,
        answer_tokens: int = ANSWER_TOKENS,
        progress: Callable[[int, int, int], None] = lambda done, wanted, retries: None,
    ) -> None:
        self._comparison = comparison
        self._teacher = teacher
        self._log = log
        self._out = folder / f"judge-{quote(teacher.model, safe='')}"
        self._limits = Limits(len(comparison.pairs), max_requests, max_tokens)
        self._answer_tokens = answer_tokens
        self._progress = progress
        self.rater = MODEL_PREFIX + teacher.model

    def run(self) -> JudgeSummary:
        """Judge every pair that is not yet judged; the same call goes on where it stopped.

        Raises `RunDamaged` where the journal is of another run or in use, and `TeacherFailed`
        after its retries; what was answered is kept.
        """
        plan = {
            "prompt_version": PROMPT_VERSION,
            "model": self._teacher.model,
            "pairs": self._comparison.sha256,
            "answer_tokens": self._answer_tokens,
        }
        stopped_by: StopReason | Literal["done"] = "done"
        with asyncio.Runner() as runner:
            try:
                with Journal(self._out, plan) as self._journal:
                    num_before = self._journal.num_answers
                    self._keep(range(len(self._comparison.pairs)))
                    while missing := self._missing():
                        admitted, limit = self._admit(missing)
                        if not admitted:
                            stopped_by = limit or stopped_by
                            break
                        try:
                            runner.run(self._ask_all(admitted))
                        finally:
                            self._journal.sync()
                            self._keep(admitted)
                    return self._summarise(stopped_by, num_before)
            finally:
                runner.run(self._teacher.close())

    def _missing(self) -> list[int]:
        judged = self._log.standing_of(self.rater)
        return [i for i, pair in enumerate(self._comparison.pairs) if pair.id not in judged]

    def _admit(self, missing: Sequence[int]) -> tuple[list[int], StopReason | None]:
        """The first pairs that certainly fit the budgets with all they lack, or what they break."""
        num_requests, num_tokens = self._journal.num_answers, self._journal.num_tokens
        admitted: list[int] = []
        for index in missing[:_ROUND]:
            lacking = self._lacking(index)
            num_requests += len(lacking)
            num_tokens += sum(request.bound_tokens for _, request in lacking)
            limit = self._limits.exceeded_by(num_requests, num_tokens)
            if limit is not None:
                return admitted, limit
            admitted.append(index)
        return admitted, None

    async def _ask_all(self, indices: Sequence[int]) -> None:
        async def ask(number: int, request: TeacherRequest) -> None:
            reply = await self._teacher.ask(request)
            self._journal.append(number, request, self._teacher.model, reply)
            self._show()

        self._show()
        try:
            async with asyncio.TaskGroup() as group:
                for index in indices:
                    for number, request in self._lacking(index):
                        group.create_task(ask(number, request))
        except ExceptionGroup as failures:
            # What stopped one request stopped the run; the command line shows one error.
            raise failures.exceptions[0] from None

    def _requests(self, index: int) -> list[tuple[int, TeacherRequest]]:
        """The request of each order with its number: sides as stored first, then exchanged."""
        shown = self._comparison.show(self._comparison.pairs[index])
        orders = (shown, Shown(shown.question, shown.b, shown.a))
        return [
            (2 * index + place, TeacherRequest(make_prompt(order), self._answer_tokens, 0.0))
            for place, order in enumerate(orders)
        ]

    def _find(self, number: int, request: TeacherRequest) -> TeacherReply | None:
        return self._journal.find(number, request, self._teacher.model)

    def _lacking(self, index: int) -> list[tuple[int, TeacherRequest]]:
        return [asked for asked in self._requests(index) if self._find(*asked) is None]

    def _keep(self, indices: Sequence[int]) -> None:
        """Turn the pairs that were answered in both orders into judgements."""
        judged = self._log.standing_of(self.rater)
        for index in indices:
            pair = self._comparison.pairs[index]
            replies = [self._find(*asked) for asked in self._requests(index)]
            there = [reply for reply in replies if reply is not None]
            if len(there) == 2 and pair.id not in judged:
                self._log.add(to_judgement(pair, self.rater, there))

    def _show(self) -> None:
        wanted = 2 * len(self._comparison.pairs)
        self._progress(self._journal.num_answers, wanted, self._teacher.num_retries)

    def _summarise(self, stopped_by: StopReason | Literal["done"], num_before: int) -> JudgeSummary:
        judged = self._log.standing_of(self.rater).values()
        num_errors = sum(judgement.choice is None for judgement in judged)
        return JudgeSummary(
            rater=self.rater,
            num_pairs=len(self._comparison.pairs),
            num_judged=len(judged) - num_errors,
            num_errors=num_errors,
            num_requests=self._journal.num_answers,
            num_requests_now=self._journal.num_answers - num_before,
            num_tokens=self._journal.num_tokens,
            num_retries=self._teacher.num_retries,
            stopped_by=stopped_by,
        )


def to_judgement(pair: Pair, rater: str, replies: Sequence[TeacherReply]) -> Judgement:
    """The judgement of two replies: sides as stored, then exchanged.

    Verdicts that differ make a tie and count as flipped; without a verdict in one of the orders
    there is no choice, and `judge["error"]` says why.
    """
    orders: list[dict[str, Any]] = []
    preferred: list[Role | None] = []
    errors: list[str] = []
    for reply, first in zip(replies, (pair.a, other(pair.a)), strict=True):
        verdict = read_verdict(reply.text)
        orders.append({"A": first, "verdict": verdict, "text": reply.text})
        if verdict is None:
            errors.append(f"no verdict (finish reason {reply.finish_reason})")
        preferred.append({"A": first, "B": other(first)}.get(verdict or ""))
    has_flipped = preferred[0] != preferred[1]
    agreed = None if has_flipped else preferred[0]
    return Judgement(
        item=pair.id,
        rater=rater,
        choice=None if errors else choice_of(agreed, pair.sides),
        sides=pair.sides,
        time_s=max(reply.time_s for reply in replies),
        judge={
            "model": replies[-1].model,
            "endpoint": replies[-1].endpoint,
            "prompt_version": PROMPT_VERSION,
            "orders": orders,
            "flipped": None if errors else has_flipped,
            "error": "; ".join(errors) or None,
        },
    )
