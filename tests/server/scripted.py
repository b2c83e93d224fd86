"""Small real implementations of what the routes talk to, and a real server around them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import openai
import uvicorn

from index.types import CollectionInfo
from models.protocols import (
    Engine,
    EngineLoad,
    GenerationUsage,
    Message,
    ModelInfo,
    SamplingSettings,
)
from server.access import AccessRules
from server.app import create_app
from server.auth import KeyStore
from server.components import Components, Services, ServiceSource
from server.grounding.types import (
    AnswerEnd,
    AnswerEvent,
    AnswerStream,
    Citation,
    GroundingReport,
    GroundingScope,
    KeptPassage,
    SentenceSupport,
    TextDelta,
)
from server.serving import bind

QUOTE = "Each parent receives 16 weeks."
PIECES = ("Each parent ", "receives ", "16 weeks. [1]")
USAGE = GenerationUsage(
    num_prompt_tokens=40,
    num_cached_tokens=32,
    num_completion_tokens=9,
    queue_ms=0.5,
    prefill_ms=3.0,
    decode_ms=5.0,
)
REPORT = GroundingReport(
    mode="quote",
    decision="answered",
    citations=(
        Citation(
            index=1,
            document="doc_1",
            filename="leave policy.pdf",
            path="hr/leave policy.pdf",
            collection="hr",
            page=3,
            heading="Parental leave",
            quote=QUOTE,
            start=1041,
            end=1071,
        ),
    ),
    sentences=(SentenceSupport(start=0, end=len(QUOTE), support=1.0, citations=(1,)),),
    kept=(KeptPassage(id=7, score=0.83, num_tokens=142),),
)
COLLECTIONS = (
    CollectionInfo("hr", 3, 40, "all-MiniLM-L6-v2", 1_700_000_000),
    CollectionInfo("it", 2, 20, "all-MiniLM-L6-v2", 1_700_000_100),
)
INFO = ModelInfo(
    name="scripted",
    architecture="llama",
    num_parameters=1000,
    size_bytes=2000,
    num_ctx=2048,
    num_ctx_train=2048,
    num_vocab=512,
    has_documents_template=True,
    metadata={},
)


class ScriptedGrounder:
    """Answers with `pieces`, then fails with `failure` if there is one.

    With `is_endless` it repeats the pieces until it is closed. `closed` is set when a stream has
    been let go of, finished or not.
    """

    def __init__(
        self,
        pieces: Sequence[str] = PIECES,
        *,
        refusal: Exception | None = None,
        failure: Exception | None = None,
        delay_s: float = 0.0,
        admission_s: float = 0.0,
        is_endless: bool = False,
    ) -> None:
        self.pieces = pieces
        self.refusal = refusal
        self.failure = failure
        self.delay_s = delay_s
        self.admission_s = admission_s
        self.is_endless = is_endless
        self.calls: list[tuple[list[Message], GroundingScope, SamplingSettings]] = []
        self.closed = threading.Event()

    async def answer(
        self, messages: Sequence[Message], scope: GroundingScope, sampling: SamplingSettings
    ) -> AnswerStream:
        self.calls.append((list(messages), scope, sampling))
        try:
            await asyncio.sleep(self.admission_s)
        except asyncio.CancelledError:
            self.closed.set()
            raise
        if self.refusal is not None:
            raise self.refusal
        return cast(AnswerStream, self._events())

    async def _events(self) -> AsyncIterator[AnswerEvent]:
        try:
            while True:
                for piece in self.pieces:
                    await asyncio.sleep(self.delay_s)
                    yield TextDelta(piece)
                if not self.is_endless:
                    break
            if self.failure is not None:
                raise self.failure
            yield AnswerEnd("".join(self.pieces), "stop", USAGE, REPORT)
        finally:
            self.closed.set()


@dataclass(frozen=True)
class LoadedServices:
    """A `ServiceSource` whose parts are there, or whose `failure` says why not."""

    services: Services
    failure: Exception | None = None

    def get(self) -> Services:
        if self.failure is not None:
            raise self.failure
        return self.services


def make_services(grounder: ScriptedGrounder) -> Services:
    engine = SimpleNamespace(info=INFO, load=EngineLoad(4, 1, 2, 32))
    return Services(
        engine=cast(Engine, engine),
        grounder=grounder,
        list_collections=lambda: COLLECTIONS,
        close=lambda: None,
    )


@dataclass
class ServerSetup:
    """What a test may vary about the server."""

    grounder: ScriptedGrounder = field(default_factory=ScriptedGrounder)
    source: ServiceSource | None = None
    keys_path: Path = Path("/nonexistent/keys.json")
    access: dict[str, Any] = field(default_factory=dict)
    components: dict[str, Any] = field(default_factory=dict)
    shutdown_timeout_s: int = 5


@dataclass
class RunningServer:
    """A server on a real port."""

    port: int
    grounder: ScriptedGrounder
    uvicorn: uvicorn.Server
    thread: threading.Thread

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.uvicorn.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()


@contextlib.contextmanager
def run_server(setup: ServerSetup | None = None) -> Iterator[RunningServer]:
    """The application on a free loopback port until the block ends."""
    setup = setup or ServerSetup()
    keys = KeyStore(setup.keys_path)
    components = Components(
        services=setup.source or LoadedServices(make_services(setup.grounder)),
        access=AccessRules(keys, **{"host": "127.0.0.1", **setup.access}),
        default_mode="quote",
        **setup.components,
    )
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(components),
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=setup.shutdown_timeout_s,
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    running = RunningServer(listener.getsockname()[1], setup.grounder, server, thread)
    thread.start()
    try:
        yield running
    finally:
        running.stop()


def make_client(server: RunningServer) -> openai.OpenAI:
    """The official client, which here must not try again."""
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
