"""A teacher on a real port: what it says follows from the request's body alone."""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CREATED_S = 1_760_000_000
WORDS = (
    "amber anchor basil beacon cedar cobalt copper dune ember fern flint garnet harbour heron"
    " indigo jasper kelp lagoon lantern linen maple marble meadow mica nettle oat ochre olive"
    " orchard pebble pine quartz quill raven reed river saffron sage sand shale silver slate"
    " sparrow spruce stone straw thistle timber topaz tulip umber valley velvet walnut willow"
).split()
REFUSAL = "I could not find this in the documents."

Say = Callable[[Mapping[str, Any]], str | tuple[str, str]]
Failure = tuple[int, Mapping[str, str], Any]


class ScriptedTeacher:
    """`say` maps a body to the text, or to text and finish reason; `failures` are sent first.

    A failure is status, headers and a JSON body, or bytes that are sent as they are. `bodies`,
    `paths`, `keys` and `times_s` tell what came, in the order of coming.
    """

    def __init__(
        self, say: Say, failures: Sequence[Failure] = (), *, delay_s: float = 0, usage: bool = True
    ) -> None:
        self._say = say
        self._failures = list(failures)
        self._delay_s = delay_s
        self._usage = usage
        self._lock = threading.Lock()
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.keys: list[str | None] = []
        self.times_s: list[float] = []
        self.num_running = 0
        self.most_running = 0
        self.url = ""

    def fail_next(self, failure: Failure) -> None:
        """Send `failure` before the next answer."""
        with self._lock:
            self._failures.append(failure)

    def reply(self, path: str, key: str | None, body: dict[str, Any]) -> Failure:
        with self._lock:
            self.bodies.append(body)
            self.paths.append(path)
            self.keys.append(key)
            self.times_s.append(time.monotonic())
            self.num_running += 1
            self.most_running = max(self.most_running, self.num_running)
            failure = self._failures.pop(0) if self._failures else None
        try:
            if failure is not None:
                return failure
            # Another delay for each request: answers come back out of order.
            time.sleep(self._delay_s * random_of(body).random())
            return 200, {}, self._complete(body)
        finally:
            with self._lock:
                self.num_running -= 1

    def _complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        said = self._say(body)
        text, reason = said if isinstance(said, tuple) else (said, "stop")
        reply: dict[str, Any] = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": CREATED_S + random_of(body).randrange(1000),
            "model": "teacher-2",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": reason,
                }
            ],
        }
        if self._usage:
            num_prompt, num_said = len(prompt_of(body).split()), len(text.split())
            reply["usage"] = {
                "prompt_tokens": num_prompt,
                "completion_tokens": num_said,
                "total_tokens": num_prompt + num_said,
            }
        return reply


@contextmanager
def running(teacher: ScriptedTeacher) -> Iterator[ScriptedTeacher]:
    """The teacher behind `teacher.url` until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, headers, content = teacher.reply(
                self.path, self.headers.get("authorization"), body
            )
            sent = content if isinstance(content, bytes) else json.dumps(content).encode()
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)
            except (BrokenPipeError, ConnectionResetError):
                # The client was killed.
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    teacher.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield teacher
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def prompt_of(body: Mapping[str, Any]) -> str:
    (message,) = body["messages"]
    assert message["role"] == "user"
    return str(message["content"])


def random_of(body: Mapping[str, Any]) -> random.Random:
    return random.Random(hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest())


def say_anything(body: Mapping[str, Any]) -> str:
    """A fitting answer to whatever any mode asks, drawn from the hash of the body."""
    chance = random_of(body)
    prompt = prompt_of(body)
    if body["max_tokens"] == 1024:
        lines = (f"{number}. {words(chance, 7)}." for number in range(9, 17))
        return "\n".join(lines)
    if body["max_tokens"] == 3:
        return chance.choice(["Yes", "No"])
    if body["max_tokens"] == 300:
        pairs = (f"Label: {words(chance, 1)}\nInput: {words(chance, 5)}" for _ in range(2))
        return "\n".join(pairs)
    if body["max_tokens"] == 350:
        return "\n".join(
            f"Example {number}\nInput: {words(chance, 4)}\nOutput: {words(chance, 6)}"
            for number in (1, 2)
        )
    if "### Task" in prompt:
        return list_tasks(chance, first=prompt.count("\n### Task") + 1, number=4)
    return answer_passages(prompt, chance)


def list_tasks(chance: random.Random, *, first: int, number: int) -> str:
    return "\n\n".join(
        f"### Task {first + place}\nInstruction: {words(chance, 8)}\nInput:"
        f" {chance.choice(['<none>', words(chance, 3)])}\nOutput: {words(chance, 5)}"
        for place in range(number)
    )


def answer_passages(prompt: str, chance: random.Random) -> str:
    question = f"Question: {words(chance, 6)}?\nAnswer: "
    target = re.search(r"passage \[(\d+)\]", prompt)
    assert target is not None
    if REFUSAL in prompt:
        return question + REFUSAL
    return f"{question}{words(chance, 5)}. [{target[1]}]"


def words(chance: random.Random, number: int) -> str:
    return " ".join(chance.sample(WORDS, number)).capitalize()
