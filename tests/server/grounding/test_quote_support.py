"""A thousand answers in mode quote: whatever the model draws, every sentence is a document's."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from index.collection import Library
from index.retriever import HybridRetriever
from ingest.pipeline import ingest
from models.engine import open_engine
from models.protocols import Message, SamplingSettings
from server.grounding.grounder import GroundingService
from server.grounding.rules import GroundingRules
from server.grounding.types import AnswerEnd, GroundingScope
from tests.fakes import HashingEmbedder

NUM_ANSWERS = 1000
WORDS = (
    "leave manager office laptop budget receipt parental training weeks euros visitor parking "
    "contract holiday report incident supplier warranty team desk"
).split()
MARK = re.compile(r"\s*\[\d+\]")


def _write_handbook(folder: Path, rng: random.Random) -> None:
    folder.mkdir()
    for number in range(30):
        lines = [f"# {rng.choice(WORDS).title()} {number}", ""]
        for _ in range(8):
            words = " ".join(rng.choices(WORDS, k=rng.randint(4, 14)))
            lines.append(f"{words.capitalize()} {rng.randint(1, 400)} {rng.choice(WORDS)}.")
        (folder / f"page{number}.md").write_text("\n".join(lines) + "\n")


@pytest.mark.slow
async def test_every_sentence_of_a_thousand_answers_stands_in_a_document(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    rng = random.Random(5)
    folder = tmp_path / "handbook"
    _write_handbook(folder, rng)
    embedder = HashingEmbedder()
    engine = open_engine(tiny_gguf, num_threads=1)
    num_sentences = 0
    with Library(tmp_path / "data", embedder) as library:
        ingest([folder], "handbook", library, embedder)
        retriever = HybridRetriever(library, embedder)
        service = GroundingService(engine, retriever, embedder, GroundingRules(mode="quote"))
        scope = GroundingScope(min_evidence=0.0, max_passages=2)
        num_answers = seed = 0
        while num_answers < NUM_ANSWERS:
            seed += 1
            assert seed < 2 * NUM_ANSWERS, "most questions are answered"
            question = f"What of {' '.join(rng.choices(WORDS, k=rng.randint(1, 6)))}?"
            sampling = SamplingSettings(max_tokens=300, temperature=1.5, seed=seed)
            stream = await service.answer([Message("user", question)], scope, sampling)
            (end,) = [event async for event in stream if isinstance(event, AnswerEnd)]
            report = end.report
            if report.decision == "abstained":
                continue
            num_answers += 1
            assert report.citations
            for citation in report.citations:
                text = (folder / citation.path).read_text()
                assert text[citation.start : citation.end] == citation.quote
            quotes = {" ".join(citation.quote.split()) for citation in report.citations}
            for sentence in report.sentences:
                assert sentence.support == 1.0
                assert sentence.citations
                said = MARK.sub("", end.text[sentence.start : sentence.end]).strip()
                assert any(said in quote for quote in quotes), (said, quotes)
            num_sentences += len(report.sentences)
    engine.close()
    assert num_sentences >= NUM_ANSWERS
