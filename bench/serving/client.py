"""Requests as a client sees them: when the first text came, how much came, when it was over."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench.serving.servers import Server
from models.protocols import Message, PromptDocument

SYSTEM = (
    "You answer from the passages and cite them. If the passages do not hold the answer say so."
)
_TIMEOUT_S = 1800.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `end_ids` are tokens that may not come, so that every answer is as long."""

    question: str
    documents: Sequence[PromptDocument] = ()
    history: Sequence[Message] = ()
    num_tokens: int = 48
    temperature: float = 0.8
    seed: int = 0
    end_ids: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What came back. `first_s` is the time to the first piece of text that is not empty.

    `first_cpu_s` and `total_cpu_s` are the server's processor time meanwhile, spent on anybody.
    """

    first_s: float
    total_s: float
    first_cpu_s: float
    total_cpu_s: float
    text: str
    num_chunks: int
    usage: dict[str, Any] = field(default_factory=dict)


class RequestFailed(Exception):
    """A server refused or broke off a request; a measurement with that in it means nothing."""


def to_body(ask: Ask, server: Server) -> dict[str, Any]:
    """The request's JSON; passages go into the user's message where the server knows no better."""
    body: dict[str, Any] = {
        "model": server.model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": ask.num_tokens,
        "temperature": ask.temperature,
        "seed": ask.seed,
        "logit_bias": {str(token): -100 for token in ask.end_ids},
    }
    question = ask.question
    if ask.documents and server.has_documents:
        body["documents"] = [{"title": d.title, "text": d.text} for d in ask.documents]
    elif ask.documents:
        passages = "\n\n".join(f"[{i}] {d.text}" for i, d in enumerate(ask.documents, 1))
        question = f"{passages}\n\nQuestion: {question}"
    turns = [Message("system", SYSTEM), *ask.history, Message("user", question)]
    body["messages"] = [{"role": turn.role, "content": turn.content} for turn in turns]
    return body


async def _lines(reply: httpx.Response) -> AsyncIterator[str]:
    """Lines as server-sent events have them: a line separator inside a text ends none."""
    rest = b""
    async for part in reply.aiter_bytes():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace").rstrip("\r")


async def send(client: httpx.AsyncClient, server: Server, ask: Ask) -> Seen:
    """Stream one answer to its end. Raises `RequestFailed`."""
    started_s, started_cpu_s = time.perf_counter(), server.cpu_s
    first_s: float | None = None
    first_cpu_s = 0.0
    pieces: list[str] = []
    usage: dict[str, Any] = {}
    async with client.stream(
        "POST", f"{server.url}/v1/chat/completions", json=to_body(ask, server)
    ) as reply:
        if reply.status_code != httpx.codes.OK:
            text = (await reply.aread()).decode("utf-8", "replace")
            raise RequestFailed(f"{server.name}: {reply.status_code} {text[:300]}")
        async for line in _lines(reply):
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:
                raise RequestFailed(f"{server.name}: {event['error']}")
            usage = event.get("usage") or usage
            piece = _text_of(event)
            if piece and first_s is None:
                first_s = time.perf_counter() - started_s
                first_cpu_s = server.cpu_s - started_cpu_s
            if piece:
                pieces.append(piece)
    total_s = time.perf_counter() - started_s
    if first_s is None:
        raise RequestFailed(f"{server.name}: an answer without text")
    total_cpu_s = server.cpu_s - started_cpu_s
    return Seen(first_s, total_s, first_cpu_s, total_cpu_s, "".join(pieces), len(pieces), usage)


async def send_all(
    server: Server, asks: Sequence[Ask], num_clients: int
) -> tuple[list[Seen], float]:
    """Answers in order, and the seconds that all took; each client sends one after the other."""
    waiting = iter(list(enumerate(asks)))
    seen: dict[int, Seen] = {}
    async with open_client() as client:

        async def work() -> None:
            for number, ask in waiting:
                seen[number] = await send(client, server, ask)

        started_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(num_clients):
                group.create_task(work())
        wall_s = time.perf_counter() - started_s
    return [seen[number] for number in range(len(asks))], wall_s


def open_client() -> httpx.AsyncClient:
    """A client that opens a connection for each request, as many separate users do."""
    return httpx.AsyncClient(
        timeout=_TIMEOUT_S,
        headers={"connection": "close", "authorization": "Bearer none"},
        limits=httpx.Limits(max_connections=256),
        trust_env=False,
    )


def _text_of(event: dict[str, Any]) -> str:
    choices = event.get("choices") or []
    return str(choices[0].get("delta", {}).get("content") or "") if choices else ""
