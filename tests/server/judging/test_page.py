"""The page over a real port: what raters see, what they may do, and what is kept."""

from __future__ import annotations

import csv
import io
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.imitation.judging.judgements import CHOICES, JUDGEMENTS_NAME, JudgementLog
from models.imitation.judging.pairs import read_comparison
from models.imitation.judging.results import summarise
from server.auth import KeyStore
from tests.server.judging.pages import BASELINE, NUM_PAIRS, SYSTEM, Page, serve_page


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / f"{SYSTEM}-or-{BASELINE}"


@pytest.fixture
def page(folder: Path) -> Iterator[Page]:
    with serve_page(folder) as page:
        yield page


def read_log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / JUDGEMENTS_NAME).read_text().splitlines()]


# Replies


def test_replies_do_not_tell_how_long_they_took_and_are_not_kept(page: Page) -> None:
    ours = page.send("GET", "/api/state", params={"rater": "Ana"})
    names = set(ours.headers)
    assert "openai-processing-ms" not in names
    assert not [name for name in names if "time" in name or "model" in name]
    # Headers are the same set whichever system stands first.
    for _ in range(NUM_PAIRS):
        page.judge_next("tie")
        assert set(page.send("GET", "/api/state", params={"rater": "Ana"}).headers) == names
    for path in ("/", "/api/state?rater=Ana", "/none"):
        reply = page.send("GET", path)
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["x-frame-options"] == "DENY"


def test_the_page_loads_nothing_from_elsewhere(page: Page) -> None:
    reply = page.send("GET", "/")
    assert reply.headers["content-type"].startswith("text/html")
    assert not re.search(r"(?:https?:)?//[a-z]", reply.text.replace("<!doctype html>", ""))
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy
    # Answers are put in as text, never as markup.
    assert "innerHTML" not in reply.text
    assert reply.text.count("<script>") == reply.text.count("<style>") == 1


# Sides


def test_sides_are_random_kept_and_the_same_after_every_reload(page: Page, folder: Path) -> None:
    comparison = read_comparison(folder)
    assert page.state("Ben")["item"] == page.state()["item"]
    for pair in comparison.pairs:
        item = page.state()["item"]
        assert item["id"] == pair.id
        assert ("pomelo" in item["a"]) == (pair.a == "system")
        assert ("medlar" in item["a"]) == (pair.a == "baseline")
        assert page.state()["item"] == item
        page.judge_next("A")
    rows = read_log(folder)
    assert [row["sides"] for row in rows] == [pair.sides for pair in comparison.pairs]
    assert {row["sides"]["A"] for row in rows} == {"system", "baseline"}


# Choices


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_is_kept_and_taken_back(choice: str, page: Page, folder: Path) -> None:
    before = page.state()
    assert (before["num_items"], before["num_done"], before["can_undo"]) == (NUM_PAIRS, 0, False)
    after = page.judge_next(choice)
    assert (after["num_done"], after["can_undo"]) == (1, True)
    assert after["item"]["id"] != before["item"]["id"]
    (judgement,) = page.export().json()["judgements"]
    assert (judgement["item"], judgement["choice"]) == (before["item"]["id"], choice)
    undone = page.undo()
    assert undone.json() == before
    assert page.export().json()["judgements"] == []
    assert page.undo().status_code == 400
    assert [row["choice"] for row in read_log(folder)] == [choice, None]
    # Another choice stands thereafter.
    page.judge_next("tie")
    (judgement,) = page.export().json()["judgements"]
    assert judgement["choice"] == "tie"


def test_what_is_done_is_done_and_may_still_be_taken_back(page: Page) -> None:
    for _ in range(NUM_PAIRS):
        state = page.judge_next("both_bad")
    assert (state["item"], state["num_done"]) == (None, NUM_PAIRS)
    for number in range(NUM_PAIRS - 1, -1, -1):
        state = page.undo().json()
        assert (state["num_done"], state["item"] is None) == (number, False)


def test_two_windows_do_not_overwrite_each_other(page: Page) -> None:
    item = page.state()["item"]["id"]
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(page.judge(item, "A").status_code))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 400, 400, 400]
    assert page.state()["num_done"] == 1
    reply = page.judge(item, "B")
    assert "judged this pair already" in reply.json()["error"]["message"]
    assert page.export().json()["judgements"][0]["choice"] == "A"


