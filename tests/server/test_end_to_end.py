"""The routes over the real grounder, index and pipeline; only the models are small."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from index.collection import Library
from index.retriever import HybridRetriever
from ingest.pipeline import ingest
from server.components import Services
from server.grounding.grounder import GroundingService
from server.grounding.rules import GroundingRules
from tests.fakes import HashingEmbedder, ScriptedEngine
from tests.server.scripted import LoadedServices, RunningServer, ServerSetup, run_server

LEAVE = "Each parent receives 16 weeks of paid parental leave."
NETWORK = "The guest network of the Heron building is called Egret."
QUESTION = "How many weeks of paid parental leave does each parent receive?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("handbook")
    (folder / "leave.md").write_text(f"# Parental leave\n\n{LEAVE} It starts at birth.\n")
    (folder / "network.txt").write_text(f"{NETWORK} Ask the desk for its password.\n")
    return folder


@pytest.fixture(scope="module")
def engine() -> ScriptedEngine:
    return ScriptedEngine(lambda _: f"{LEAVE} [1]", word_delay_s=0.01)


@pytest.fixture(scope="module")
def server(
    folder: Path, engine: ScriptedEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    embedder = HashingEmbedder(dimension=256)
    with Library(tmp_path_factory.mktemp("data"), embedder) as library:
        ingest([folder], "hr", library, embedder)
        grounder = GroundingService(
            engine, HybridRetriever(library, embedder), embedder, GroundingRules(mode="quote")
        )
        services = Services(engine, grounder, library.collections, lambda: None)
        with run_server(ServerSetup(source=LoadedServices(services))) as running:
            yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, mode: str, **options: Any) -> Any:
    return client.chat.completions.create(
        model="mynah/hr",
        messages=[{"role": "user", "content": QUESTION}],
        extra_body={"grounding": {"mode": mode}},
        **options,
    )


@pytest.mark.parametrize("mode", ["quote", "answer"])
def test_cited_quotes_stand_verbatim_in_the_named_file(
    client: openai.OpenAI, folder: Path, mode: str
) -> None:
    reply = ask(client, mode)
    grounding = reply.model_extra["grounding"]
    assert (grounding["mode"], grounding["decision"]) == (mode, "answered")
    assert grounding["citations"]
    for citation in grounding["citations"]:
        text = (folder / citation["path"]).read_text()
        assert text[citation["start"] : citation["end"]] == citation["quote"]
    text = reply.choices[0].message.content
    assert "16 weeks" in text
    for sentence in grounding["sentences"]:
        assert 0 <= sentence["start"] < sentence["end"] <= len(text)
    url = reply.choices[0].message.annotations[0].url_citation.url
    assert url == "mynah://hr/leave.md"


@pytest.mark.parametrize("mode", ["quote", "answer", "off"])
def test_a_stream_says_the_same_as_the_whole_reply(client: openai.OpenAI, mode: str) -> None:
    whole = ask(client, mode)
    *chunks, last = list(ask(client, mode, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    grounding = chunks[-1].model_extra["grounding"]
    assert grounding["sentences"] == whole.model_extra["grounding"]["sentences"]


def test_a_closed_connection_cancels_the_generation(
    server: RunningServer, engine: ScriptedEngine
) -> None:
    import time

    body = {
        "model": "mynah-raw",
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": True,
    }
    num_before = len(engine.generations)
    with httpx2.stream("POST", f"{server.url}/v1/chat/completions", json=body) as reply:
        next(reply.iter_bytes())
    deadline_s = time.monotonic() + 5
    while not engine.generations[num_before].is_cancelled and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert engine.generations[num_before].is_cancelled


def test_a_full_queue_is_a_429_and_a_question_is_needed(
    client: openai.OpenAI, engine: ScriptedEngine
) -> None:
    engine.queue_is_full = True
    try:
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError) as caught:
                ask(client, "off", stream=stream)
            assert caught.value.response.headers["retry-after"] == "3"
    finally:
        engine.queue_is_full = False
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model="mynah", messages=[{"role": "system", "content": "Be brief."}]
        )
    assert refused.value.param == "messages"


def test_a_failing_engine_ends_the_stream_with_an_error(
    client: openai.OpenAI, engine: ScriptedEngine
) -> None:
    engine.fail_after_words = 2
    try:
        stream = ask(client, "off", stream=True)
        with pytest.raises(openai.APIError, match="fails here"):
            list(stream)
    finally:
        engine.fail_after_words = None
