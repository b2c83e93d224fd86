"""When to refuse: the defaults of `server/grounding/abstention.py`, and what each signal tells.

`python -m bench.abstention [--model PATH] [--max-false 0.08] [--unread]`

The questions are those of the written conversations that the bundled model was not trained on, each
over its own organisation's documents, and those of `examples/`.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sklearn.metrics import roc_auc_score

from bench.packs import Asked, is_pack_kept_back, write_packs
from index.collection import Library
from index.retriever import HybridRetriever
from ingest.pipeline import ingest
from models.embedder import SentenceEmbedder
from models.reader import SentenceReader
from server.assembly import find_model, open_engine
from server.config import load_settings
from server.evaluation.questions import read_questions
from server.grounding.abstention import SIGNAL_NAMES, Abstention
from server.grounding.calibration import Labelled, fit
from server.grounding.grounder import GroundingService
from server.grounding.rules import GroundingRules
from server.grounding.types import GroundingScope

_EXAMPLES = Path(__file__).parents[1] / "examples"
# Signals of which some use was found; the others made it worse on questions that were left out, as
# did two dozen more (docs/adr/0017-refusing-rests-on-two-signals.md).
FOR_EXCERPTS = ("refusal", "meaning", "passage", "words", "covered", "lead")
FOR_ANY_MODEL = ("meaning", "passage", "words", "covered", "lead")
READ_FOR_EXCERPTS = ("read", "refusal")
READ_FOR_ANY_MODEL = ("read", "meaning", "passage", "lead")


def main() -> None:
    """Print the defaults as Python, with the figures of chances from other groups' fits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--max-false", type=float, default=0.08)
    parser.add_argument("--unread", action="store_true", help="without the reader of sentences")
    options = parser.parse_args()
    settings = load_settings(model=options.model)
    embedder = SentenceEmbedder()
    engine = open_engine(settings, find_model(settings))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        asked = [*write_packs(folder / "docs", is_pack_kept_back), *_read_examples()]
        with Library(folder / "data", embedder) as library:
            for name in sorted({question.collection for question in asked}):
                source = folder / "docs" / name
                documents = source if source.is_dir() else _EXAMPLES / "handbook"
                ingest([documents], name, library, embedder)
            reader = None if options.unread else SentenceReader()
            retriever = HybridRetriever(library, embedder, reader=reader)
            service = GroundingService(engine, retriever, embedder, GroundingRules(reader=reader))
            labelled = asyncio.run(_read_signals(service, asked))
    engine.close()
    groups = [question.collection for question in asked]
    _show_signals(labelled)
    read = {"READ_FOR_EXCERPTS": READ_FOR_EXCERPTS, "READ_FOR_ANY_MODEL": READ_FOR_ANY_MODEL}
    unread = {"FOR_EXCERPTS": FOR_EXCERPTS, "FOR_ANY_MODEL": FOR_ANY_MODEL}
    for title, names in (unread if options.unread else read).items():
        _show_fit(title, names, labelled, groups, options.max_false)


def _read_examples() -> Iterator[Asked]:
    for question in read_questions(_EXAMPLES / "questions.jsonl"):
        yield Asked("examples", question.messages, question.answers)


async def _read_signals(service: GroundingService, asked: list[Asked]) -> list[Labelled]:
    found = []
    for question in asked:
        scope = GroundingScope(collections=(question.collection,))
        signals = await service.read_signals(question.messages, scope)
        found.append(Labelled(signals, question.is_answerable))
    return found


def _show_signals(labelled: list[Labelled]) -> None:
    labels = [example.is_answerable for example in labelled]
    print(f"{len(labels)} questions, {labels.count(False)} of them unanswerable\n")
    print("signal    AUC")
    for name in SIGNAL_NAMES:
        values = [getattr(example.signals, name) for example in labelled]
        auc = roc_auc_score(labels, values)
        print(f"{name:9} {max(auc, 1 - auc):.3f}")


def _show_fit(
    title: str,
    names: tuple[str, ...],
    labelled: list[Labelled],
    groups: list[str],
    max_false: float,
) -> None:
    print(f"\n{title}, chances from fits on other organisations:")
    for share in (0.05, 0.08, 0.1, 0.12, 0.15):
        _, refusals = fit(labelled, names, max_false=share, groups=groups)
        print(
            f"  below {refusals.min_evidence:.3f}: {refusals.unanswerable:.3f} of the unanswerable"
            f" and {refusals.answerable:.3f} of the answerable are refused"
        )
    found, _ = fit(labelled, names, max_false=max_false, groups=groups)
    print(f"{title} = {_round(found)!r}")


def _round(found: Abstention) -> Abstention:
    weights = {name: round(weight, 3) for name, weight in found.weights.items()}
    return Abstention(weights, round(found.bias, 3), round(found.min_evidence, 3))


if __name__ == "__main__":
    main()
