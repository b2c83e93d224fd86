from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from models.errors import ContextLengthExceeded, QueueFull
from server.errors import NotReady
from tests.server.scripted import (
    PIECES,
    LoadedServices,
    RunningServer,
    ScriptedGrounder,
    ServerSetup,
    make_client,
    make_services,
    run_server,
)

QUESTION: list[Any] = [{"role": "user", "content": "How long is parental leave?"}]
TEXT = "".join(PIECES)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with run_server() as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with make_client(server) as client:
        yield client


def extra(value: Any, name: str) -> Any:
    return (value.model_extra or {})[name]


def test_the_official_client_gets_a_whole_answer(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="mynah", messages=QUESTION)
    choice = reply.choices[0]
    assert reply.object == "chat.completion"
    assert reply.id.startswith("chatcmpl-")
    assert abs(reply.created - time.time()) < 60
    assert choice.message.content == TEXT
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.total_tokens == 49
    assert reply.usage.prompt_tokens_details is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == 32
    assert reply._request_id is not None


def test_citations_travel_in_annotations_and_in_the_extension(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="mynah", messages=QUESTION)
    annotation = (reply.choices[0].message.annotations or [])[0]
    assert annotation.type == "url_citation"
    citation = annotation.url_citation
    assert citation.url == "mynah://hr/hr/leave%20policy.pdf#page=3"
    assert citation.title == "leave policy.pdf"
    grounding = extra(reply, "grounding")
    assert grounding["decision"] == "answered"
    assert TEXT[citation.start_index : citation.end_index] == grounding["citations"][0]["quote"]


def test_a_stream_has_one_id_the_role_first_and_the_reason_last(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="mynah", messages=QUESTION, stream=True))
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == TEXT
    assert extra(chunks[-1], "grounding")["citations"][0]["page"] == 3
    assert extra(chunks[-1].choices[0].delta, "annotations")[0]["type"] == "url_citation"
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


def test_include_usage_adds_null_everywhere_and_one_chunk(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="mynah", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    )
    *rest, last = chunks
    assert all("usage" in c.model_fields_set and c.usage is None for c in rest)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 9


async def test_the_async_client_gets_both_forms(server: RunningServer) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0
    ) as client:
        reply = await client.chat.completions.create(model="mynah", messages=QUESTION)
        stream = await client.chat.completions.create(model="mynah", messages=QUESTION, stream=True)
        text = "".join([c.choices[0].delta.content or "" async for c in stream])
    assert reply.choices[0].message.content == text == TEXT


def test_the_client_s_stream_helper_accepts_the_events(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="mynah", messages=QUESTION) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == TEXT


def test_the_request_reaches_the_grounder(server: RunningServer, client: openai.OpenAI) -> None:
    client.chat.completions.create(
        model="mynah/hr",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            },
            {"role": "assistant", "content": None, "refusal": "No."},
            {"role": "user", "content": "c"},
        ],
        max_completion_tokens=7,
        max_tokens=9,
        seed=-1,
        stop="END",
        logit_bias={"5": -100},
        extra_body={"grounding": {"mode": "answer", "max_passages": 2}, "top_k": 3},
    )
    messages, scope, sampling = server.grounder.calls[-1]
    assert [(m.role, m.content) for m in messages] == [
        ("system", "Be brief."),
        ("user", "a\nb"),
        ("assistant", "No."),
        ("user", "c"),
    ]
    assert (scope.mode, scope.collections, scope.max_passages) == ("answer", ("hr",), 2)
    assert (sampling.max_tokens, sampling.seed, sampling.stop) == (7, 2**32 - 1, ("END",))
    assert (sampling.temperature, sampling.top_k, sampling.logit_bias) == (0.0, 3, {5: -100.0})


@pytest.mark.parametrize(
    ("model", "grounding", "mode", "collections", "temperature"),
    [
        ("mynah", {}, None, None, 0.0),
        ("mynah", {"collections": ["it", "hr"]}, None, ("it", "hr"), 0.0),
        ("mynah/it", {"collections": ["it"]}, None, ("it",), 0.0),
        ("mynah-raw", {}, "off", None, 1.0),
        ("mynah", {"mode": "off"}, "off", None, 1.0),
    ],
)
def test_model_and_grounding_choose_the_documents(
    server: RunningServer,
    client: openai.OpenAI,
    model: str,
    grounding: dict[str, Any],
    mode: str | None,
    collections: tuple[str, ...] | None,
    temperature: float,
) -> None:
    client.chat.completions.create(
        model=model, messages=QUESTION, extra_body={"grounding": grounding}
    )
    _, scope, sampling = server.grounder.calls[-1]
    assert (scope.mode, scope.collections) == (mode, collections)
    assert sampling.temperature == temperature


@pytest.mark.parametrize(
    ("model", "grounding", "error", "code", "param"),
    [
        ("gpt-4", {}, openai.NotFoundError, "model_not_found", "model"),
        ("mynah/none", {}, openai.NotFoundError, "model_not_found", "model"),
        (
            "mynah",
            {"collections": ["none"]},
            openai.NotFoundError,
            "collection_not_found",
            "grounding.collections",
        ),
        (
            "mynah/hr",
            {"collections": ["it"]},
            openai.BadRequestError,
            "invalid_value",
            "grounding.collections",
        ),
        ("mynah-raw", {"mode": "quote"}, openai.BadRequestError, "invalid_value", "grounding"),
    ],
)
def test_a_wrong_choice_is_refused(
    client: openai.OpenAI,
    model: str,
    grounding: dict[str, Any],
    error: type[openai.APIStatusError],
    code: str,
    param: str,
) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(
            model=model, messages=QUESTION, extra_body={"grounding": grounding}
        )
    assert (caught.value.code, caught.value.param) == (code, param)


def test_errors_of_admission_become_a_status_also_for_streams() -> None:
    refusal = QueueFull(num_waiting=32, retry_after_s=3.0)
    with (
        run_server(ServerSetup(ScriptedGrounder(refusal=refusal))) as server,
        make_client(server) as client,
    ):
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError) as caught:
                client.chat.completions.create(model="mynah", messages=QUESTION, stream=stream)
            assert caught.value.code == "rate_limit_exceeded"
            assert caught.value.response.headers["retry-after"] == "3"


def test_a_context_that_does_not_fit_names_the_numbers() -> None:
    refusal = ContextLengthExceeded(3000, 100, 2048)
    with (
        run_server(ServerSetup(ScriptedGrounder(refusal=refusal))) as server,
        make_client(server) as client,
        pytest.raises(openai.BadRequestError, match=r"2048 .* 3000 .* 100") as caught,
    ):
        client.chat.completions.create(model="mynah", messages=QUESTION)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


def test_an_internal_failure_is_a_500_that_tells_nothing() -> None:
    grounder = ScriptedGrounder(refusal=ValueError("secret detail"))
    with (
        run_server(ServerSetup(grounder)) as server,
        make_client(server) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.chat.completions.create(model="mynah", messages=QUESTION)
    assert caught.value.code == "internal_error"
    assert "secret" not in caught.value.response.text
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_requests_before_the_model_is_loaded_get_503() -> None:
    source = LoadedServices(make_services(ScriptedGrounder()), NotReady("Still loading."))
    with run_server(ServerSetup(source=source)) as server, make_client(server) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model="mynah", messages=QUESTION)
        assert (caught.value.status_code, caught.value.code) == (503, "not_ready")
        assert caught.value.response.headers["retry-after"] == "1"
        assert httpx2.get(f"{server.url}/healthz").status_code == 200
        assert httpx2.get(f"{server.url}/readyz").json()["error"]["code"] == "not_ready"
