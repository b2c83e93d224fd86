"""The page on a free port, in a thread or as a process, and what a browser sends to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from models.imitation.judging.judgements import JudgementLog
from models.imitation.judging.pairs import Role
from server.access import AccessRules
from server.auth import KeyStore
from server.commands.tune.judging import make_pairs
from server.judging.app import PAGE_PATHS, create_judging_app
from server.judging.desk import Desk
from server.serving import SignalledServer, bind, to_url

ROOT = Path(__file__).parents[3]
# Distinctive, in the files' names too, and said in the answers.
SYSTEM = "quetzalnet-7b"
BASELINE = "zorblax-base"
NUM_PAIRS = 12
NAMES: Mapping[Role, str] = {"system": SYSTEM, "baseline": BASELINE}


@dataclass
class Page:
    """A running page. `seen` holds the raw bytes of every reply, status line and headers too."""

    client: httpx2.Client
    process: subprocess.Popen[str] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[bytes] = field(default_factory=list)

    def send(self, method: str, path: str, **options: Any) -> httpx2.Response:
        headers = {**self.headers, **options.pop("headers", {})}
        reply = self.client.request(method, path, headers=headers, **options)
        head = b"".join(name + b": " + value + b"\r\n" for name, value in reply.headers.raw)
        self.seen.append(
            f"{reply.url} {reply.status_code}".encode() + b"\r\n" + head + reply.content
        )
        return reply

    def state(self, rater: str = "Ana") -> dict[str, Any]:
        reply = self.send("GET", "/api/state", params={"rater": rater})
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def judge(self, item: str, choice: str, rater: str = "Ana") -> httpx2.Response:
        body = {"rater": rater, "item": item, "choice": choice}
        return self.send("POST", "/api/judgements", json=body)

    def judge_next(self, choice: str, rater: str = "Ana") -> dict[str, Any]:
        """Judge the pair that is next and return the state after it."""
        reply = self.judge(self.state(rater)["item"]["id"], choice, rater)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def undo(self, rater: str = "Ana") -> httpx2.Response:
        return self.send("POST", "/api/undo", json={"rater": rater})

    def export(self, rater: str = "Ana", format: str = "json") -> httpx2.Response:
        return self.send("GET", "/api/export", params={"rater": rater, "format": format})

    def stop(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal to the process; its exit status and what it wrote to its log."""
        assert self.process is not None
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err

    def kill(self) -> None:
        assert self.stop(signal.SIGKILL)[0] == -signal.SIGKILL


def write_answers(folder: Path, num: int = NUM_PAIRS) -> list[str]:
    """Two files of answers that tell their names; the arguments that name them."""
    for name, mark in ((SYSTEM, "pomelo"), (BASELINE, "medlar")):
        rows = [
            {
                "id": f"q{number}",
                "question": f"Does {SYSTEM.upper()} or {BASELINE} know it, {number}?",
                "answer": f"I, *{name}*, say {mark} of {number}.\n\nZorblax Base, quetzalnet 7B!",
            }
            for number in range(num)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)
    return [
        "--system",
        str(folder / f"{SYSTEM}.jsonl"),
        "--baseline",
        str(folder / f"{BASELINE}.jsonl"),
    ]


@contextlib.contextmanager
def serve_page(folder: Path) -> Iterator[Page]:
    """The page in a thread, over pairs that are made beside `folder`."""
    write_answers(folder.parent)
    comparison = make_pairs(
        folder,
        {role: folder.parent / f"{name}.jsonl" for role, name in NAMES.items()},
        {"system": None, "baseline": None},
        questions=None,
        seed=0,
        limit=None,
        hidden=(),
    )
    keys = KeyStore(folder.parent / "data" / "keys.json")
    access = AccessRules(keys, host="127.0.0.1", open_paths=PAGE_PATHS)
    with JudgementLog(folder) as log, bind("127.0.0.1", 0) as listener:
        server = SignalledServer(create_judging_app(Desk(comparison, log), access), 5)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            with httpx2.Client(base_url=to_url(listener), timeout=30) as client:
                yield Page(client)
        finally:
            server.stop()
            thread.join()


@contextlib.contextmanager
def run_page(folder: Path, *arguments: str) -> Iterator[Page]:
    """The page as a process over `folder`, with its data directory beside it."""
    environment = {name: value for name, value in os.environ.items() if name[:6] != "MYNAH_"}
    data = ["--data-dir", str(folder.parent / "data")]
    command = ["tune", "judge", str(folder), "--page", "--port", "0", *arguments]
    process = subprocess.Popen(
        [sys.executable, "-m", "server.cli", *data, *command],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        said: list[str] = []
        while not said or not said[-1].startswith("Judge at "):
            line = process.stdout.readline()
            assert line, f"{said} {process.stderr.read() if process.stderr else ''}"
            said.append(line)
        with httpx2.Client(base_url=said[-1].split()[2], timeout=30) as client:
            yield Page(client, process)
    finally:
        process.kill()
        process.communicate()
