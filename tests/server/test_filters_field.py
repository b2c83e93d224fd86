"""Requests that leave documents out by their attributes, over HTTP and the real index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from index.collection import Library
from index.retriever import HybridRetriever
from ingest.pipeline import IngestSettings, ingest
from server.components import Services
from server.grounding.grounder import GroundingService
from server.grounding.rules import GroundingRules
from tests.fakes import HashingEmbedder, ScriptedEngine
from tests.server.scripted import LoadedServices, RunningServer, ServerSetup, run_server

TEAMS = {"hr": "Each parent receives 16 weeks of leave.", "ops": "Each van gets 20 weeks of leave."}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    embedder = HashingEmbedder(dimension=256)
    folder = tmp_path_factory.mktemp("handbook")
    with Library(tmp_path_factory.mktemp("data"), embedder) as library:
        for team, text in TEAMS.items():
            (folder / f"{team}.md").write_text(text)
            settings = IngestSettings(attributes={"team": team})
            ingest([folder / f"{team}.md"], "all", library, embedder, settings=settings)
        engine = ScriptedEngine(lambda _: "Yes.")
        retriever = HybridRetriever(library, embedder)
        grounder = GroundingService(engine, retriever, embedder, GroundingRules(mode="quote"))
        services = Services(engine, grounder, library.collections, lambda: None)
        with run_server(ServerSetup(source=LoadedServices(services))) as running:
            yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def _ask(client: openai.OpenAI, filters: Any, model: str = "mynah") -> Any:
    return client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "How many weeks of leave are there?"}],
        extra_body={"grounding": {"filters": filters, "min_evidence": 0}},
    )


def _paths(reply: Any) -> set[str]:
    return {citation["path"] for citation in reply.model_extra["grounding"]["citations"]}


@pytest.mark.parametrize(
    ("filters", "paths"),
    [
        (None, {"hr.md", "ops.md"}),
        ({"type": "eq", "key": "team", "value": "ops"}, {"ops.md"}),
        ({"type": "nin", "key": "team", "value": ["ops"]}, {"hr.md"}),
        ({"type": "and", "filters": [{"type": "ne", "key": "team", "value": "ops"}]}, {"hr.md"}),
    ],
)
def test_only_documents_that_pass_are_cited(
    client: openai.OpenAI, filters: Any, paths: set[str]
) -> None:
    found = _paths(_ask(client, filters))
    assert found
    assert found <= paths


def test_a_filter_that_nothing_passes_leaves_no_answer(client: openai.OpenAI) -> None:
    reply = _ask(client, {"type": "eq", "key": "team", "value": "none"})
    assert reply.model_extra["grounding"]["decision"] == "abstained"


@pytest.mark.parametrize(
    ("filters", "place"),
    [
        ({"type": "like", "key": "team", "value": "h"}, "grounding.filters.type"),
        ({"type": "eq", "key": "team"}, "grounding.filters.value"),
        ({"type": "or", "filters": [{"type": "eq"}]}, "grounding.filters.filters[0].key"),
    ],
)
def test_a_wrong_filter_is_refused_by_its_place(
    client: openai.OpenAI, filters: Any, place: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        _ask(client, filters)
    assert caught.value.param == place


def test_the_bare_model_takes_no_filter(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        _ask(client, {"type": "eq", "key": "team", "value": "hr"}, model="mynah-raw")
    assert caught.value.param == "grounding"
