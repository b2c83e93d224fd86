"""`POST /v1/chat/completions`."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from models.errors import EngineStopped
from models.protocols import ModelInfo
from server.components import Components
from server.gate import RequestRecord
from server.grounding.types import AnswerEnd, AnswerStream, TextDelta
from server.replies import JsonReply
from server.routes.routing import resolve_scope
from server.schemas.chat import ChatRequest
from server.schemas.completion import ChatReply
from server.schemas.conversion import refuse_unserved, to_documents, to_messages, to_sampling
from server.schemas.parsing import read_body
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
    sampling = to_sampling(
        body,
        default_temperature=_GROUNDED_TEMPERATURE if is_grounded else _RAW_TEMPERATURE,
        num_vocab=services.engine.info.num_vocab,
    )
    reply = ChatReply(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created_s=int(time.time()),
        model=body.model,
        fingerprint=to_fingerprint(services.engine.info),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
    )
    admission = services.grounder.answer(messages, scope, sampling)
    try:
        if body.stream:
            stream = await run_for_client(request, _admit(admission))
            chunks = _chunks(stream, reply, record)
            return EventStream(chunks, record, components.ping_interval_s, stream.aclose)
        end = await run_for_client(request, _complete(admission, record))
    except ClientLeft:
        record.error_code = "client_left"
        return Response(status_code=CLIENT_LEFT_STATUS)
    return JsonReply(reply.whole(end))


def to_fingerprint(info: ModelInfo) -> str:
    """A name for the weights behind an answer."""
    text = f"{info.name}\0{info.architecture}\0{info.num_parameters}\0{info.size_bytes}"
    return f"fp_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


async def _admit(admission: Coroutine[Any, Any, AnswerStream]) -> AnswerStream:
    return await admission


async def _complete(
    admission: Coroutine[Any, Any, AnswerStream], record: RequestRecord
) -> AnswerEnd:
    """The end of the answer, once all of it has been made."""
    async with aclosing(await admission) as stream:
        async for event in stream:
            _note(record, event)
            if isinstance(event, AnswerEnd):
                return event
    raise EngineStopped("The answer ended before it was complete.")


async def _chunks(
    stream: AnswerStream, reply: ChatReply, record: RequestRecord
) -> AsyncGenerator[dict[str, object]]:
    """The chunks of the answer; raises what stopped it, so that the stream says so."""
    async with aclosing(stream):
        yield reply.first_chunk()
        async for event in stream:
            _note(record, event)
            if isinstance(event, TextDelta):
                if event.text:
                    yield reply.text_chunk(event.text)
                continue
            yield reply.last_chunk(event)
            if reply.include_usage:
                yield reply.usage_chunk(event)
            return
    raise EngineStopped("The answer ended before it was complete.")


def _note(record: RequestRecord, event: TextDelta | AnswerEnd) -> None:
    """Keep for the log line what `event` tells."""
    if record.first_token_ms is None:
        record.first_token_ms = record.elapsed_ms
    if isinstance(event, AnswerEnd):
        if event.finish_reason == "cancelled":
            raise EngineStopped("The engine stopped before the answer was complete.")
        record.num_prompt_tokens = event.usage.num_prompt_tokens
        record.num_completion_tokens = event.usage.num_completion_tokens
        record.queue_ms = event.usage.queue_ms
