"""A writer's text as the events of an answer, timed, and stopped when its reader leaves."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Protocol

from models.protocols import FinishReason, Generation, GenerationUsage
from server.grounding.prompt import GroundedPrompt
from server.grounding.types import (
    AnswerEnd,
    AnswerEvent,
    Citation,
    Decision,
    GroundingReport,
    Mode,
    SentenceSupport,
    TextDelta,
)

_NO_USAGE = GenerationUsage(0, 0, 0, 0.0, 0.0, 0.0)


class Writer(Protocol):
    """Turns a generation into an answer's text; the rest is known once all of it is written."""

    finish_reason: FinishReason
    usage: GenerationUsage | None

    @property
    def text(self) -> str: ...
    @property
    def citations(self) -> tuple[Citation, ...]: ...
    @property
    def sentences(self) -> tuple[SentenceSupport, ...]: ...
    @property
    def decision(self) -> Decision: ...
    def write(self, generation: Generation) -> AsyncIterator[TextDelta]: ...


class EchoWriter:
    """Passes the engine's text on as it comes and keeps all of it."""

    def __init__(self) -> None:
        self.text = ""
        self.finish_reason: FinishReason = "stop"
        self.usage: GenerationUsage | None = None

    async def write(self, generation: Generation) -> AsyncIterator[TextDelta]:
        """The generation's own pieces of text."""
        async for delta in generation:
            if delta.text or delta.logprobs:
                self.text += delta.text
                yield TextDelta(delta.text, delta.logprobs)
            if delta.finish_reason is not None:
                self.finish_reason = delta.finish_reason
                self.usage = delta.usage


class PlainWriter(EchoWriter):
    """The bare model's text, traced to nothing."""

    citations: tuple[Citation, ...] = ()
    sentences: tuple[SentenceSupport, ...] = ()
    decision: Decision = "ungrounded"


class Clock:
    """Milliseconds between marks, by name."""

    def __init__(self) -> None:
        self.timing_ms: dict[str, float] = {}
        self._last_s = time.perf_counter()

    def mark(self, name: str) -> None:
        """Count the time since the mark before (or the start) as `name`."""
        now_s = time.perf_counter()
        self.timing_ms[name] = (now_s - self._last_s) * 1000
        self._last_s = now_s


class WrittenStream:
    """The `AnswerStream` of a writer over a running generation."""

    def __init__(
        self,
        mode: Mode,
        writer: Writer,
        generation: Generation,
        grounded: GroundedPrompt,
        clock: Clock,
        *,
        evidence: float | None = None,
    ) -> None:
        self._evidence = evidence
        self._mode = mode
        self._writer = writer
        self._generation = generation
        self._grounded = grounded
        self._clock = clock

    async def __aiter__(self) -> AsyncIterator[AnswerEvent]:
        writer = self._writer
        try:
            async for delta in writer.write(self._generation):
                yield delta
            self._clock.mark("decode")
            yield AnswerEnd(
                writer.text,
                writer.finish_reason,
                writer.usage or _NO_USAGE,
                GroundingReport(
                    mode=self._mode,
                    decision=writer.decision,
                    evidence=self._evidence,
                    citations=writer.citations,
                    sentences=writer.sentences,
                    kept=self._grounded.kept,
                    dropped=self._grounded.dropped,
                    timing_ms=self._clock.timing_ms,
                ),
            )
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Stop the generation; harmless after the end."""
        self._generation.cancel()


class RefusalStream:
    """The `AnswerStream` that says the documents hold no answer, or another fixed reply."""

    def __init__(
        self,
        mode: Mode,
        refusal: str,
        grounded: GroundedPrompt,
        clock: Clock,
        decision: Decision = "abstained",
        *,
        evidence: float | None = None,
    ) -> None:
        self._refusal = refusal
        self._report = GroundingReport(
            mode=mode,
            decision=decision,
            evidence=evidence,
            kept=grounded.kept,
            dropped=grounded.dropped,
            timing_ms=clock.timing_ms,
        )

    async def __aiter__(self) -> AsyncIterator[AnswerEvent]:
        yield TextDelta(self._refusal)
        yield AnswerEnd(self._refusal, "stop", _NO_USAGE, self._report)

    async def aclose(self) -> None:
        """Nothing runs behind a refusal."""
