"""Grounded answers over a question set: containment, sentences quoted, abstention, evidence kept.

`python -m bench.answers ../shared/eval/dev [--mode quote] [--model PATH | --no-model]`
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from index.collection import Library
from index.retriever import HybridRetriever
from ingest.pipeline import ingest
from models.embedder import SentenceEmbedder
from models.imitation.metrics import contains_answer
from models.protocols import Engine, SamplingSettings
from server.evaluation.questions import Question, read_questions
from server.grounding.choice import ChoiceRules
from server.grounding.grounder import GroundingService
from server.grounding.rules import GroundingRules
from server.grounding.types import AnswerEnd, GroundingScope, Mode

_SAMPLING = SamplingSettings(max_tokens=400)


def main() -> None:
    """Measure and print a table; with `--json` also one object a question."""
    options = _parse()
    embedder = SentenceEmbedder()
    with tempfile.TemporaryDirectory() as scratch:
        data_dir = options.data_dir or Path(scratch)
        with Library(data_dir, embedder) as library:
            ingest([options.set / "docs"], "eval", library, embedder)
            engine = open_engine(options.model)
            service = GroundingService(
                engine, HybridRetriever(library, embedder), embedder, _read_rules(options)
            )
            questions = read_questions(options.set / "questions.jsonl")
            results = asyncio.run(_answer_all(service, questions, options.mode))
            engine.close()
    report(questions, results)
    if options.json is not None:
        rows = [
            {"id": q.id, "question": q.text, "answer": end.text, **end.report.to_json()}
            for q, end in zip(questions, results, strict=True)
        ]
        options.json.write_text("".join(json.dumps(row) + "\n" for row in rows))


async def _answer_all(
    service: GroundingService, questions: list[Question], mode: Mode
) -> list[AnswerEnd]:
    ends: list[AnswerEnd] = []
    for question in questions:
        stream = await service.answer(question.messages, GroundingScope(mode=mode), _SAMPLING)
        ends += [event async for event in stream if isinstance(event, AnswerEnd)]
    return ends


def report(questions: list[Question], results: list[AnswerEnd]) -> None:
    """Print the figures, over all answerable questions and for each kind."""
    groups: dict[str, list[tuple[Question, AnswerEnd]]] = defaultdict(list)
    for question, end in zip(questions, results, strict=True):
        groups[question.kind].append((question, end))
        groups["answerable" if question.is_answerable else "not answerable"].append((question, end))
    print(f"{'':16}{'n':>5}{'contains':>10}{'strict':>8}{'abstained':>11}{'sentences':>11}")
    for name, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        answered = [end for _, end in group if end.report.decision != "abstained"]
        hits = [contains_answer(end.text, q.answers) for q, end in group if q.is_answerable]
        strict = [q.is_answered_in_full(end.text) for q, end in group if q.is_answerable]
        sentences = [len(end.report.sentences) for end in answered]
        print(
            f"{name:16}{len(group):5}"
            f"{statistics.fmean(hits) if hits else float('nan'):10.3f}"
            f"{statistics.fmean(strict) if strict else float('nan'):8.3f}"
            f"{1 - len(answered) / len(group):11.3f}"
            f"{statistics.fmean(sentences) if sentences else 0:11.2f}"
        )
    totals = [sum(end.report.timing_ms.values()) for end in results]
    print(f"median time of an answer: {statistics.median(totals):.0f} ms")


def open_engine(model: Path | None, num_threads: int = 0) -> Engine:
    """The engine of the model named, else of the one that is set; prints how long that took."""
    from models.engine import LlamaEngine
    from models.engine_settings import EngineSettings
    from server.assembly import find_model
    from server.config import load_settings

    started_s = time.perf_counter()
    engine = LlamaEngine(
        EngineSettings(path=find_model(load_settings(model=model)), num_threads=num_threads)
    )
    print(f"{engine.info.name}: loaded in {time.perf_counter() - started_s:.2f} s")
    return engine


def _read_rules(options: argparse.Namespace) -> GroundingRules:
    choice = ChoiceRules(
        **{
            name: value
            for name, value in vars(options).items()
            if name in ChoiceRules.__dataclass_fields__ and value is not None
        }
    )
    return GroundingRules(mode=options.mode, choice=choice, is_instructed=options.instructed)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", type=Path, help="folder with docs/ and questions.jsonl")
    parser.add_argument("--mode", choices=("quote", "answer"), default="quote")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data-dir", type=Path, help="keep the ingested set here")
    parser.add_argument("--json", type=Path, help="write answers here, one JSON object a line")
    parser.add_argument("--instructed", action="store_true")
    parser.add_argument("--model-weight", type=float)
    parser.add_argument("--margin", type=float)
    parser.add_argument("--min-evidence", type=float)
    parser.add_argument("--max-refusal-chance", type=float)
    parser.add_argument("--max-sentences", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    main()
