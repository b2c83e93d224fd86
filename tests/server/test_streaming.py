"""How answers end: by themselves, by a fault, by the client or by the server's end."""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import Any

import httpx2
import openai
import pytest

from models.errors import EngineStopped
from tests.server.scripted import (
    PIECES,
    ScriptedGrounder,
    ServerSetup,
    make_client,
    run_server,
)

QUESTION: list[Any] = [{"role": "user", "content": "How long is parental leave?"}]
TEXT = "".join(PIECES)


@pytest.mark.parametrize(
    ("failure", "code"),
    [(EngineStopped("The engine stopped."), "engine_stopped"), (ValueError("x"), "internal_error")],
)
def test_a_stream_that_fails_raises_in_the_client(failure: Exception, code: str) -> None:
    with (
        run_server(ServerSetup(ScriptedGrounder(failure=failure))) as server,
        make_client(server) as client,
    ):
        pieces: list[str] = []
        stream = client.chat.completions.create(model="mynah", messages=QUESTION, stream=True)
        with pytest.raises(openai.APIError) as caught:
            pieces.extend(chunk.choices[0].delta.content or "" for chunk in stream)
        assert "".join(pieces) == TEXT
        assert caught.value.code == code
        assert server.grounder.closed.wait(5)


def test_a_failed_stream_sends_no_done_and_a_good_one_does() -> None:
    body = {"model": "mynah", "messages": QUESTION, "stream": True}
    with run_server() as server:
        good = httpx2.post(f"{server.url}/v1/chat/completions", json=body)
    assert good.text.endswith("data: [DONE]\n\n")
    assert good.headers["content-type"].startswith("text/event-stream")
    with run_server(ServerSetup(ScriptedGrounder(failure=EngineStopped("x")))) as failing:
        bad = httpx2.post(f"{failing.url}/v1/chat/completions", json=body)
    assert "[DONE]" not in bad.text
    assert bad.text.rstrip().rsplit("\n\n", 1)[-1].startswith('data: {"error":')


@pytest.mark.parametrize("phase", ["admission", "answer"])
@pytest.mark.parametrize("stream", [False, True])
def test_work_stops_when_its_client_leaves(phase: str, stream: bool) -> None:
    grounder = ScriptedGrounder(
        admission_s=30 if phase == "admission" else 0, delay_s=0.05, is_endless=True
    )
    with run_server(ServerSetup(grounder)) as server:
        body = {"model": "mynah", "messages": QUESTION, "stream": stream}
        url = f"{server.url}/v1/chat/completions"
        if stream and phase == "answer":
            with httpx2.stream("POST", url, json=body) as response:
                next(response.iter_bytes())
        else:
            with pytest.raises(httpx2.ReadTimeout):
                httpx2.post(url, json=body, timeout=0.5)
        assert grounder.closed.wait(5)


def test_silence_in_a_stream_is_filled_with_comments() -> None:
    setup = ServerSetup(
        ScriptedGrounder(pieces=["a"], delay_s=0.35), components={"ping_interval_s": 0.1}
    )
    with run_server(setup) as server, make_client(server) as client:
        body = {"model": "mynah", "messages": QUESTION, "stream": True}
        text = httpx2.post(f"{server.url}/v1/chat/completions", json=body).text
        assert text.count(": ping\n\n") >= 2
        chunks = client.chat.completions.create(model="mynah", messages=QUESTION, stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == "a"


def test_stopping_ends_a_running_stream_with_an_error() -> None:
    setup = ServerSetup(ScriptedGrounder(delay_s=0.02, is_endless=True), shutdown_timeout_s=1)
    with run_server(setup) as server, make_client(server) as client:
        stream = client.chat.completions.create(model="mynah", messages=QUESTION, stream=True)
        next(stream)
        server.uvicorn.should_exit = True
        with pytest.raises(openai.APIError) as caught:
            list(stream)
        assert caught.value.code == "server_stopping"
        assert server.grounder.closed.wait(5)


def test_stopping_answers_a_waiting_request_with_503() -> None:
    setup = ServerSetup(ScriptedGrounder(admission_s=30), shutdown_timeout_s=0)
    with run_server(setup) as server, make_client(server) as client:
        stopper = threading.Timer(0.5, server.stop)
        stopper.start()
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model="mynah", messages=QUESTION)
        stopper.join()
    assert (caught.value.status_code, caught.value.code) == (503, "server_stopping")
    assert server.grounder.closed.is_set()


def test_a_client_that_leaves_amid_its_body_is_no_fault_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "mynah.request")
    with run_server() as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99"
            connection.sendall(f"{head}\r\ncontent-type: application/json\r\n\r\n{{".encode())
            time.sleep(0.3)
        time.sleep(0.3)
    assert "error=client_left" in caplog.text
    assert "Traceback" not in caplog.text
