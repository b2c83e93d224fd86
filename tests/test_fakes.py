"""The fakes keep the contracts of what they stand for."""

from __future__ import annotations

import pytest

from models.errors import ContextLengthExceeded, ModelError, QueueFull
from models.protocols import Engine, Generation, Message, PromptDocument, SamplingSettings
from tests.fakes import ScriptedEngine

MESSAGES = [Message("user", "When does it open?")]
DOCUMENTS = [PromptDocument("Hours", "It opens at nine.")]


def test_it_says_its_texts_in_turn() -> None:
    scripted = ScriptedEngine(["It opens at nine. [1]", "No."])
    engine: Engine = scripted
    prompt = engine.prepare(MESSAGES, DOCUMENTS)
    texts = []
    for _ in range(3):
        generation = engine.generate(prompt, SamplingSettings())
        assert isinstance(generation, Generation)
        deltas = list(generation)
        texts.append("".join(delta.text for delta in deltas))
        assert deltas[-1].finish_reason == "stop"
        assert deltas[-1].usage is not None
        assert deltas[-1].usage.num_prompt_tokens == prompt.num_tokens
    assert texts == ["It opens at nine. [1]", "No.", "It opens at nine. [1]"]
    assert scripted.messages == tuple(MESSAGES)
    assert scripted.documents == tuple(DOCUMENTS)
    assert engine.load.num_running == 0


async def test_limits_stop_strings_and_cancelling() -> None:
    engine = ScriptedEngine(lambda prompt_text: f"one two {len(prompt_text)} four")
    prompt = engine.prepare(MESSAGES)

    def say(**sampling: object) -> tuple[str, str | None]:
        deltas = list(engine.generate(prompt, SamplingSettings(**sampling)))  # type: ignore[arg-type]
        return "".join(delta.text for delta in deltas), deltas[-1].finish_reason

    assert say(max_tokens=2) == ("one two", "length")
    assert say(stop=(" four", "two")) == ("one ", "stop")
    generation = engine.generate(prompt, SamplingSettings())
    seen = []
    async for delta in generation:
        seen.append(delta)
        generation.cancel()
    assert [delta.finish_reason for delta in seen] == [None, "cancelled"]


async def test_it_fails_as_told() -> None:
    engine = ScriptedEngine(["a b c"], num_ctx=8, fail_after_words=2)
    prompt = engine.prepare(MESSAGES)
    generation = engine.generate(prompt, SamplingSettings(max_tokens=3))
    with pytest.raises(ModelError):
        list(generation)
    with pytest.raises(ContextLengthExceeded):
        engine.generate(prompt, SamplingSettings(max_tokens=30))
    engine.queue_is_full = True
    with pytest.raises(QueueFull):
        await engine.score(prompt, ["a"])


async def test_scores_follow_the_words_of_the_prompt() -> None:
    engine = ScriptedEngine()
    prompt = engine.prepare(MESSAGES, DOCUMENTS)
    best, worse = await engine.score(prompt, ["It opens at nine.", "Bananas are yellow."])
    assert best.logprob > worse.logprob
    assert best.num_tokens == 4
