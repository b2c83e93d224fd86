"""The main job, end to end: ingest a handbook, serve it, ask through the openai client, stop.

Run by `make demo`. Everything lives in a temporary folder; nothing leaves this machine.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import openai

HANDBOOK = Path(__file__).resolve().parent / "handbook"
QUESTIONS = (
    (
        "Answered from a page of a PDF",
        "How many weeks of leave at full pay does the second parent get after a birth?",
    ),
    (
        "Answered from two documents",
        "My laptop was stolen on a business trip: when must a stolen laptop be reported to the IT"
        " desk, and for how much is it insured?",
    ),
    ("Not in the handbook", "Which violinist won the Helsinki competition in 1987?"),
)
_START_TIMEOUT_S = 120.0


def main() -> int:
    """Exit code 0 if every step succeeded."""
    mynah = str(Path(sys.executable).with_name("mynah"))
    with tempfile.TemporaryDirectory(prefix="mynah-demo-") as data_dir:
        environment = {**os.environ, "MYNAH_DATA_DIR": data_dir, "MYNAH_LOG_LEVEL": "warning"}
        say(f"$ mynah ingest {HANDBOOK.name}")
        subprocess.run(
            [mynah, "ingest", str(HANDBOOK), "--collection", "handbook"],
            env=environment,
            check=True,
        )
        say("$ mynah serve --port 0")
        server = subprocess.Popen(
            [mynah, "serve", "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True
        )
        try:
            address = wait_until_ready(server)
            print(f"serving on {address}")
            client = openai.OpenAI(base_url=f"{address}/v1", api_key="not-needed-on-loopback")
            for title, question in QUESTIONS:
                ask(client, title, question)
        finally:
            server.send_signal(signal.SIGTERM)
            code = server.wait(timeout=30)
        print(f"\nserver stopped with exit code {code}")
        return code


def ask(client: openai.OpenAI, title: str, question: str) -> None:
    """Stream one answer and print it with its citations."""
    say(f"{title}\nQ: {question}")
    started_s = time.monotonic()
    first_s: float | None = None
    grounding: dict[str, Any] = {}
    print("A: ", end="", flush=True)
    with client.chat.completions.create(
        model="mynah", messages=[{"role": "user", "content": question}], stream=True
    ) as stream:
        for event in stream:
            grounding = (event.model_extra or {}).get("grounding") or grounding
            for choice in event.choices:
                if choice.delta.content:
                    first_s = first_s or time.monotonic() - started_s
                    print(choice.delta.content, end="", flush=True)
    total_s = time.monotonic() - started_s
    print(f"\n   {grounding['decision']}; first words after {first_s or total_s:.2f} s,", end="")
    print(f" all after {total_s:.2f} s")
    for citation in grounding["citations"]:
        page = f", page {citation['page']}" if citation["page"] else ""
        print(f"   [{citation['index']}] {citation['path']}{page}")
        print(f"       “{' '.join(citation['quote'].split())}”")


def wait_until_ready(server: subprocess.Popen[str]) -> str:
    """The address that the server printed, once it answers `/readyz`; raises `RuntimeError`."""
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=forward_lines, args=(server, lines), daemon=True).start()
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    address = ""
    while time.monotonic() < deadline_s and server.poll() is None:
        if not address:
            try:
                line = lines.get(timeout=0.2)
            except queue.Empty:
                continue
            address = next((w.rstrip("/") for w in line.split() if w.startswith("http://")), "")
        elif is_ready(address):
            return address
        else:
            time.sleep(0.1)
    raise RuntimeError("the server did not start; its messages are above")


def forward_lines(server: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    """Put every line of the server's output into `lines` until it ends."""
    if server.stdout is not None:
        for line in server.stdout:
            lines.put(line)


def is_ready(address: str) -> bool:
    """Whether the model and the index are loaded."""
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=5) as reply:
            return reply.status == 200 and bool(json.load(reply))
    except (urllib.error.URLError, TimeoutError):
        return False


def say(line: str) -> None:
    """Print a heading."""
    print(f"\n\033[1m{line}\033[0m" if sys.stdout.isatty() else f"\n{line}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
