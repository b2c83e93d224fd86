"""Passages that a request brings along, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from index.collection import Library
from index.retriever import HybridRetriever
from models.engine import open_engine
from server.components import Services
from server.grounding.grounder import GroundingService
from tests.fakes import HashingEmbedder
from tests.server.scripted import LoadedServices, RunningServer, ServerSetup, run_server

QUESTION: list[Any] = [{"role": "user", "content": "When does the office open?"}]
DOCUMENTS = [
    {"title": f"part {number}", "text": f"{number} The office opens at nine in the morning. " * 4}
    for number in range(4)
]


@pytest.fixture(scope="module")
def server(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    embedder = HashingEmbedder()
    engine = open_engine(tiny_gguf, num_threads=1, reuse="passages", num_kept_sequences=1)
    with Library(tmp_path_factory.mktemp("data"), embedder) as library:
        grounder = GroundingService(engine, HybridRetriever(library, embedder), embedder)
        services = Services(engine, grounder, library.collections, lambda: None)
        with run_server(ServerSetup(source=LoadedServices(services))) as running:
            yield running
    engine.close()


@pytest.fixture
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def _ask(client: openai.OpenAI, documents: Any, **options: Any) -> Any:
    return client.chat.completions.create(
        **{
            "model": "mynah-raw",
            "messages": QUESTION,
            "max_tokens": 6,
            "temperature": 0,
            **options,
        },
        extra_body={"documents": documents},
    )


def test_passages_seen_before_are_cached_in_any_combination(client: openai.OpenAI) -> None:
    bare = _ask(client, None).usage.prompt_tokens
    first = _ask(client, DOCUMENTS)
    assert first.usage.prompt_tokens > bare + 4 * 20
    again = _ask(client, DOCUMENTS[::-1])
    cached = again.usage.prompt_tokens_details.cached_tokens
    assert cached > 0.8 * again.usage.prompt_tokens
    assert _ask(client, DOCUMENTS).choices[0].message.content == first.choices[0].message.content


@pytest.mark.parametrize(
    ("documents", "options", "param"),
    [
        (DOCUMENTS, {"model": "mynah"}, "documents"),
        ([{"title": "no text"}], {}, "documents[0].text"),
        ([{"text": ""}], {}, "documents[0].text"),
        ([{"text": "x", "content": "y"}], {}, "documents[0].content"),
        ([{"text": "x", "title": "t" * 1001}], {}, "documents[0].title"),
        ([{"text": "x"}] * 257, {}, "documents"),
        ("text", {}, "documents"),
        ([{"text": "word " * 2000}], {}, "messages"),
    ],
)
def test_what_cannot_be_is_a_400_that_names_it(
    client: openai.OpenAI, documents: Any, options: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        _ask(client, documents, **options)
    assert caught.value.param == param
