"""Resume, budgets and provenance, for any mode."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.imitation.collecting.alpaca import AlpacaMode
from models.imitation.collecting.collector import MAX_FRUITLESS_REQUESTS
from models.imitation.collecting.narrow import NarrowMode
from models.imitation.collecting.self_instruct import SelfInstructMode
from models.imitation.collecting.types import Mode, Progress
from models.imitation.errors import RunDamaged, TeacherFailed
from tests.models.imitation.collecting.runs import collect, make_seeds, read
from tests.models.imitation.collecting.scripted_teacher import (
    CREATED_S,
    ScriptedTeacher,
    prompt_of,
    running,
    say_anything,
)

SEEDS = make_seeds(30)
MODES: dict[str, Callable[[], Mode]] = {
    "alpaca": lambda: AlpacaMode(SEEDS, 1),
    "self-instruct": lambda: SelfInstructMode(SEEDS, 1),
    "narrow": lambda: NarrowMode(SEEDS, 1),
}
every_mode = pytest.mark.parametrize("name", MODES)


@every_mode
def test_rows_do_not_depend_on_concurrency_or_speed(name: str, tmp_path: Path) -> None:
    written = []
    for concurrency, delay_s in ((1, 0.0), (3, 0.02), (16, 0.02)):
        out = tmp_path / f"{concurrency}"
        with running(ScriptedTeacher(say_anything, delay_s=delay_s)) as teacher:
            summary = collect(teacher, MODES[name](), out, num_rows=25, concurrency=concurrency)
            assert summary.num_requests == len(teacher.bodies)
        # The port is part of the provenance.
        written.append(out.read_text().replace(teacher.url.split("/")[2], "HOST"))
    assert written[0] == written[1] == written[2]


def read_replies(out: Path) -> dict[int, dict[str, Any]]:
    """The answers of the journal beside `out`, by the number of their request."""
    lines = out.with_name(f"{out.name}.journal").read_text().splitlines()[1:]
    return {line["number"]: line["reply"] for line in map(json.loads, lines)}


@every_mode
def test_every_row_tells_where_it_comes_from(name: str, tmp_path: Path) -> None:
    with running(ScriptedTeacher(say_anything)) as teacher:
        collect(teacher, MODES[name](), tmp_path / "rows", num_rows=25)
    answers = read_replies(tmp_path / "rows")
    rows = read(tmp_path / "rows")
    assert len({row.id for row in rows}) == len(rows) == 25
    for row in rows:
        said = row.provenance
        answer = answers[said["requests"][-1]]
        assert said["source"] == f"collect/{name}"
        assert said["mode"] == name
        assert said["prompt_version"] == f"{name}/1"
        assert said["license"] == "CC0-1.0"
        assert said["teacher"] == "teacher-2"
        assert said["endpoint"] == teacher.url.split("/")[2]
        assert said["time_s"] == answer["time_s"] >= CREATED_S
        assert said["usage"] == {
            "prompt_tokens": answer["num_prompt_tokens"],
            "completion_tokens": answer["num_completion_tokens"],
        }
        assert row.turns[-1].content in answer["text"]
        shown = "\n".join(
            prompt_of(body)
            for body in teacher.bodies
            if f" number{said['seed_ids'][0][1:]} " in prompt_of(body) or name == "self-instruct"
        )
        for seed_id in said["seed_ids"]:
            assert seed_id.startswith("machine-") or f"number{seed_id[1:]} " in shown


def make_whole(tmp_path: Path, name: str) -> tuple[bytes, bytes]:
    """Rows and journal of an undisturbed run."""
    out = tmp_path / "whole"
    with running(ScriptedTeacher(say_anything)) as teacher:
        collect(teacher, MODES[name](), out, num_rows=20)
    return out.read_bytes(), (tmp_path / "whole.journal").read_bytes()


@every_mode
def test_a_journal_cut_anywhere_leads_to_the_same_rows(name: str, tmp_path: Path) -> None:
    cut_run = tmp_path / "cut"
    with running(ScriptedTeacher(say_anything)) as teacher:

        def run() -> None:
            collect(teacher, MODES[name](), cut_run, num_rows=20)

        run()
        rows = cut_run.read_bytes()
        journal = tmp_path / "cut.journal"
        whole = journal.read_bytes()
        chance = random.Random(5)
        places = [0, 1, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(6))]
        for place in places:
            journal.write_bytes(whole[:place])
            cut_run.unlink()
            num_lost = whole.count(b"\n") - max(whole[:place].count(b"\n"), 1)
            before = len(teacher.bodies)
            run()
            assert cut_run.read_bytes() == rows
            # What was answered before is not paid for again.
            assert len(teacher.bodies) - before == num_lost


@every_mode
def test_answers_in_any_order_lead_to_the_same_rows(name: str, tmp_path: Path) -> None:
    rows, journal = make_whole(tmp_path, name)
    head, *lines = journal.splitlines(keepends=True)
    out = tmp_path / "other"
    with running(ScriptedTeacher(say_anything)) as teacher:
        # All is in the journal: the teacher is not asked, and what is not there could not answer.
        (tmp_path / "other.journal").write_bytes(head + b"".join(reversed(lines)))
        collect(teacher, MODES[name](), out, num_rows=20)
        assert teacher.bodies == []
    assert out.read_bytes() == rows


@every_mode
@settings(max_examples=5, deadline=None)
@given(limits=st.lists(st.integers(1, 40), min_size=1, max_size=3).map(sorted))
def test_a_budget_that_is_raised_leads_to_the_same_rows(name: str, limits: list[int]) -> None:
    with running(ScriptedTeacher(say_anything)) as teacher, TemporaryDirectory() as folder:
        whole, parts = Path(folder) / "whole", Path(folder) / "parts"
        collect(teacher, MODES[name](), whole, num_rows=20)
        teacher.bodies.clear()
        for limit in limits:
            summary = collect(teacher, MODES[name](), parts, num_rows=20, max_requests=limit)
            assert summary.num_requests == len(teacher.bodies) <= limit
            assert summary.stopped_by == ("num_rows" if summary.num_rows == 20 else "max_requests")
            assert summary.num_rows == len(read(parts))
        collect(teacher, MODES[name](), parts, num_rows=20)
        assert parts.read_bytes() == whole.read_bytes()


@every_mode
@pytest.mark.parametrize("max_tokens", [1, 9_000])
def test_a_budget_of_tokens_is_never_passed(name: str, max_tokens: int, tmp_path: Path) -> None:
    written = []
    for concurrency in (1, 8):
        out = tmp_path / f"{concurrency}"
        with running(ScriptedTeacher(say_anything, delay_s=0.01)) as teacher:
            summary = collect(
                teacher,
                MODES[name](),
                out,
                num_rows=10**6,
                max_tokens=max_tokens,
                concurrency=concurrency,
            )
        assert summary.stopped_by == "max_tokens"
        assert summary.num_tokens <= max_tokens
        replies = read_replies(out).values()
        assert summary.num_tokens == sum(
            reply["num_prompt_tokens"] + reply["num_completion_tokens"] for reply in replies
        )
        written.append(out.read_text().replace(teacher.url.split("/")[2], "HOST"))
    assert written[0] == written[1]
    assert (max_tokens > 1) == bool(teacher.bodies)


def test_answers_without_usage_count_as_much_as_they_can_cost(tmp_path: Path) -> None:
    with running(ScriptedTeacher(say_anything, usage=False)) as teacher:
        summary = collect(
            teacher, MODES["alpaca"](), tmp_path / "rows", num_rows=10**6, max_tokens=30_000
        )
    most = [len(prompt_of(b).encode()) + b["max_tokens"] + 16 for b in teacher.bodies]
    assert summary.num_tokens == sum(most) <= 30_000
    usage = read(tmp_path / "rows")[0].provenance["usage"]
    assert usage == {"prompt_tokens": None, "completion_tokens": None}


def test_a_teacher_that_never_helps_is_left_in_peace(tmp_path: Path) -> None:
    with running(ScriptedTeacher(lambda body: "I would rather not.")) as teacher:
        summary = collect(teacher, MODES["narrow"](), tmp_path / "rows", num_rows=5)
    assert summary.stopped_by == "fruitless"
    assert summary.num_requests == len(teacher.bodies) == MAX_FRUITLESS_REQUESTS
    assert summary.dropped == {"unreadable": MAX_FRUITLESS_REQUESTS}
    assert read(tmp_path / "rows") == []


def test_a_failing_teacher_leaves_what_was_collected(tmp_path: Path) -> None:
    num_asked = 0

    def say(body: Mapping[str, Any]) -> str:
        nonlocal num_asked
        num_asked += 1
        return say_anything(body)

    teacher = ScriptedTeacher(say)
    out = tmp_path / "rows"
    with running(teacher):
        collect(teacher, MODES["narrow"](), out, num_rows=20)
        whole = out.read_bytes()
        out.unlink()
        (tmp_path / "rows.journal").unlink()
        collect(teacher, MODES["narrow"](), out, num_rows=8)
        first = num_asked
        for _ in range(4):
            teacher.fail_next((500, {}, {}))
        with pytest.raises(TeacherFailed, match="500"):
            collect(teacher, MODES["narrow"](), out, num_rows=20, concurrency=1)
        assert len(read(out)) == 8
        assert num_asked == first
        collect(teacher, MODES["narrow"](), out, num_rows=20)
    assert out.read_bytes() == whole


def test_progress_counts_up_to_the_end(tmp_path: Path) -> None:
    shown: list[Progress] = []
    with running(ScriptedTeacher(say_anything)) as teacher:
        summary = collect(teacher, MODES["narrow"](), tmp_path / "r", num_rows=30, shown=shown)
    assert [p.num_requests for p in shown[:-1]] == list(range(1, len(teacher.bodies) + 1))
    assert [p.num_rows for p in shown] == sorted(p.num_rows for p in shown)
    assert (shown[-1].num_rows, shown[-1].num_tokens) == (30, summary.num_tokens)


def test_a_run_goes_on_only_as_it_was_begun(tmp_path: Path) -> None:
    out = tmp_path / "rows"
    with running(ScriptedTeacher(say_anything)) as teacher:
        collect(teacher, AlpacaMode(SEEDS, 1), out)
        before = out.read_bytes()
        for mode, named in (
            (AlpacaMode(SEEDS, 2), "another seed (1, now 2)"),
            (AlpacaMode(make_seeds(5), 1), "another seeds"),
            (NarrowMode(SEEDS, 1), "another mode"),
        ):
            with pytest.raises(RunDamaged) as refused:
                collect(teacher, mode, out)
            assert named in refused.value.message
        assert out.read_bytes() == before


def test_a_file_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "rows"
    out.write_text("precious")
    with running(ScriptedTeacher(say_anything)) as teacher, pytest.raises(RunDamaged):
        collect(teacher, MODES["alpaca"](), out)
    assert out.read_text() == "precious"
    assert not (tmp_path / "rows.journal").exists()


@pytest.mark.parametrize("line", [b"{}\n", b"nothing\n", b"[1]\n", b'{"number": 0, "reply": 1}\n'])
def test_a_damaged_journal_is_told(line: bytes, tmp_path: Path) -> None:
    with running(ScriptedTeacher(say_anything)) as teacher:
        collect(teacher, MODES["alpaca"](), tmp_path / "rows")
        journal = tmp_path / "rows.journal"
        head, rest = journal.read_bytes().split(b"\n", 1)
        journal.write_bytes(head + b"\n" + line + rest)
        with pytest.raises(RunDamaged, match="damaged"):
            collect(teacher, MODES["alpaca"](), tmp_path / "rows")


def test_an_answer_to_another_request_is_not_taken(tmp_path: Path) -> None:
    with running(ScriptedTeacher(say_anything)) as teacher:
        collect(teacher, MODES["alpaca"](), tmp_path / "rows")
        journal = tmp_path / "rows.journal"
        swapped = journal.read_text().replace('"number": 0', '"number": X')
        swapped = swapped.replace('"number": 1,', '"number": 0,').replace("X", "1")
        journal.write_text(swapped)
        with pytest.raises(RunDamaged, match="another request"):
            collect(teacher, MODES["alpaca"](), tmp_path / "rows")


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    from models.imitation.collecting.journal import Journal

    with Journal(tmp_path / "rows", {"a": 1}), pytest.raises(RunDamaged, match="another process"):
        Journal(tmp_path / "rows", {"a": 1})
    Journal(tmp_path / "rows", {"a": 1}).close()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with running(ScriptedTeacher(say_anything)) as teacher, pytest.raises(RunDamaged):
        collect(teacher, MODES["alpaca"](), tmp_path / "none" / "rows")
