"""What a request may ask of the engine, asked by the official client of a real server.

The model is a tiny one with random weights: its text is noise, but the noise keeps to what was
asked.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from index.collection import Library
from index.retriever import HybridRetriever
from ingest.pipeline import ingest
from models.engine import LlamaEngine, open_engine
from server.components import Services
from server.grounding.grounder import GroundingService
from server.grounding.rules import GroundingRules
from tests.fakes import HashingEmbedder
from tests.models.engines import assert_nothing_leaks, no_end, wait_until_idle
from tests.server.scripted import LoadedServices, ServerSetup, make_client, run_server

ASKED: list[Any] = [{"role": "user", "content": "How many weeks of leave does a parent have?"}]
LEAVE = "Each parent receives 16 weeks of paid parental leave."


@pytest.fixture(scope="module")
def engine(tiny_gguf: Path) -> Iterator[LlamaEngine]:
    engine = open_engine(
        tiny_gguf, num_threads=1, flash_attention=False, kv_type="f32", num_slots=3, max_waiting=4
    )
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def client(
    engine: LlamaEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[openai.OpenAI]:
    folder = tmp_path_factory.mktemp("handbook")
    (folder / "leave.md").write_text(f"# Parental leave\n\n{LEAVE} It starts at birth.\n")
    embedder = HashingEmbedder(dimension=256)
    with Library(tmp_path_factory.mktemp("data"), embedder) as library:
        ingest([folder], "hr", library, embedder)
        grounder = GroundingService(
            engine, HybridRetriever(library, embedder), embedder, GroundingRules(mode="quote")
        )
        services = Services(engine, grounder, library.collections, lambda: None)
        setup = ServerSetup(source=LoadedServices(services))
        with run_server(setup) as running, make_client(running) as client:
            yield client


def ask(client: openai.OpenAI, **options: Any) -> Any:
    asked: Any = {"model": "mynah-raw", "messages": ASKED, "max_tokens": 24, "seed": 7} | options
    return client.chat.completions.create(**asked)


def read(stream: Any) -> tuple[dict[int, str], dict[int, list[Any]], dict[int, str], Any]:
    """Texts, log-probabilities and reasons by index, and the usage."""
    texts: dict[int, str] = {}
    logprobs: dict[int, list[Any]] = {}
    reasons: dict[int, str] = {}
    usage = None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            assert choice.index not in reasons
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            told = choice.logprobs.content if choice.logprobs else []
            logprobs.setdefault(choice.index, []).extend(told)
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    return texts, logprobs, reasons, usage


def joined(logprobs: list[Any]) -> str:
    data = b"".join(bytes(token.bytes or ()) for token in logprobs)
    return data.decode("utf-8", "replace")


# Log-probabilities


@pytest.mark.parametrize("num_top", [None, 0, 3, 20])
def test_logprobs_have_openai_s_form(client: openai.OpenAI, num_top: int | None) -> None:
    asked = {} if num_top is None else {"top_logprobs": num_top}
    choice = ask(client, logprobs=True, temperature=0, **asked).choices[0]
    tokens = choice.logprobs.content
    assert choice.logprobs.refusal is None
    assert joined(tokens).startswith(choice.message.content)
    for token in tokens:
        assert len(token.top_logprobs) == (num_top or 0)
        assert token.logprob <= 0
        values = [other.logprob for other in token.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert sum(map(math.exp, values)) < 1 + 1e-9
        if values:
            assert values[0] == token.logprob
        if token.bytes is not None and not token.token.startswith("bytes:"):
            assert token.token.encode() == bytes(token.bytes)


@pytest.mark.parametrize("stop", [None, [" ", "e"]])
def test_a_stream_carries_the_same_logprobs(client: openai.OpenAI, stop: list[str] | None) -> None:
    asked: dict[str, Any] = {"logprobs": True, "top_logprobs": 2, "stop": stop, "temperature": 0}
    whole = ask(client, **asked).choices[0]
    texts, logprobs, reasons, _ = read(ask(client, stream=True, **asked))
    assert texts[0] == whole.message.content
    assert reasons[0] == whole.finish_reason
    assert [t.bytes for t in logprobs[0]] == [t.bytes for t in whole.logprobs.content]
    for a, b in zip(logprobs[0], whole.logprobs.content, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-3)


def test_without_the_wish_there_are_none(client: openai.OpenAI) -> None:
    assert ask(client).choices[0].logprobs is None
    assert all(c.choices[0].logprobs is None for c in ask(client, stream=True))


# Several answers


def test_n_answers_differ_and_a_seed_repeats_them(
    client: openai.OpenAI, engine: LlamaEngine
) -> None:
    first, second = (ask(client, n=5, temperature=1.0) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert [choice.index for choice in first.choices] == list(range(5))
    assert len(set(texts)) == 5
    assert [choice.message.content for choice in second.choices] == texts
    alone = ask(client, temperature=1.0)
    assert alone.choices[0].message.content == texts[0]
    usage = first.usage
    assert usage.prompt_tokens == alone.usage.prompt_tokens
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens > 4 * 1
    other = ask(client, n=2, temperature=1.0, seed=8)
    assert texts[0] != other.choices[0].message.content
    unseeded = ask(client, n=3, temperature=1.0, seed=None)
    assert len({choice.message.content for choice in unseeded.choices}) == 3
    assert_nothing_leaks(engine)


def test_a_stream_of_n_answers_says_the_same_and_interleaves(
    client: openai.OpenAI, engine: LlamaEngine
) -> None:
    bias = {str(token): -100 for token in no_end(engine)}
    asked: dict[str, Any] = {
        "n": 3, "temperature": 1.0, "logprobs": True, "logit_bias": bias, "max_tokens": 60
    }  # fmt: skip
    whole = ask(client, **asked)
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}, **asked))
    texts, logprobs, reasons, usage = read(chunks)
    assert [texts[i] for i in range(3)] == [c.message.content for c in whole.choices]
    assert reasons == dict.fromkeys(range(3), "length")
    assert [len(logprobs[i]) for i in range(3)] == [len(c.logprobs.content) for c in whole.choices]
    assert usage.completion_tokens == whole.usage.completion_tokens == 180
    assert usage.prompt_tokens == whole.usage.prompt_tokens
    roles = [c.choices[0].delta.role for c in chunks[:3]]
    assert roles == ["assistant"] * 3
    # No answer waits for another: each goes on while the others do.
    order = [c.choices[0].index for c in chunks if c.choices and c.choices[0].delta.content]
    lasts = [max(i for i, index in enumerate(order) if index == n) for n in range(3)]
    firsts = [order.index(n) for n in range(3)]
    assert max(firsts) < min(lasts)


def test_n_grounded_answers_have_each_their_report(client: openai.OpenAI) -> None:
    reply = ask(client, model="mynah/hr", n=2)
    assert reply.choices[0].message.content == reply.choices[1].message.content
    assert "16 weeks" in reply.choices[0].message.content
    for choice in reply.choices:
        assert (
            choice.model_extra["grounding"]["citations"]
            == (reply.model_extra["grounding"]["citations"])
        )
    _, _, reasons, _ = read(ask(client, model="mynah/hr", n=2, stream=True))
    assert set(reasons) == {0, 1}


def test_all_answers_are_admitted_or_none(client: openai.OpenAI, engine: LlamaEngine) -> None:
    with pytest.raises(openai.BadRequestError, match="5 at most") as refused:
        ask(client, n=6)
    assert refused.value.param == "n"
    bias = {str(token): -100 for token in no_end(engine)}
    streams = [ask(client, n=5, stream=True, max_tokens=300, logit_bias=bias, temperature=1.0)]
    with pytest.raises(openai.RateLimitError):
        ask(client, n=5, max_tokens=300, logit_bias=bias)
    for stream in streams:
        stream.close()
    wait_until_idle(engine)
    assert_nothing_leaks(engine)


# Forms


PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "role": {"enum": ["chief", "clerk"]},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age", "role", "tags"],
    "additionalProperties": False,
}


def json_form(schema: object, **others: object) -> dict[str, Any]:
    json_schema = {"name": "person", "schema": schema, **others}
    return {"type": "json_schema", "json_schema": json_schema}


@pytest.mark.parametrize("options", [{"strict": True}, {"strict": False}, {}])
@pytest.mark.parametrize("logprobs", [False, True])
def test_json_keeps_to_its_schema(
    client: openai.OpenAI, options: dict[str, Any], logprobs: bool
) -> None:
    reply = ask(
        client, response_format=json_form(PERSON, **options), max_tokens=200, logprobs=logprobs
    )
    choice = reply.choices[0]
    found = json.loads(choice.message.content)
    assert list(found) == ["name", "age", "role", "tags"]
    assert len(found["name"]) <= 12
    assert 0 <= found["age"] <= 150
    assert found["role"] in ("chief", "clerk")
    assert set(found["tags"]) <= {"a", "b"}
    assert choice.finish_reason == "stop"
    if logprobs:
        assert joined(choice.logprobs.content) == choice.message.content


def test_the_client_s_parse_helper_gives_the_object(client: openai.OpenAI) -> None:
    from pydantic import BaseModel

    class Leave(BaseModel):
        weeks: int
        is_paid: bool
        kind: str | None

    reply = client.chat.completions.parse(
        model="mynah-raw",
        messages=ASKED,
        response_format=Leave,
        seed=1,
        max_tokens=400,
    )
    message = reply.choices[0].message
    assert isinstance(message.parsed, Leave)


def test_json_objects_parse_and_a_cut_says_so(client: openai.OpenAI) -> None:
    cut = ask(client, response_format={"type": "json_object"}, max_tokens=8).choices[0]
    assert cut.message.content.startswith("{")
    assert cut.finish_reason in ("length", "stop")
    ended = 0
    for seed in range(6):
        reply = ask(client, response_format={"type": "json_object"}, max_tokens=120, seed=seed)
        if reply.choices[0].finish_reason == "stop":
            ended += 1
            assert isinstance(json.loads(reply.choices[0].message.content), dict)
    assert ended


def test_a_grammar_is_kept_to_and_one_that_does_not_parse_is_refused(
    client: openai.OpenAI,
) -> None:
    reply = ask(client, extra_body={"grammar": 'root ::= "about " [0-9]{3}'}, n=5, temperature=2)
    texts = {choice.message.content for choice in reply.choices}
    assert len(texts) > 1
    assert all(re.fullmatch("about [0-9]{3}", text) for text in texts)
    with pytest.raises(openai.BadRequestError, match="does not parse") as refused:
        ask(client, extra_body={"grammar": "root ::= other"})
    assert refused.value.param == "grammar"


@pytest.mark.parametrize("mode", ["quote", "answer"])
@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"response_format": json_form(PERSON)}, "response_format.type"),
        ({"grammar": "root ::= [a]"}, "grammar"),
        ({"min_tokens": 4}, "min_tokens"),
    ],
)
def test_answers_from_documents_have_their_own_form(
    client: openai.OpenAI, mode: str, options: dict[str, Any], param: str
) -> None:
    extra: dict[str, Any] = {"grounding": {"mode": mode}, **options}
    with pytest.raises(openai.BadRequestError, match="mynah-raw") as refused:
        ask(client, model="mynah", extra_body=extra)
    assert refused.value.param == param


# Sampling


def test_min_and_max_tokens_bound_the_answer(client: openai.OpenAI, engine: LlamaEngine) -> None:
    ends = {str(token): 100 for token in no_end(engine)}
    short = ask(client, logit_bias=ends)
    assert short.usage.completion_tokens == 0
    longer = ask(client, logit_bias=ends, extra_body={"min_tokens": 11})
    assert (longer.usage.completion_tokens, longer.choices[0].finish_reason) == (11, "stop")
    cut = ask(client, logit_bias=ends, max_tokens=5, extra_body={"min_tokens": 5})
    assert (cut.usage.completion_tokens, cut.choices[0].finish_reason) == (5, "length")
    newer = ask(client, max_completion_tokens=3, max_tokens=9)
    assert newer.usage.completion_tokens <= 3


def test_each_setting_changes_the_text(client: openai.OpenAI, engine: LlamaEngine) -> None:
    """A random model's text is chaotic: what did nothing would leave it as it is."""
    bias = {str(token): -100 for token in no_end(engine)}
    base: dict[str, Any] = {"temperature": 1.5, "logit_bias": bias, "max_tokens": 40}
    plain = ask(client, **base).choices[0].message.content
    assert ask(client, **base).choices[0].message.content == plain
    for change in (
        {"temperature": 0.2},
        {"top_p": 0.1},
        {"seed": 8},
        {"frequency_penalty": 2.0},
        {"presence_penalty": 2.0},
        {"logit_bias": bias | {"120": 60}},
        {"stop": plain[3]},
        {"extra_body": {"top_k": 2}},
        {"extra_body": {"min_p": 0.9}},
        {"extra_body": {"repeat_penalty": 9.0}},
    ):
        assert ask(client, **(base | change)).choices[0].message.content != plain, change


def test_four_stops_cut_and_none_is_shown(client: openai.OpenAI, engine: LlamaEngine) -> None:
    bias = {str(token): -100 for token in no_end(engine)}
    whole = ask(client, logit_bias=bias, temperature=0).choices[0].message.content
    stops = [whole[i : i + 2] for i in (4, 8, 12, 16)]
    cut = ask(client, logit_bias=bias, temperature=0, stop=stops).choices[0]
    assert cut.message.content == whole[: min(whole.index(stop) for stop in stops)]
    assert cut.finish_reason == "stop"


def test_a_prompt_seen_before_is_counted_as_cached(client: openai.OpenAI) -> None:
    ask(client)
    usage = ask(client).usage
    assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens - 1
    several = ask(client, n=3).usage
    assert several.prompt_tokens == usage.prompt_tokens
    assert 0 < several.prompt_tokens_details.cached_tokens < several.prompt_tokens
