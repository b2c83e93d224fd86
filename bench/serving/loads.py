"""What the servers are asked: grounded questions cold and warm, a chat of four turns, long quotes.

The texts are random words, other ones in every repeat, the same for every server.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.serving.client import Ask, Seen, open_client, send, send_all
from bench.serving.servers import Server
from models.protocols import Message, PromptDocument

_WORDS = (
    "policy leave travel expense laptop security request manager approval weeks office claim "
    "budget receipt training contract holiday remote device account password access review team "
    "customer support invoice payment period notice health safety visitor parking meeting report "
    "document record data privacy incident change release schedule project quality supplier "
    "purchase order delivery return warranty service level agreement benefit pension salary bonus "
    "overtime shift rota absence sickness doctor certificate parental maternity adoption carer "
    "emergency contact"
).split()
_NUM_PASSAGES, _PASSAGE_WORDS, _QUESTION_WORDS = 4, 170, 12
_NUM_TURNS, _TURN_WORDS = 4, 60
_QUOTE_TOKENS = 192


@dataclass(frozen=True, slots=True)
class Size:
    """How much of each load one repeat holds, for each client where several ask."""

    num_requests: int = 2
    num_pool: int = 40
    num_tokens: int = 48
    num_chats: int = 1


@dataclass(frozen=True, slots=True)
class Load:
    """One way of asking. `measure` gives figures of one repeat, by name."""

    name: str
    num_clients: int
    measure: Callable[[Server, int], Mapping[str, float]]


class LoadMaker:
    """Builds loads over one model's tokens that end an answer."""

    def __init__(self, size: Size, end_ids: Sequence[int]) -> None:
        self._size = size
        self._end_ids = tuple(end_ids)
        self._pool = make_pool(random.Random("warm"), size.num_pool)
        # Servers that have seen every passage of the pool.
        self._warmed: set[str] = set()

    def make(self, name: str, num_clients: int) -> Load:
        """The load `cold`, `warm`, `chat` or `quotes`."""
        measure = {
            "cold": self._measure_cold,
            "warm": self._measure_warm,
            "chat": self._measure_chat,
            "quotes": self._measure_quotes,
        }[name]
        return Load(name, num_clients, lambda server, repeat: measure(server, repeat, num_clients))

    def _measure_cold(self, server: Server, repeat: int, num_clients: int) -> dict[str, float]:
        rng = random.Random(f"cold {num_clients} {repeat}")
        num = self._size.num_requests * num_clients
        # A passage of its own for every place: none was seen before.
        pool = make_pool(rng, num * _NUM_PASSAGES)
        parts = [pool[i * _NUM_PASSAGES : (i + 1) * _NUM_PASSAGES] for i in range(num)]
        return self._measure(server, [self._ask(rng, part) for part in parts], num_clients)

    def _measure_warm(self, server: Server, repeat: int, num_clients: int) -> dict[str, float]:
        if server.name not in self._warmed:
            self._warm(server)
        rng = random.Random(f"warm {num_clients} {repeat}")
        asks = [
            self._ask(rng, rng.sample(self._pool, _NUM_PASSAGES))
            for _ in range(self._size.num_requests * num_clients)
        ]
        return self._measure(server, asks, num_clients)

    def _warm(self, server: Server) -> None:
        rng = random.Random("seen before")
        asks = [
            replace(self._ask(rng, self._pool[i : i + _NUM_PASSAGES]), num_tokens=1)
            for i in range(0, len(self._pool), _NUM_PASSAGES)
        ]
        asyncio.run(send_all(server, asks, 1))
        self._warmed.add(server.name)

    def _measure_chat(self, server: Server, repeat: int, num_clients: int) -> dict[str, float]:
        rng = random.Random(f"chat {repeat}")
        totals: list[tuple[float, float]] = []
        for _ in range(self._size.num_chats):
            turns = [say(rng, _TURN_WORDS) for _ in range(_NUM_TURNS)]
            totals.append(asyncio.run(self._chat(server, turns)))
        return {
            "total_s": statistics.median(total_s for total_s, _ in totals),
            "cpu_s": statistics.median(cpu_s for _, cpu_s in totals),
        }

    async def _chat(self, server: Server, questions: Sequence[str]) -> tuple[float, float]:
        history: list[Message] = []
        total_s = cpu_s = 0.0
        async with open_client() as client:
            for question in questions:
                ask = self._fill(Ask(question, history=tuple(history)))
                seen = await send(client, server, ask)
                total_s += seen.total_s
                cpu_s += seen.total_cpu_s
                history += [Message("user", question), Message("assistant", seen.text)]
        return total_s, cpu_s

    def _measure_quotes(self, server: Server, repeat: int, num_clients: int) -> dict[str, float]:
        rng = random.Random(f"quotes {repeat}")
        pool = make_pool(rng, _NUM_PASSAGES)
        ask = replace(self._ask(rng, pool), num_tokens=_QUOTE_TOKENS, temperature=0.0)
        seen, _ = asyncio.run(send_all(server, [ask], 1))
        decode_s = [one.total_s - one.first_s for one in seen]
        decode_cpu_s = [one.total_cpu_s - one.first_cpu_s for one in seen]
        return {
            "tokens_per_s": _QUOTE_TOKENS / statistics.median(decode_s),
            "cpu_s": statistics.median(decode_cpu_s),
        }

    def _measure(self, server: Server, asks: Sequence[Ask], num_clients: int) -> dict[str, float]:
        started_cpu_s = server.cpu_s
        seen, wall_s = asyncio.run(send_all(server, asks, num_clients))
        figures = {
            "first_s": statistics.median(one.first_s for one in seen),
            "requests_per_s": len(seen) / wall_s,
            "cpu_s": (server.cpu_s - started_cpu_s) / len(seen),
            "cached_share": _cached_share(seen),
        }
        if num_clients == 1:
            figures["first_cpu_s"] = statistics.median(one.first_cpu_s for one in seen)
        return figures

    def _ask(self, rng: random.Random, documents: Sequence[PromptDocument]) -> Ask:
        return self._fill(Ask(say(rng, _QUESTION_WORDS), documents, seed=rng.randrange(2**31)))

    def _fill(self, ask: Ask) -> Ask:
        return replace(ask, num_tokens=self._size.num_tokens, end_ids=self._end_ids)


def _cached_share(seen: Sequence[Seen]) -> float:
    """Share of the prompts' tokens that the server says it took from its cache."""
    cached = prompt = 0
    for one in seen:
        prompt += one.usage.get("prompt_tokens", 0)
        cached += (one.usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return cached / prompt if prompt else 0.0


def make_pool(rng: random.Random, num: int) -> list[PromptDocument]:
    """Passages of random words."""
    return [PromptDocument(f"{i}.md", say(rng, _PASSAGE_WORDS)) for i in range(num)]


def say(rng: random.Random, num_words: int) -> str:
    """So many random words."""
    return " ".join(rng.choices(_WORDS, k=num_words))