# Raters


def test_each_rater_has_an_own_export_and_results_compare_them(page: Page, folder: Path) -> None:
    # As sides: p_o = 2/4. As outcomes the same, for both see the same sides.
    for choice in ("A", "A", "tie", "both_bad"):
        page.judge_next(choice, "Ana")
    for choice in ("A", "B", "tie", "tie"):
        page.judge_next(choice, "Ben  Bo")
    ana, ben = page.export("Ana").json(), page.export("Ben Bo").json()
    assert [row["choice"] for row in ana["judgements"]] == ["A", "A", "tie", "both_bad"]
    assert [row["choice"] for row in ben["judgements"]] == ["A", "B", "tie", "tie"]
    assert (ana["rater"], ben["rater"], ana["num_items"]) == ("Ana", "Ben Bo", NUM_PAIRS)
    assert [row["item"] for row in ana["judgements"]] == [row["item"] for row in ben["judgements"]]
    with JudgementLog(folder) as log:
        agreement = summarise(read_comparison(folder), log.standing()).agreement
    assert agreement is not None
    assert agreement.pairs[0].raters == ("Ana", "Ben Bo")
    assert agreement.raw == 0.5


def test_the_table_holds_what_the_json_holds(page: Page) -> None:
    for choice in ("A", "tie"):
        page.judge_next(choice)
    reply = page.export(format="csv")
    assert reply.headers["content-type"].startswith("text/csv")
    assert reply.headers["content-disposition"] == 'attachment; filename="judgements.csv"'
    rows = list(csv.DictReader(io.StringIO(reply.text)))
    exported = page.export().json()["judgements"]
    assert [(row["item"], row["choice"]) for row in rows] == [
        (row["item"], row["choice"]) for row in exported
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["time"]) for row in rows)
    assert {row["rater"] for row in rows} == {"Ana"}


@pytest.mark.parametrize(
    "rater", ["", "  ", "x" * 61, "=SUM(A1)", "-x", "a\x00b", "model:m", "Model:m", "\u202eAna"]
)
def test_names_that_cannot_be_used_are_refused(rater: str, page: Page, folder: Path) -> None:
    item = page.state()["item"]["id"]
    for reply in (
        page.send("GET", "/api/state", params={"rater": rater}),
        page.judge(item, "A", rater),
        page.undo(rater),
        page.export(rater),
    ):
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == "rater"
    assert read_log(folder) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"rater": "Ana"}',
        b'{"rater": "Ana", "item": "none", "choice": "A"}',
        b'{"rater": "Ana", "item": ITEM, "choice": "C"}',
        b'{"rater": "Ana", "item": ITEM, "choice": null}',
        b'{"rater": 1, "item": ITEM, "choice": "A"}',
        b'{"rater": "Ana", "item": ITEM, "choice": "A", "sides": {}}',
    ],
)
def test_bodies_that_are_no_judgement_are_refused(body: bytes, page: Page, folder: Path) -> None:
    item = json.dumps(page.state()["item"]["id"]).encode()
    reply = page.send("POST", "/api/judgements", content=body.replace(b"ITEM", item))
    assert reply.status_code == 400
    message = reply.json()["error"]["message"]
    assert message
    assert "\n" not in message
    assert read_log(folder) == []


def test_a_long_body_and_an_unknown_format_are_refused(page: Page) -> None:
    assert page.send("POST", "/api/undo", content=b" " * 20_000).status_code == 413
    assert page.export(format="xml").status_code == 400


# Access


def test_other_sites_and_other_names_of_this_host_are_refused(page: Page) -> None:
    for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}):
        reply = page.send("GET", "/api/state", params={"rater": "Ana"}, headers=headers)
        assert reply.status_code == 403


def test_where_there_are_keys_only_the_empty_page_is_open(page: Page, tmp_path: Path) -> None:
    secret, _ = KeyStore(tmp_path / "data" / "keys.json").create("judges")
    assert page.send("GET", "/").status_code == 200
    assert page.send("GET", "/api/state", params={"rater": "Ana"}).status_code == 401
    assert page.export().status_code == 401
    page.headers["authorization"] = f"Bearer {secret}"
    assert page.state()["num_items"] == NUM_PAIRS
