"""Mixed load on a real `mynah serve` for a while: no error, no growth, every slot idle at the end.

    python -m bench.soak [--minutes 30] [--model PATH] [--clients 6] [--json]

Clients ask raw, grounded and quoted questions, streamed and whole, leave in the middle of some, and
send what must be refused. Exit code 1 says that a reply was not what it should be, that the
server's memory grew after the first five minutes by more than `--max-growth`, or that a slot is
still taken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench.serving.client import open_client
from bench.serving.loads import make_pool, say
from bench.serving.servers import Server, Setup, serve_mynah, stop_servers_when_told
from models.registry_entries import find_bundled

_EXAMPLES = Path(__file__).parents[1] / "examples"
_SETTLING_S = 300.0
_SAMPLE_S = 2.0
_IDLE_S = 60.0
_TOO_MANY = 429


@dataclass
class Report:
    """What happened. `errors` holds the first of them, `samples` seconds and bytes."""

    num_done: Counter[str] = field(default_factory=Counter)
    num_refused: int = 0
    errors: list[str] = field(default_factory=list)
    samples: list[tuple[float, int]] = field(default_factory=list)
    is_idle: bool = False

    def fail(self, what: str) -> None:
        """Note an error."""
        self.errors.append(what[:300])


class Visitor:
    """One client that does one thing after the other, drawn by its own seed."""

    def __init__(self, server: Server, seed: int, report: Report) -> None:
        self._server = server
        self._rng = random.Random(seed)
        self._report = report
        self._pool = make_pool(random.Random("soak"), 24)
        self._questions = [
            json.loads(line)["question"]
            for line in (_EXAMPLES / "questions.jsonl").read_text(encoding="utf-8").splitlines()
        ]

    async def visit(self, until_s: float) -> None:
        """Ask until the clock says so."""
        acts: list[tuple[str, Callable[[httpx.AsyncClient], Awaitable[None]]]] = [
            ("raw", self._ask_raw),
            ("quote", self._ask_quote),
            ("answer", self._ask_answer),
            ("documents", self._ask_documents),
            ("leave", self._leave),
            ("bad", self._send_bad),
        ]
        async with open_client() as client:
            while time.monotonic() < until_s:
                name, act = self._rng.choice(acts)
                try:
                    await act(client)
                except (httpx.HTTPError, ValueError) as error:
                    self._report.fail(f"{name}: {type(error).__name__}: {error}")
                self._report.num_done[name] += 1

    async def _ask_raw(self, client: httpx.AsyncClient) -> None:
        await self._ask(client, self._raw())

    async def _ask_quote(self, client: httpx.AsyncClient) -> None:
        await self._ask(client, self._grounded("quote"))

    async def _ask_answer(self, client: httpx.AsyncClient) -> None:
        await self._ask(client, self._grounded("answer"))

    async def _ask_documents(self, client: httpx.AsyncClient) -> None:
        passages = self._rng.sample(self._pool, 4)
        body = self._raw()
        if self._server.has_documents:
            body["documents"] = [{"title": p.title, "text": p.text} for p in passages]
        else:
            text = "\n\n".join(p.text for p in passages)
            body["messages"][-1]["content"] = f"{text}\n\n{body['messages'][-1]['content']}"
        await self._ask(client, body)

    async def _leave(self, client: httpx.AsyncClient) -> None:
        """Go after a moment: in the queue, in the prefill or in the answer."""
        body = self._raw() if self._rng.random() < 0.5 else self._grounded("answer")
        body["max_tokens"] = 256
        task = asyncio.create_task(self._ask(client, body))
        await asyncio.sleep(self._rng.choice((0.0, 0.01, 0.1, 0.5, 2.0)) * self._rng.random())
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(result, Exception):
            raise result

    async def _send_bad(self, client: httpx.AsyncClient) -> None:
        body = self._raw()
        wrong: list[tuple[str, object]] = [
            ("max_tokens", -1),
            ("temperature", "hot"),
            ("messages", []),
            ("model", "nobody"),
            ("nonsense", 1),
            ("max_tokens", 10**8),
        ]
        name, value = self._rng.choice(wrong)
        reply = await client.post(self._url, json={**body, name: value})
        if reply.status_code not in (400, 404, _TOO_MANY) or "error" not in reply.json():
            self._report.fail(f"bad {name}={value}: {reply.status_code} {reply.text[:200]}")

    async def _ask(self, client: httpx.AsyncClient, body: dict[str, Any]) -> None:
        body["stream"] = self._rng.random() < 0.5
        async with client.stream("POST", self._url, json=body) as reply:
            lines = [line async for line in reply.aiter_lines()]
        text = "\n".join(lines)
        if reply.status_code == _TOO_MANY:
            self._report.num_refused += 1
        elif reply.status_code != httpx.codes.OK:
            self._report.fail(f"{body['model']}: {reply.status_code} {text[:200]}")
        elif body["stream"] and "data: [DONE]" not in lines:
            self._report.fail(f"{body['model']}: a stream without its end: {text[-200:]}")
        elif not body["stream"] and not json.loads(text)["choices"][0]["finish_reason"]:
            self._report.fail(f"{body['model']}: an answer that did not finish")

    def _raw(self) -> dict[str, Any]:
        return {
            "model": "mynah-raw",
            "messages": [{"role": "user", "content": say(self._rng, self._rng.randrange(3, 120))}],
            "max_tokens": self._rng.randrange(1, 64),
        }

    def _grounded(self, mode: str) -> dict[str, Any]:
        question = self._rng.choice(self._questions)
        return {
            "model": "mynah",
            "messages": [{"role": "user", "content": question}],
            "max_tokens": 64,
            "grounding": {"mode": mode},
        }

    @property
    def _url(self) -> str:
        return f"{self._server.url}/v1/chat/completions"


async def run(server: Server, options: argparse.Namespace) -> Report:
    """Send the load and watch the server."""
    report = Report()
    started_s = time.monotonic()
    until_s = started_s + 60 * options.minutes
    visitors = [Visitor(server, options.seed + i, report) for i in range(options.clients)]

    async def watch() -> None:
        while time.monotonic() < until_s:
            report.samples.append((time.monotonic() - started_s, server.rss_bytes))
            await asyncio.sleep(_SAMPLE_S)

    await asyncio.gather(watch(), *(visitor.visit(until_s) for visitor in visitors))
    report.is_idle = await _becomes_idle(server)
    report.samples.append((time.monotonic() - started_s, server.rss_bytes))
    return report


async def _becomes_idle(server: Server) -> bool:
    async with open_client() as client:
        deadline = time.monotonic() + _IDLE_S
        while time.monotonic() < deadline:
            load = (await client.get(f"{server.url}/readyz")).json()
            is_idle = load["num_running"] == load["num_waiting"] == 0
            state = await client.get(f"{server.url}/v1/engine")
            if state.status_code == httpx.codes.OK:
                # No slot is taken and no cell is promised to anybody.
                engine = state.json()
                is_idle &= not engine["slots"] and not engine["cells"]["num_promised"]
            if is_idle:
                return True
            await asyncio.sleep(0.2)
    return False


def measure_growth(samples: list[tuple[float, int]], settling_s: float) -> int:
    """Bytes between the first and the last fifth of what came after settling, by their medians."""
    settled = [num_bytes for at_s, num_bytes in samples if at_s >= settling_s]
    part = max(1, len(settled) // 5)
    if len(settled) < 2:
        return 0
    return int(statistics.median(settled[-part:]) - statistics.median(settled[:part]))


def main() -> None:
    """Run, report, and leave with 1 if something is amiss."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--model", type=Path, default=find_bundled())
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--max-growth", type=float, default=32.0, help="in MB")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    stop_servers_when_told()
    setup = Setup(options.model, options.threads, options.slots, context_tokens=2048)
    # A shorter run settles in a shorter time.
    settling_s = min(_SETTLING_S, 60 * options.minutes / 3)
    with tempfile.TemporaryDirectory(prefix="mynah-soak-") as folder:
        subprocess.run(
            [
                *(sys.executable, "-m", "server.cli", "--data-dir", folder),
                *("ingest", str(_EXAMPLES / "handbook")),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with serve_mynah(setup, data_dir=Path(folder), settings={"max_waiting": "1"}) as server:
            report = asyncio.run(run(server, options))
    growth_mb = measure_growth(report.samples, settling_s) / 1e6
    problems = list(dict.fromkeys(report.errors))[:10]
    if growth_mb > options.max_growth:
        problems.append(f"memory grew by {growth_mb:.1f} MB after {settling_s:.0f} s")
    if not report.is_idle:
        problems.append("a slot is still taken")
    figures = {
        "minutes": options.minutes,
        "requests": dict(sorted(report.num_done.items())),
        "refused_as_full": report.num_refused,
        "errors": len(report.errors),
        "rss_mb": [
            round(num_bytes / 1e6)
            for _, num_bytes in report.samples[:: 1 + len(report.samples) // 20]
        ],
        "growth_mb": round(growth_mb, 1),
        "is_idle": report.is_idle,
        "problems": problems,
    }
    if options.json:
        print(json.dumps(figures, indent=1))
    else:
        print("\n".join(f"{name:16} {value}" for name, value in figures.items()))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
