"""Ratios say how much better Mynah is, by repeat; a real server is measured as a client sees it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.serving.client import Ask, RequestFailed, send_all, to_body
from bench.serving.engines import in_turn
from bench.serving.servers import (
    LLAMA_CPP_SERVER,
    LLAMA_SERVER,
    MYNAH,
    Server,
    ServerFailed,
    Setup,
    serve_mynah,
)
from bench.serving.table import Measured, compare, find_bar, pair, render
from models.protocols import Message, PromptDocument

POSITIVE = st.floats(1e-3, 1e3)
PAIRS = st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=9)


@settings(deadline=None)
@given(pairs=PAIRS, factor=st.floats(1.01, 10))
def test_a_ratio_grows_as_a_time_shrinks_and_as_a_rate_grows(
    pairs: list[tuple[float, float]], factor: float
) -> None:
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    asked = ("m", "cold", 1)
    quick = [a / factor for a in ours]
    before = pair(asked, "first_s", LLAMA_SERVER, ours, theirs, bar=1.0)
    after = pair(asked, "first_s", LLAMA_SERVER, quick, theirs, bar=1.0)
    assert after.ratio == pytest.approx(factor * before.ratio)
    more = [a * factor for a in ours]
    before = pair(asked, "requests_per_s", LLAMA_SERVER, ours, theirs, bar=1.0)
    after = pair(asked, "requests_per_s", LLAMA_SERVER, more, theirs, bar=1.0)
    assert after.ratio == pytest.approx(factor * before.ratio)
    assert after.low <= after.ratio <= after.high
    assert after.verdict == ("met" if after.ratio >= 1.0 else "missed")


def test_every_peer_and_figure_gets_a_row_with_its_bar() -> None:
    measured: Measured = {
        MYNAH: {"first_s": [0.1, 0.2], "requests_per_s": [2.0, 2.0], "cached_share": [0.9, 0.9]},
        LLAMA_SERVER: {"first_s": [1.2, 2.2], "requests_per_s": [1.0, 1.0], "cached_share": [0, 0]},
        LLAMA_CPP_SERVER: {"first_s": [1.0, 2.0], "requests_per_s": [0.5, 0.5]},
    }
    rows = compare("rand60", "warm", 1, measured, size=61_000_000)
    shown = {(row.against, row.figure): (row.bar, row.verdict) for row in rows}
    assert shown == {
        (LLAMA_SERVER, "first_s"): (10.0, "met"),
        (LLAMA_SERVER, "requests_per_s"): (None, ""),
        (LLAMA_CPP_SERVER, "first_s"): (20.0, "missed"),
        (LLAMA_CPP_SERVER, "requests_per_s"): (None, ""),
    }
    table = render(rows).splitlines()
    assert len(table) == 2 + len(rows)
    assert len({line.count("|") for line in table}) == 1
    assert find_bar("warm", 1, "first_s", LLAMA_SERVER, 1_100_000_000) == 20.0


def test_everyone_goes_first_in_turn() -> None:
    ways = dict.fromkeys("abc", 0)
    firsts = [in_turn(ways, repeat)[0][0] for repeat in range(6)]
    assert firsts == list("abcabc")
    assert all(sorted(in_turn(ways, repeat)) == sorted(ways.items()) for repeat in range(3))


def test_all_servers_read_the_same_words() -> None:
    passages = [PromptDocument("a.md", "Nine is early."), PromptDocument("b.md", "Ten is late.")]
    ask = Ask("When?", passages, history=[Message("user", "Hi")], end_ids=[2])
    plain = to_body(ask, Server(LLAMA_SERVER, "", "m", 0))
    apart = to_body(ask, Server(MYNAH, "", "mynah-raw", 0, has_documents=True))
    assert [m["role"] for m in plain["messages"]] == ["system", "user", "user"]
    assert plain["messages"][:-1] == apart["messages"][:-1]
    text = plain["messages"][-1]["content"]
    assert all(passage.text in text for passage in passages)
    assert text.endswith("Question: When?")
    assert [d["text"] for d in apart["documents"]] == [p.text for p in passages]
    assert apart["messages"][-1]["content"] == "When?"
    assert {**plain, **{k: apart[k] for k in ("messages", "model")}} == {
        k: v for k, v in apart.items() if k != "documents"
    }


@pytest.mark.slow
def test_a_real_server_is_measured(tiny_gguf: Path) -> None:
    setup = Setup(tiny_gguf, num_threads=1, num_slots=2, context_tokens=512)
    asks = [Ask(f"When does {name} open?", num_tokens=8, seed=1) for name in ("A", "B", "C")]
    with serve_mynah(setup) as server:
        seen, wall_s = asyncio.run(send_all(server, asks, num_clients=2))
        assert server.rss_bytes > 10_000_000
        with pytest.raises(ExceptionGroup) as caught:
            asyncio.run(send_all(server, [Ask("?", num_tokens=10**6)], num_clients=1))
    assert caught.group_contains(RequestFailed, match="400")
    assert len(seen) == 3
    assert all(0 < one.first_s <= one.total_s <= wall_s for one in seen)
    assert all(one.usage["completion_tokens"] <= 8 and one.text for one in seen)


@pytest.mark.slow
def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "missing.gguf", num_threads=1, num_slots=1, context_tokens=512)
    with pytest.raises(ServerFailed, match=r"missing\.gguf"), serve_mynah(setup):
        pass
