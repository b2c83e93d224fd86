"""Questions to outcomes: asked a few at a time, kept in a file as they come, resumed from it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from index.types import Retriever
from models.errors import ContextLengthExceeded, EngineStopped, PromptInvalid
from models.imitation.errors import RunDamaged
from models.protocols import Embedder, Engine, SamplingSettings
from server.evaluation.conditions import ConditionName, Exhibits, FixedRetriever, name_exhibit
from server.evaluation.outcomes import Outcome, Timing, score_answer, score_text
from server.evaluation.passages import PassagePool
from server.evaluation.questions import Question
from server.grounding.grounder import GroundingService
from server.grounding.rules import GroundingRules
from server.grounding.types import AnswerEnd, GroundingScope, TextDelta

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Material:
    """What every system is asked about: the documents, and what is laid before it of them."""

    pool: PassagePool
    retriever: Retriever
    exhibits: Exhibits


class OutcomeLog:
    """Outcomes in a JSONL file whose first line says of which run they are.

    A file of the same run is continued; one of another run is begun anew. The line that a killed
    process left half-written is dropped.
    """

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        """Raises `RunDamaged` if the file is of this run and cannot be read."""
        self.outcomes: dict[str, Outcome] = {}
        header = json.dumps({"run": run}, sort_keys=True, ensure_ascii=False) + "\n"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        # Not splitlines: an answer may hold other characters that end a line.
        lines = [f"{line}\n" for line in text.split("\n")[:-1]]
        if not lines or lines[0] != header:
            lines = [header]
        for number, line in enumerate(lines[1:], 2):
            try:
                outcome = Outcome.from_json(json.loads(line))
            except (json.JSONDecodeError, RunDamaged):
                raise RunDamaged(
                    f"{path}, line {number}: not an outcome; delete the file to ask again."
                ) from None
            self.outcomes[outcome.id] = outcome
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(path.name + ".part")
        aside.write_text("".join(lines), encoding="utf-8")
        aside.replace(path)
        self._path = path

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome at once."""
        with self._path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(outcome.to_json(), ensure_ascii=False) + "\n")
        self.outcomes[outcome.id] = outcome


class Examiner:
    """Asks one engine under any condition, through the grounder that serves people.

    `num_at_once` questions are under way together, as many as the engine has slots by default;
    answers are timed as one person sees them only where it is 1.
    """

    def __init__(
        self,
        engine: Engine,
        embedder: Embedder,
        rules: GroundingRules,
        material: Material,
        *,
        answer_tokens: int = 256,
        num_at_once: int | None = None,
    ) -> None:
        self._engine = engine
        self._num_at_once = num_at_once or max(1, engine.load.num_slots)
        self._rules = rules
        self._material = material
        self._sampling = SamplingSettings(max_tokens=answer_tokens)
        fixed = FixedRetriever(material.exhibits)
        self._over_exhibits = GroundingService(engine, fixed, embedder, rules)
        self._over_documents = GroundingService(engine, material.retriever, embedder, rules)

    def ask(
        self,
        condition: ConditionName,
        questions: Sequence[Question],
        log: OutcomeLog,
        progress: Progress,
    ) -> list[Outcome]:
        """Outcomes in the order of the questions; those in the log are not asked again.

        Questions without exhibits are left out of the conditions that need them. A question whose
        prompt does not fit or that the template refuses has failed; anything else is raised.
        """
        if condition in ("gold", "wrong"):
            exhibits = self._material.exhibits
            questions = [q for q in questions if (condition, q.id) in exhibits.shown]
        asyncio.run(self._ask_all(condition, questions, log, progress))
        return [log.outcomes[question.id] for question in questions]

    async def _ask_all(
        self,
        condition: ConditionName,
        questions: Sequence[Question],
        log: OutcomeLog,
        progress: Progress,
    ) -> None:
        room = asyncio.Semaphore(self._num_at_once)
        open_questions = [q for q in questions if q.id not in log.outcomes]
        num_done = len(questions) - len(open_questions)
        progress(num_done, len(questions))

        async def ask_one(question: Question) -> None:
            nonlocal num_done
            async with room:
                log.add(await self._ask(condition, question))
            num_done += 1
            progress(num_done, len(questions))

        try:
            async with asyncio.TaskGroup() as group:
                for question in open_questions:
                    group.create_task(ask_one(question))
        except ExceptionGroup as failures:
            # What stopped one question stopped the run; the command line shows one error.
            raise failures.exceptions[0] from None

    async def _ask(self, condition: ConditionName, question: Question) -> Outcome:
        service, scope = self._find_service(condition, question)
        try:
            end, timing = await _answer(service, question, scope, self._sampling)
        except (ContextLengthExceeded, PromptInvalid):
            return score_text(question, condition, "", "failed", self._rules.refusal)
        pool, golds = self._material.pool, self._material.exhibits.golds
        return score_answer(
            question,
            condition,
            end,
            hits=[pool.to_hit(kept.id) for kept in end.report.kept],
            gold=golds.get(question.id, frozenset()) if condition != "closed_book" else frozenset(),
            timing=timing,
            refusal=self._rules.refusal,
        )

    def _find_service(
        self, condition: ConditionName, question: Question
    ) -> tuple[GroundingService, GroundingScope]:
        if condition == "closed_book":
            return self._over_documents, GroundingScope(mode="off")
        if condition == "retrieved":
            collections = (self._material.pool.collection,)
            return self._over_documents, GroundingScope(collections=collections)
        hits = self._material.exhibits.shown[condition, question.id]
        scope = GroundingScope(
            collections=(name_exhibit(condition, question.id),), max_passages=max(1, len(hits))
        )
        return self._over_exhibits, scope


async def _answer(
    service: GroundingService,
    question: Question,
    scope: GroundingScope,
    sampling: SamplingSettings,
) -> tuple[AnswerEnd, Timing]:
    started_s = time.perf_counter()
    first_ms: float | None = None
    stream = await service.answer(question.messages, scope, sampling)
    async with aclosing(stream) as events:
        async for event in events:
            elapsed_ms = round((time.perf_counter() - started_s) * 1000, 2)
            if isinstance(event, TextDelta):
                first_ms = elapsed_ms if first_ms is None else first_ms
            elif isinstance(event, AnswerEnd):
                search_ms = event.report.timing_ms.get("search")
                return event, Timing(
                    None if search_ms is None else round(search_ms, 2), first_ms, elapsed_ms
                )
    raise EngineStopped("The answer ended before it was complete.")
