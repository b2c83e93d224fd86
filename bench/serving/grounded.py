"""Whole grounded answers over the example handbook: with and without drafts, and jump-forward."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.serving.engines import in_turn, opened
from index.collection import Library
from index.retriever import HybridRetriever
from ingest.pipeline import ingest
from models.caching import remember
from models.embedder import SentenceEmbedder
from models.engine import LlamaEngine
from models.protocols import SamplingSettings
from models.text.excerpts import EXCERPTS, PASSAGES_KEY
from server.evaluation.questions import Question, read_questions
from server.grounding.grounder import GroundingService
from server.grounding.rules import GroundingRules
from server.grounding.types import AnswerEnd, GroundingScope, Mode

_EXAMPLES = Path(__file__).parents[2] / "examples"
_SAMPLING = SamplingSettings(max_tokens=400)
_SCOPE_EVIDENCE = 0.0


def measure_answers(
    path: Path, num_threads: int, num_repeats: int, num_questions: int, mode: Mode
) -> dict[str, dict[str, list[float]]]:
    """Figures of each way, a value a repeat: `tokens_per_s`, `decode_s`, whole `answer_s`.

    Mode `answer` compares `drafts`, mode `quote` compares `jumps`; both against the engine without.
    Nothing is abstained from, and no prefix is kept from one answer to the next.
    """
    option = "drafts" if mode == "answer" else "jumps"
    with (
        opened(path, num_threads, **{option: True}) as fast,
        opened(path, num_threads, **{option: False}) as plain,
        _services({"with": fast, "without": plain}, mode) as services,
    ):
        questions = [
            question
            for question in read_questions(_EXAMPLES / "questions.jsonl")
            if question.is_answerable
        ][:num_questions]
        engines = {"with": fast, "without": plain}
        found: dict[str, dict[str, list[float]]] = {
            name: {"tokens_per_s": [], "decode_s": [], "answer_s": []} for name in engines
        }
        for repeat in range(num_repeats + 1):
            totals = {name: [0.0, 0.0, 0.0] for name in engines}
            for number, question in enumerate(questions):
                for name, service in in_turn(services, repeat + number):
                    engines[name].forget_prefixes()
                    started_s = time.perf_counter()
                    end = asyncio.run(_answer(service, question, mode))
                    totals[name][0] += time.perf_counter() - started_s
                    totals[name][1] += end.usage.num_completion_tokens
                    totals[name][2] += end.usage.decode_ms / 1000
            # The first round fills the memory of embedded texts and is not counted.
            for name, (answer_s, num_tokens, decode_s) in totals.items() if repeat else ():
                found[name]["answer_s"].append(answer_s / len(questions))
                found[name]["decode_s"].append(decode_s / len(questions))
                found[name]["tokens_per_s"].append(num_tokens / decode_s)
    return found


async def _answer(service: GroundingService, question: Question, mode: Mode) -> AnswerEnd:
    scope = GroundingScope(mode=mode, min_evidence=_SCOPE_EVIDENCE)
    stream = await service.answer(question.messages, scope, _SAMPLING)
    ends = [event async for event in stream if isinstance(event, AnswerEnd)]
    return ends[-1]


@contextmanager
def _services(
    engines: Mapping[str, LlamaEngine], mode: Mode
) -> Iterator[dict[str, GroundingService]]:
    embedder = remember(SentenceEmbedder())
    with tempfile.TemporaryDirectory() as folder, Library(Path(folder), embedder) as library:
        ingest([_EXAMPLES / "handbook"], "bench", library, embedder)
        retriever = HybridRetriever(library, embedder)
        yield {
            name: GroundingService(
                engine,
                retriever,
                embedder,
                GroundingRules(
                    mode=mode,
                    is_instructed=engine.info.metadata.get(PASSAGES_KEY) != EXCERPTS,
                ),
            )
            for name, engine in engines.items()
        }
