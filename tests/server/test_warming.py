"""What was ingested is computed before anybody asks, by a real engine over a real library."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from index.collection import Library
from index.retriever import HybridRetriever
from models.engine import LlamaEngine, open_engine
from models.protocols import Message, SamplingSettings
from server.assembly import suit_engine
from server.grounding.grounder import GroundingService
from server.grounding.rules import GroundingRules
from server.grounding.types import AnswerEnd, GroundingScope
from server.warming import PassageWarmer
from tests.fakes import HashingEmbedder
from tests.index.drafts import put_lines
from tests.models.engines import wait_until_idle

LEAVE = "Each parent receives sixteen weeks of paid leave. " * 3
KEYS = "Keys of the vans stay in the warehouse at night. " * 3


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library(tmp_path / "data", HashingEmbedder()) as library:
        library.create_collection("docs")
        yield library


@pytest.fixture
def engine(wide_gguf: Path, tmp_path: Path) -> Iterator[LlamaEngine]:
    engine = open_engine(
        wide_gguf, num_threads=1, reuse="passages", passage_folder=tmp_path / "data" / "kv"
    )
    yield engine
    engine.close()


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_the_first_question_finds_its_passages_computed(
    library: Library, engine: LlamaEngine
) -> None:
    embedder = HashingEmbedder()
    rules = suit_engine(GroundingRules(mode="answer"), engine)
    put_lines(library, HashingEmbedder(), "leave.md", LEAVE)
    warmer = PassageWarmer(engine, library, rules, max_bytes=1 << 30, interval_s=0.02)
    _until(lambda: engine.passage_stats.num_states >= 1)
    # Ingested while it runs.
    put_lines(library, HashingEmbedder(), "keys.md", KEYS)
    _until(lambda: engine.passage_stats.num_states >= 2)
    warmer.close()
    wait_until_idle(engine)
    num_states = engine.passage_stats.num_states
    grounder = GroundingService(engine, HybridRetriever(library, embedder), embedder, rules)
    question = "How many weeks of leave, and where are the keys?"
    scope = GroundingScope(collections=("docs",), min_evidence=0.0)
    sampling = SamplingSettings(max_tokens=4)
    stream = await grounder.answer([Message("user", question)], scope, sampling)
    (end,) = [event async for event in stream if isinstance(event, AnswerEnd)]
    assert len(end.report.kept) == 2
    sizes = [engine.num_tokens(text) for text in (LEAVE, KEYS)]
    assert end.usage.num_cached_tokens >= sum(sizes)
    # Scaffold between two passages is a piece of its own.
    assert engine.passage_stats.num_states <= num_states + 1


def test_it_stops_where_the_room_ends(library: Library, engine: LlamaEngine) -> None:
    for number in range(12):
        put_lines(library, HashingEmbedder(), f"{number}.md", f"{number} {LEAVE}")
    warmer = PassageWarmer(engine, library, GroundingRules(), max_bytes=1, interval_s=0.01)
    _until(lambda: engine.passage_stats.num_states >= 12)
    put_lines(library, HashingEmbedder(), "more.md", KEYS)
    time.sleep(0.2)
    assert engine.passage_stats.num_states == 12
    warmer.close()


def test_a_document_that_is_deleted_meanwhile_is_no_fault(
    library: Library, engine: LlamaEngine
) -> None:
    class Vanishing:
        def documents(self) -> list:  # type: ignore[type-arg]
            found = library.documents()
            if len(found) == 2:
                library.delete("docs", ["leave.md"])
            return found

        def passages(self, document_id: str) -> list:  # type: ignore[type-arg]
            return library.passages(document_id)

    put_lines(library, HashingEmbedder(), "leave.md", LEAVE)
    put_lines(library, HashingEmbedder(), "keys.md", KEYS)
    warmer = PassageWarmer(
        engine, Vanishing(), GroundingRules(), max_bytes=1 << 30, interval_s=0.02
    )
    _until(lambda: engine.passage_stats.num_states >= 1)
    assert warmer._thread.is_alive()
    warmer.close()
    assert engine.passage_stats.num_states == 1


def test_passages_keep_their_neighbours_where_they_are_not_reused(tiny_engine: LlamaEngine) -> None:
    rules = GroundingRules()
    assert suit_engine(rules, tiny_engine) is rules
