"""`POST /v1/chat/completions`."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from models.errors import EngineStopped
from models.protocols import ModelInfo, TokenLogprob
from server.choices import AnswerStreams, Choice, admit_all, check_number, vary
from server.components import Components
from server.gate import RequestRecord
from server.grounding.types import AnswerEnd, AnswerEvent
from server.replies import JsonReply
from server.routes.routing import resolve_scope
from server.schemas.chat import ChatRequest
from server.schemas.completion import ChatReply
from server.schemas.conversion import refuse_unserved, to_documents, to_messages, to_sampling
from server.schemas.parsing import read_body
from server.schemas.shape import refuse_grounded, to_grammar
from server.streaming import CLIENT_LEFT_STATUS, ClientLeft, EventStream, run_for_client

router = APIRouter()

# Facts are best read out greedily; without documents the API's own default holds.
_GROUNDED_TEMPERATURE = 0.0
_RAW_TEMPERATURE = 1.0


@router.post("/v1/chat/completions")
async def create_chat_completion(request: Request) -> Response:
    """An answer, whole or as a stream of chunks."""
    components: Components = request.app.state.components
    record: RequestRecord = request.state.record
    body = await read_body(request, ChatRequest)
    record.model = body.model
    refuse_unserved(body)
    messages = to_messages(body)
    if components.has_prompts_in_log:
        record.prompt = json.dumps([asdict(m) for m in messages])
    services = components.services.get()
    scope = await resolve_scope(body, services)
    is_grounded = (scope.mode or components.default_mode) != "off"
    scope = replace(scope, documents=to_documents(body, is_grounded=is_grounded))
    if is_grounded:
        refuse_grounded(body)
    num_choices = body.n or 1
    check_number(num_choices, services.engine.load)
    sampling = to_sampling(
        body,
        default_temperature=_GROUNDED_TEMPERATURE if is_grounded else _RAW_TEMPERATURE,
        num_vocab=services.engine.info.num_vocab,
        # A schema may be large: others are served while it is read.
        grammar=await asyncio.to_thread(to_grammar, body),
    )
    reply = ChatReply(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created_s=int(time.time()),
        model=body.model,
        fingerprint=to_fingerprint(services.engine.info),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
        has_logprobs=bool(body.logprobs),
    )
    admission = admit_all(
        partial(services.grounder.answer, messages, scope), vary(sampling, num_choices)
    )
    try:
        if body.stream:
            streams = await run_for_client(request, admission)
            chunks = _chunks(streams, reply, record)
            return EventStream(chunks, record, components.ping_interval_s, streams.aclose)
        choices = await run_for_client(request, _complete(admission, record))
    except ClientLeft:
        record.error_code = "client_left"
        return Response(status_code=CLIENT_LEFT_STATUS)
    return JsonReply(reply.whole(choices))


def to_fingerprint(info: ModelInfo) -> str:
    """A name for the weights behind an answer."""
    text = f"{info.name}\0{info.architecture}\0{info.num_parameters}\0{info.size_bytes}"
    return f"fp_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


async def _complete(
    admission: Coroutine[Any, Any, AnswerStreams], record: RequestRecord
) -> list[Choice]:
    """Every answer, once all of them have been made."""
    streams = await admission
    logprobs: list[list[TokenLogprob]] = [[] for _ in range(len(streams))]
    ends: dict[int, AnswerEnd] = {}
    async with aclosing(streams), aclosing(streams.events()) as events:
        async for index, event in events:
            _note(record, event)
            if isinstance(event, AnswerEnd):
                ends[index] = event
            else:
                logprobs[index] += event.logprobs
    _check_complete(ends, streams)
    return [Choice(ends[i], logprobs[i]) for i in range(len(streams))]


async def _chunks(
    streams: AnswerStreams, reply: ChatReply, record: RequestRecord
) -> AsyncGenerator[dict[str, object]]:
    """The chunks of the answers; raises what stopped one, so that the stream says so."""
    ends: dict[int, AnswerEnd] = {}
    async with aclosing(streams), aclosing(streams.events()) as events:
        for index in range(len(streams)):
            yield reply.first_chunk(index)
        async for index, event in events:
            _note(record, event)
            if isinstance(event, AnswerEnd):
                ends[index] = event
                yield reply.last_chunk(index, event)
            elif event.text or event.logprobs:
                yield reply.text_chunk(index, event)
    _check_complete(ends, streams)
    if reply.include_usage:
        yield reply.usage_chunk([ends[i] for i in range(len(streams))])


def _check_complete(ends: Mapping[int, AnswerEnd], streams: AnswerStreams) -> None:
    if len(ends) < len(streams):
        raise EngineStopped("The answer ended before it was complete.")


def _note(record: RequestRecord, event: AnswerEvent) -> None:
    """Keep for the log line what `event` tells."""
    if record.first_token_ms is None:
        record.first_token_ms = record.elapsed_ms
    if isinstance(event, AnswerEnd):
        if event.finish_reason == "cancelled":
            raise EngineStopped("The engine stopped before the answer was complete.")
        record.num_prompt_tokens = event.usage.num_prompt_tokens
        record.num_completion_tokens = (
            record.num_completion_tokens or 0
        ) + event.usage.num_completion_tokens
        record.queue_ms = event.usage.queue_ms
