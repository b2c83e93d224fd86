"""What a model that was trained on excerpts gets to read, and when it may refuse."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from index.collection import Library
from index.retriever import HybridRetriever
from ingest.pipeline import ingest
from models.gbnf import quote_literal
from models.protocols import Message, SamplingSettings
from models.text.excerpts import EXCERPTS, MAX_LINES, PASSAGES_KEY
from server.grounding.abstention import Abstention
from server.grounding.grounder import GroundingService
from server.grounding.rules import REFUSAL, GroundingRules
from server.grounding.types import AnswerEnd, GroundingScope, Mode
from tests.fakes import HashingEmbedder, ScriptedEngine

FEES = "# Fees\n\n" + " ".join(f"Boat class {n} pays {n}5 crowns a night." for n in range(12))
DOGS = "# Dogs\n\nDogs are welcome on the pier. They must be on a lead."


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    folder = tmp_path / "harbour"
    folder.mkdir()
    (folder / "fees.md").write_text(FEES)
    (folder / "dogs.md").write_text(DOGS)
    embedder = HashingEmbedder()
    with Library(tmp_path / "data", embedder) as library:
        ingest([folder], "harbour", library, embedder)
        yield library


# A refusal of chance 0.4 is the limit.
BY_REFUSAL = Abstention({"refusal": -1.0}, bias=0.0, min_evidence=0.6)


class Trained(ScriptedEngine):
    """An engine whose model reads excerpts and refuses with the chance `refusal`."""

    def __init__(self, answer: str, *, refusal: float = 0.0) -> None:
        def score(prompt: str, continuation: str) -> float:
            return math.log(max(refusal, 1e-9)) if continuation == REFUSAL else -1.0

        super().__init__((answer,), score_text=score, metadata={PASSAGES_KEY: EXCERPTS})


async def ask(
    library: Library, engine: ScriptedEngine, *turns: Message, mode: Mode = "answer"
) -> AnswerEnd:
    embedder = HashingEmbedder()
    rules = GroundingRules(mode=mode, abstention=BY_REFUSAL)
    service = GroundingService(engine, HybridRetriever(library, embedder), embedder, rules)
    stream = await service.answer(turns, GroundingScope(), SamplingSettings(max_tokens=60))
    (end,) = [event async for event in stream if isinstance(event, AnswerEnd)]
    return end


QUESTION = Message("user", "What does boat class 3 pay a night?")


async def test_it_reads_the_best_sentences_behind_two_digits_and_nothing_else(
    library: Library,
) -> None:
    engine = Trained("Boat class 3 pays 35 crowns a night. [1]")
    end = await ask(library, engine, QUESTION)
    lines = [line for d in engine.documents for line in d.text.splitlines()]
    assert 0 < len(lines) <= MAX_LINES
    for line in lines:
        digits, _, sentence = line.partition("\t")
        assert digits.isdigit()
        assert len(digits) == 2
        assert sentence in FEES + DOGS
    assert "class 3 pays" in "".join(lines)
    assert end.text == "Boat class 3 pays 35 crowns a night. [1]"
    assert end.report.decision == "answered"


async def test_a_passage_without_a_line_is_named_as_dropped(library: Library) -> None:
    engine = Trained("Boat class 3 pays 35 crowns a night. [1]")
    end = await ask(library, engine, QUESTION)
    kept = {passage.id for passage in end.report.kept}
    dropped = {passage.id: passage.reason for passage in end.report.dropped}
    assert not kept & set(dropped)
    assert len(kept) == len(engine.documents)
    assert set(dropped.values()) <= {"excerpt"}
    assert len(kept) + len(dropped) == 2


async def test_its_history_holds_no_system_turn_and_no_marks(library: Library) -> None:
    engine = Trained("They must be on a lead. [1]")
    turns = [
        Message("system", "Talk like a pirate."),
        Message("user", "Are dogs welcome on the pier?"),
        Message("assistant", "Dogs are welcome on the pier. [1]"),
        Message("user", "And must they be on a lead?"),
    ]
    await ask(library, engine, *turns)
    assert [m.role for m in engine.messages] == ["user", "assistant", "user"]
    assert engine.messages[1].content == "Dogs are welcome on the pier."


@pytest.mark.parametrize("mode", ["answer", "quote"])
@pytest.mark.parametrize(("refusal", "decision"), [(0.6, "abstained"), (0.2, "answered")])
async def test_it_refuses_where_its_refusal_is_likely_enough(
    library: Library, mode: Mode, refusal: float, decision: str
) -> None:
    engine = Trained("Boat class 3 pays 35 crowns a night. [1]", refusal=refusal)
    end = await ask(library, engine, QUESTION, mode=mode)
    assert end.report.decision == decision
    assert (end.text == REFUSAL) == (decision == "abstained")
    assert bool(engine.generations) == (decision == "answered")


async def test_its_sentences_begin_as_those_that_quote_mode_would_choose(
    library: Library,
) -> None:
    engine = Trained("Boat class 3 pays 35 crowns a night. [1]")
    await ask(library, engine, QUESTION, mode="quote")
    assert engine.sampling is not None
    grammar = engine.sampling.grammar or ""
    end = await ask(library, engine, QUESTION)
    places = [grammar.index(quote_literal(o)[1:-1]) for o in engine.sampling.outline]
    assert places == sorted(places)
    assert len(places) == grammar.count(quote_literal(" [")[1:-1])
    assert engine.sampling.outline[0] == "Boat class 3 pays"
    assert end.report.sentences[0].support == 1.0


async def test_it_is_held_to_its_sentence_and_may_not_refuse_a_second_time(
    library: Library,
) -> None:
    engine = Trained("Boat class 3 pays 35 crowns a night. [1]", refusal=0.2)
    await ask(library, engine, QUESTION)
    assert engine.sampling is not None
    assert engine.sampling.copy_bias > 0
    assert list(engine.sampling.logit_bias.values()) == [-100.0]
