"""The page as a process: every byte that it sends, and what outlives its end."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from models.imitation.judging.judgements import CHOICES, JUDGEMENTS_NAME
from models.imitation.judging.pairs import HIDDEN, PAIRS_NAME
from tests.server.judging.pages import (
    BASELINE,
    NUM_PAIRS,
    SYSTEM,
    Page,
    run_page,
    write_answers,
)

# Any form of the two names, and the words by which the files tell the two apart.
TELLING = re.compile(rb"quetzal|zorblax|baseline|\"system\"|\"sides\"|q\d+\b", re.IGNORECASE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / f"{SYSTEM}-or-{BASELINE}"


@pytest.fixture
def page(tmp_path: Path, folder: Path) -> Iterator[Page]:
    with run_page(folder, *write_answers(tmp_path)) as page:
        yield page


def test_no_reply_holds_a_name_of_a_system(page: Page, folder: Path) -> None:
    for path in ("/", "/index.html", "/api", "/docs", "/openapi.json", "/favicon.ico", "/%2e%2e"):
        page.send("GET", path)
    page.send("HEAD", "/")
    page.send("OPTIONS", "/api/state")
    page.send("DELETE", "/api/judgements")
    first = page.state()["item"]["id"]
    for number in range(NUM_PAIRS):
        page.judge_next(CHOICES[number % 4])
    assert page.state()["item"] is None
    assert page.judge(first, "A").status_code == 400
    assert page.judge("none", "A").status_code == 400
    assert page.undo().status_code == 200
    assert page.undo("Nobody").status_code == 400
    for format_ in ("json", "csv", "xml"):
        page.export(format=format_)
    page.send("POST", "/api/judgements", content=b"{")
    page.send("POST", "/api/judgements", json={"rater": "Ana", "item": first, "choice": "C"})
    page.send("GET", "/api/state")
    # A broken file must not tell by its path either.
    with (folder / JUDGEMENTS_NAME).open("a") as file:
        file.write("broken\n")
    broken = page.send("GET", "/api/state", params={"rater": "Ana"})
    assert broken.status_code == 500
    assert "finds the reason in its log" in broken.json()["error"]["message"]
    # The log tells whoever runs the page.
    code, err = page.stop(signal.SIGTERM)
    assert code == 0
    assert f"{folder / JUDGEMENTS_NAME}, line {NUM_PAIRS + 2}: " in err
    assert "Traceback" not in err
    # The folder, the files and the answers are full of them.
    assert TELLING.search((folder / PAIRS_NAME).read_bytes())
    assert len(page.seen) > 2 * NUM_PAIRS
    for seen in page.seen:
        assert TELLING.search(seen) is None, seen
    assert any(HIDDEN.encode() in seen for seen in page.seen)


def test_a_killed_page_loses_no_judgement(tmp_path: Path, folder: Path) -> None:
    files = write_answers(tmp_path)
    kept: dict[str, str] = {}
    shown: dict[str, Any] = {}
    for round_ in range(2):
        # The first start makes the pairs, a later one finds them.
        with run_page(folder, *([] if round_ else files)) as page:
            state = page.state()
            assert state["num_done"] == len(kept)
            # The pair that was on the screen comes back as it was.
            assert state["item"] == shown or not shown
            for number in range(4):
                item, choice = state["item"]["id"], CHOICES[(round_ + number) % 4]
                reply = page.judge(item, choice)
                assert reply.status_code == 200
                kept[item], state = choice, reply.json()
            shown = state["item"]
            page.kill()
    with run_page(folder) as page:
        exported = page.export().json()["judgements"]
        assert {row["item"]: row["choice"] for row in exported} == kept
        # Undo works across restarts.
        assert page.undo().json()["item"]["id"] == list(kept)[-1]


def test_a_kill_amid_writing_costs_only_what_was_not_confirmed(
    tmp_path: Path, folder: Path
) -> None:
    with run_page(folder, *write_answers(tmp_path)) as page:
        confirmed: list[str] = []

        def judge_on(rater: str) -> None:
            try:
                while (item := page.state(rater)["item"]) is not None:
                    if page.judge(item["id"], "tie", rater).status_code == 200:
                        confirmed.append(f"{rater} {item['id']}")
            except httpx2.TransportError as error:
                stopped.append(error)

        stopped: list[httpx2.TransportError] = []
        threads = [threading.Thread(target=judge_on, args=(f"R{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        while len(confirmed) < 8:
            threads[0].join(0.002)
        page.kill()
        for thread in threads:
            thread.join()
    # The kill came before the last pair.
    assert stopped
    # As if the last line had been cut.
    with (folder / JUDGEMENTS_NAME).open("ab") as file:
        file.write(b'{"item": "half')
    with run_page(folder) as page:
        kept = {
            f"R{n} {row['item']}"
            for n in range(4)
            for row in page.export(f"R{n}").json()["judgements"]
        }
        assert set(confirmed) <= kept
        page.judge_next("A", "Later")
    assert len((folder / JUDGEMENTS_NAME).read_text().splitlines()) == len(kept) + 1


def test_ctrl_c_stops_the_page_quietly(page: Page) -> None:
    page.judge_next("A")
    assert page.stop(signal.SIGINT) == (0, "")
