from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.schemas.chat import ChatRequest
from tests.server.scripted import RunningServer, ServerSetup, run_server

GOOD: dict[str, Any] = {"model": "mynah", "messages": [{"role": "user", "content": "Why?"}]}
KINDS: dict[str, Any] = {
    "boolean": True,
    "integer": 3,
    "number": 0.5,
    "string": "no such word",
    "array": [[]],
    "object": {"no such key": 1},
}
# A whole value where these must stand for the field under test to be looked at.
NEEDED = {"stream_options": {"stream": True}}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    setup = ServerSetup(components={"max_request_bytes": 100_000})
    with run_server(setup) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: RunningServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url) as client:
        yield client


def post(http: httpx2.Client, body: object) -> httpx2.Response:
    return http.post("/v1/chat/completions", json=body)


def assert_refused(reply: httpx2.Response, param: str | None, status: int = 400) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    error: dict[str, Any] = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param, error
    assert "\n" not in error["message"]
    return error


def allowed_kinds(schema: dict[str, Any], definitions: dict[str, Any]) -> set[str]:
    """JSON types that a property takes; an empty set means any."""
    if "$ref" in schema:
        return allowed_kinds(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if choices := schema.get("anyOf", schema.get("oneOf")):
        return set().union(*(allowed_kinds(choice, definitions) for choice in choices))
    kinds = {schema["type"]} if "type" in schema else set()
    return kinds | {"integer"} if "number" in kinds else kinds


def wrong_values() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, kind and body for each field of the request and each kind that it does not take."""
    schema = ChatRequest.model_json_schema()
    definitions = schema["$defs"]
    groups: list[tuple[str, dict[str, Any]]] = [("", schema)]
    for name in ("StreamOptions", "GroundingOptions", "ResponseFormat", "ChatMessage"):
        prefix = {
            "StreamOptions": "stream_options.",
            "GroundingOptions": "grounding.",
            "ResponseFormat": "response_format.",
            "ChatMessage": "messages[0].",
        }[name]
        groups.append((prefix, definitions[name]))
    groups.append(("messages[0].content[0].", definitions["ContentPart"]))
    for prefix, group in groups:
        for name, field in group["properties"].items():
            kinds = allowed_kinds(field, definitions)
            for kind, value in KINDS.items():
                if kinds and kind not in kinds:
                    yield f"{prefix}{name}", kind, body_with(prefix, name, value)


def body_with(prefix: str, name: str, value: object) -> dict[str, Any]:
    if prefix == "messages[0].":
        return {**GOOD, "messages": [{"role": "user", "content": "Why?", name: value}]}
    if prefix == "messages[0].content[0].":
        part = {"type": "text", "text": "Why?", name: value}
        return {**GOOD, "messages": [{"role": "user", "content": [part]}]}
    if prefix:
        outer = prefix[:-1]
        inner = {"type": "text", name: value} if outer == "response_format" else {name: value}
        return {**GOOD, outer: inner, **NEEDED.get(outer, {})}
    return {**GOOD, name: value}


def test_a_wrong_type_in_every_field_is_a_400_that_names_it(http: httpx2.Client) -> None:
    cases = list(wrong_values())
    assert len(cases) > 200
    assert len({param for param, _, _ in cases}) > 45
    for param, kind, body in cases:
        error = assert_refused(post(http, body), param)
        assert error["code"] in ("invalid_value", "unsupported_parameter"), (param, kind, error)


def test_null_means_absent_everywhere_but_in_required_fields(
    http: httpx2.Client, server: RunningServer
) -> None:
    body = dict.fromkeys(ChatRequest.model_fields) | GOOD
    assert post(http, body).status_code == 200
    assert_refused(post(http, GOOD | {"model": None}), "model")
    assert_refused(post(http, GOOD | {"messages": None}), "messages")


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"temperature": -0.1}, "temperature", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 129}, "n", "invalid_value"),
        ({"n": 21}, "n", "invalid_value"),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "invalid_value"),
        ({"max_tokens": 2**40}, "max_tokens", "invalid_value"),
        ({"seed": 2**70}, "seed", "invalid_value"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"stop": [""]}, "stop[0]", "invalid_value"),
        ({"logit_bias": {"x": 1}}, "logit_bias.x", "invalid_value"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1", "invalid_value"),
        ({"logit_bias": {"512": 1}}, "logit_bias", "invalid_value"),
        ({"logprobs": True}, "logprobs", "unsupported_value"),
        ({"top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"response_format": {"type": "json_object"}}, "response_format.type", "unsupported_value"),
        ({"grammar": "root ::= [a]"}, "grammar", "unsupported_value"),
        ({"grammar": ""}, "grammar", "invalid_value"),
        ({"grammar": "a" * 70_000}, "grammar", "invalid_value"),
        ({"min_tokens": 3}, "min_tokens", "unsupported_value"),
        ({"min_tokens": -1}, "min_tokens", "invalid_value"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens", "invalid_value"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"modalities": ["text", "audio"]}, "modalities", "unsupported_value"),
        ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
        ({"tool_choice": "auto"}, "tool_choice", "unsupported_parameter"),
        ({"functions": [{}]}, "functions", "unsupported_parameter"),
        ({"function_call": "auto"}, "function_call", "unsupported_parameter"),
        ({"audio": {}}, "audio", "unsupported_parameter"),
        ({"moderation": {}}, "moderation", "unsupported_parameter"),
        ({"prediction": {}}, "prediction", "unsupported_parameter"),
        ({"web_search_options": {}}, "web_search_options", "unsupported_parameter"),
        ({"stream_options": {}}, "stream_options", "invalid_value"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "unsupported_parameter"),
        ({"grounding": {"modes": "quote"}}, "grounding.modes", "unsupported_parameter"),
        ({"grounding": {"mode": "guess"}}, "grounding.mode", "invalid_value"),
        ({"grounding": {"collections": []}}, "grounding.collections", "invalid_value"),
        ({"grounding": {"max_passages": 0}}, "grounding.max_passages", "invalid_value"),
        ({"temprature": 1}, "temprature", "unsupported_parameter"),
        ({"guided_json": {}}, "guided_json", "unsupported_parameter"),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "king"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        (
            {"messages": [{"role": "tool", "content": "1", "tool_call_id": "x"}]},
            "messages[0].role",
            "unsupported_value",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{}]}]},
            "messages[0].tool_calls",
            "unsupported_value",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
            "unsupported_value",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            "missing_required_parameter",
        ),
    ],
)
def test_a_value_that_is_not_served_is_named(
    http: httpx2.Client, change: dict[str, Any], param: str, code: str
) -> None:
    assert assert_refused(post(http, GOOD | change), param)["code"] == code


def form(schema: object, **others: object) -> dict[str, Any]:
    json_schema = {"name": "thing", "schema": schema, **others}
    return {"response_format": {"type": "json_schema", "json_schema": json_schema}}


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"grammar": 'root ::= ("a"?){9}'}, "grammar", "repeats a group"),
        ({"grammar": "root ::= " + "[a]{2000} " * 9}, "grammar", "spells out"),
        ({"grammar": "root ::= [a]", "min_tokens": 1}, "min_tokens", "neither"),
        (form({}) | {"min_tokens": 1}, "min_tokens", "neither"),
        (form({}) | {"grammar": "root ::= [a]"}, "grammar", "exclude"),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema",
            "is required",
        ),
        (
            {"response_format": {"type": "json_object", "json_schema": {"name": "x"}}},
            "response_format.json_schema",
            "needs 'type'",
        ),
        (form({}, name="a b"), "response_format.json_schema.name", "pattern"),
        (form({}, strict="yes"), "response_format.json_schema.strict", "boolean"),
        (form({}, shema={}), "response_format.json_schema.shema", "no parameter"),
        (form([]), "response_format.json_schema.schema", "must be an object"),
        (form({"not": {}}), "response_format.json_schema.schema", "'not', which is not supported"),
        (form({"$ref": "#"}), "response_format.json_schema.schema", "leads to itself"),
    ],
)
def test_a_form_that_cannot_be_had_is_refused(
    http: httpx2.Client, change: dict[str, Any], param: str, words: str
) -> None:
    raw = GOOD | {"model": "mynah-raw"}
    assert words in assert_refused(post(http, raw | change), param)["message"]


def test_a_mistyped_name_is_answered_with_the_nearest(http: httpx2.Client) -> None:
    error = assert_refused(post(http, GOOD | {"temprature": 1}), "temprature")
    assert "did you mean 'temperature'" in error["message"]
    error = assert_refused(
        post(http, GOOD | {"grounding": {"max_passage": 1}}), "grounding.max_passage"
    )
    assert "did you mean 'max_passages'" in error["message"]


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_missing_field_is_named(http: httpx2.Client, missing: str) -> None:
    body = {name: value for name, value in GOOD.items() if name != missing}
    assert assert_refused(post(http, body), missing)["code"] == "missing_required_parameter"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"model": "mynah", }',
        b'{"model": "\xff"}',
        b'{"model": "\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"[" * 90_000,
        b'{"a":' * 10_000,
        json.dumps(GOOD)[:-1].encode() + b', "temperature": NaN}',
        json.dumps(GOOD)[:-1].encode() + b', "temperature": 1e999}',
        json.dumps(GOOD)[:-1].encode() + b', "seed": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_body_that_is_no_request_is_a_400(http: httpx2.Client, raw: bytes) -> None:
    reply = http.post(
        "/v1/chat/completions", content=raw, headers={"content-type": "application/json"}
    )
    assert reply.status_code == 400, reply.text
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_content_type_is_a_400(http: httpx2.Client, media_type: str) -> None:
    headers = {"content-type": media_type} if media_type else {}
    reply = http.post("/v1/chat/completions", content=json.dumps(GOOD), headers=headers)
    assert "application/json" in assert_refused(reply, None)["message"]


def test_a_compressed_body_is_a_400(http: httpx2.Client) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert_refused(http.post("/v1/chat/completions", content=b"x", headers=headers), None)


def test_a_body_over_the_bound_is_a_413_with_and_without_a_length(server: RunningServer) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"model": "'
        for _ in range(200):
            yield b"x" * 1000
        yield b'"}'

    headers = {"content-type": "application/json"}
    for content in (b"".join(pieces()), pieces()):
        reply = httpx2.post(f"{server.url}/v1/chat/completions", content=content, headers=headers)
        error = assert_refused(reply, None, 413)
        assert error["code"] == "request_too_large"
        assert "100000 bytes" in error["message"]


def test_unknown_paths_and_methods_have_the_one_error_body(http: httpx2.Client) -> None:
    assert assert_refused(http.get("/v1/nothing"), None, 404)["code"] == "route_not_found"
    reply = http.get("/v1/chat/completions")
    assert assert_refused(reply, None, 405)["code"] == "method_not_allowed"
    assert reply.headers["allow"] == "POST"
    assert assert_refused(http.delete("/healthz"), None, 405)["type"] == "invalid_request_error"


def test_head_and_options_are_answered(http: httpx2.Client) -> None:
    head = http.head("/v1/models")
    assert (head.status_code, head.content) == (200, b"")
    options = http.options("/v1/chat/completions")
    assert (options.status_code, options.headers["allow"]) == (204, "POST")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "role", "content", "mode"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(ChatRequest.model_fields)), json_values, max_size=4))
def test_no_json_at_all_gives_a_server_error(http: httpx2.Client, change: dict[str, Any]) -> None:
    reply = post(http, GOOD | change)
    assert reply.status_code in (200, 400, 404), reply.text
