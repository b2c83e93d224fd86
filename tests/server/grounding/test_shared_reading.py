"""What the search has read of a question, its answer need not read again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from index.collection import Library
from index.retriever import HybridRetriever
from models.protocols import Message
from server.grounding.abstention import Abstention
from server.grounding.grounder import GroundingService
from server.grounding.rules import GroundingRules
from server.grounding.types import GroundingScope
from tests.fakes import HashingEmbedder, ScriptedEngine
from tests.index.drafts import put_lines

LINES = (
    "The second parent receives seven weeks of leave.",
    "The birth parent receives 22 weeks of leave.",
    "A lost badge costs 12 euros and is reported at the lobby.",
)


class RememberingReader:
    """A `Reader` that is sure of every sentence with a number, and knows what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def read(self, question: str, sentences: Sequence[str]) -> list[float]:
        self.asked += [(question, sentence) for sentence in sentences]
        return [6.0 if any(c.isdigit() for c in sentence) else -6.0 for sentence in sentences]


async def test_what_the_search_has_read_the_answer_reads_in_the_same_words(
    tmp_path: Path,
) -> None:
    searching, answering = RememberingReader(), RememberingReader()
    embedder = HashingEmbedder()
    rules = GroundingRules(reader=answering, abstention=Abstention({}, 0.0, 0.0))
    question = Message("user", "How many weeks of leave?")
    with Library(tmp_path, embedder) as library:
        put_lines(library, embedder, "leave.txt", *LINES)
        retriever = HybridRetriever(library, embedder, reader=searching)
        service = GroundingService(ScriptedEngine(), retriever, embedder, rules)
        await service.read_signals([question], GroundingScope())
    assert answering.asked
    assert set(answering.asked) <= set(searching.asked)
