"""`mynah tune collect` as a command and as a process that is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from index.collection import Library
from ingest.pipeline import ingest
from server import cli
from server.config import load_settings
from tests.fakes import HashingEmbedder
from tests.models.imitation.collecting.runs import read
from tests.models.imitation.collecting.scripted_teacher import (
    Failure,
    ScriptedTeacher,
    running,
    say_anything,
)

ROOT = Path(__file__).parents[3]
NUM_KILLS = 4
KEY = "sk-secret-1234567890"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def teacher() -> Iterator[ScriptedTeacher]:
    with running(ScriptedTeacher(say_anything)) as teacher:
        yield teacher


@pytest.fixture
def collect(
    tmp_path: Path,
    teacher: ScriptedTeacher,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs the command against the teacher; exit code, output, errors."""
    for name in list(os.environ):
        if name.startswith("MYNAH_"):
            monkeypatch.delenv(name)

    def run(mode: str, out: Path, *arguments: str, accept: bool = True) -> tuple[int, str, str]:
        given = ["--data-dir", str(tmp_path / "data"), *make_arguments(mode, out, teacher.url)]
        code = cli.run([*given, *arguments, *(["--accept-teacher-terms"] if accept else [])])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def make_arguments(mode: str, out: Path, url: str) -> list[str]:
    return ["tune", "collect", mode, str(out), "--teacher", url, "--model", "teacher"]


def test_it_does_not_start_before_the_terms_are_accepted(
    collect: Run, teacher: ScriptedTeacher, tmp_path: Path
) -> None:
    code, out, err = collect("alpaca", tmp_path / "rows", accept=False)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "forbid to train models that compete" in err
    assert "--accept-teacher-terms" in err
    assert teacher.url.split("/")[2] in err
    assert teacher.bodies == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["alpaca", "self-instruct", "narrow"])
def test_rows_are_collected_from_the_seeds_that_come_with_mynah(
    mode: str, collect: Run, teacher: ScriptedTeacher, tmp_path: Path
) -> None:
    out = tmp_path / "rows.jsonl"
    code, said, err = collect(mode, out, "--num-rows", "12", "--license", "CC0-1.0")
    assert (code, err) == (0, "")
    num = len(teacher.bodies)
    assert said.startswith(f"Wrote 12 rows to {out}: {num} requests ({num} of them now), ")
    rows = read(out)
    assert len(rows) == 12
    assert {row.provenance["license"] for row in rows} == {"CC0-1.0"}
    # Once more: all is there, and nothing is asked.
    before = out.read_bytes()
    code, said, _ = collect(mode, out, "--num-rows", "12", "--license", "CC0-1.0", "--json")
    summary = json.loads(said)
    assert (code, summary["num_requests_now"], len(teacher.bodies)) == (0, 0, num)
    assert (summary["stopped_by"], summary["num_rows"], summary["out"]) == (
        "num_rows",
        12,
        str(out),
    )
    assert out.read_bytes() == before


def test_a_budget_says_how_to_go_on(collect: Run, teacher: ScriptedTeacher, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    collect("alpaca", whole, "--num-rows", "30")
    code, said, _ = collect("alpaca", parts, "--num-rows", "30", "--max-requests", "2")
    assert code == 0
    assert "Stopped at --max-requests; raise it" in said
    assert len(read(parts)) == 8
    code, said, _ = collect("alpaca", parts, "--num-rows", "30", "--max-tokens", "5000")
    assert code == 0
    assert "--max-tokens" in said
    collect("alpaca", parts, "--num-rows", "30")
    assert parts.read_bytes() == whole.read_bytes()


def test_the_key_is_sent_and_written_nowhere(
    collect: Run, teacher: ScriptedTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYNAH_TEACHER_API_KEY", KEY)
    _, out, err = collect("narrow", tmp_path / "rows", "--num-rows", "3")
    assert set(teacher.keys) == {f"Bearer {KEY}"}
    refusal: Failure = (401, {}, {"error": {"message": f"{KEY} is unknown"}})
    teacher.fail_next(refusal)
    code, more, told = collect("narrow", tmp_path / "rows", "--num-rows", "30")
    assert code == 1
    assert told.endswith(
        f"answers 401 (*** is unknown). What is there stands in {tmp_path / 'rows'};"
        " the same command goes on.\n"
    )
    written = [path.read_text() for path in tmp_path.iterdir() if path.is_file()]
    assert len(written) == 2
    assert KEY not in "".join([out, err, more, told, *written])


def test_the_key_is_no_setting_and_no_mistake() -> None:
    load_settings(environment={"MYNAH_TEACHER_API_KEY": KEY})


def test_a_teacher_without_use_is_told(
    collect: Run, tmp_path: Path, teacher: ScriptedTeacher
) -> None:
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text("".join(f'{{"instruction": "ask {n}", "output": "o"}}\n' for n in range(5)))
    with running(ScriptedTeacher(lambda body: "No.")) as other:
        code, out, err = collect(
            "narrow", tmp_path / "rows", "--seeds", str(seeds), "--teacher", other.url
        )
    assert code == 1
    assert out.startswith("Wrote 0 rows")
    assert "Left out: 64 unreadable." in out
    assert "of no use" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["alpaca", "--unanswerable", "0.5"], 2, "the mode alpaca does not use it"),
        (["self-instruct", "--task", "x"], 2, "does not use it"),
        (["narrow", "--collection", "x"], 2, "does not use it"),
        (["grounded", "--description", "x"], 2, "does not use it"),
        (["grounded", "--unanswerable", "1.5"], 2, "--unanswerable"),
        (["alpaca", "--num-rows", "0"], 2, "--num-rows"),
        (["guess"], 2, "guess"),
        (["alpaca", "--teacher", "nowhere"], 1, "is no address of an endpoint"),
        (["alpaca", "--seeds", "/nonexistent"], 1, "there is no file of seeds"),
        (["narrow", "--task", "x"], 1, "no task 'x'; there are: grounded"),
        (["grounded"], 1, "there are no documents to ask about"),
        (["grounded", "--collection", "hr"], 1, "There is no collection 'hr'"),
    ],
)
def test_a_mistake_is_one_line_and_costs_nothing(
    arguments: list[str],
    code: int,
    message: str,
    collect: Run,
    teacher: ScriptedTeacher,
    tmp_path: Path,
) -> None:
    mode, *options = arguments
    result, out, err = collect(mode, tmp_path / "rows", *options)
    assert (result, out) == (code, "")
    assert err.count("\n") == 1
    assert message in err
    assert teacher.bodies == []
    assert not (tmp_path / "rows").exists()


# Processes


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of the hashing embedder."""
    folder = tmp_path_factory.mktemp("docs")
    for number in range(8):
        (folder / f"{number}.md").write_text(
            f"# Desk {number}\n\nWhoever writes to desk {number} about form {number}00 gets an"
            f" answer within {number + 2} days, signed by the head of that desk.\n"
        )
    data_dir = tmp_path_factory.mktemp("data")
    embedder = HashingEmbedder()
    with Library(data_dir, embedder) as library:
        ingest([folder], "docs", library, embedder)
    return data_dir


def start(
    mode: str, out: Path, url: str, data_dir: Path, num_rows: int = 40
) -> subprocess.Popen[str]:
    if mode == "grounded":
        given = ["-m", "tests.server.tune.collect_driver", str(data_dir), str(out), url]
        given.append(str(num_rows))
    else:
        given = ["-m", "server.cli", *make_arguments(mode, out, url), "--accept-teacher-terms"]
        given += ["--num-rows", str(num_rows)]
    environment = {
        **os.environ,
        # Every address but loopback is refused, and noted.
        "PYTHONPATH": f"{ROOT / 'tests' / 'offline'}:{ROOT}",
        "REFUSALS_FILE": str(out.with_name("refusals")),
    }
    return subprocess.Popen(
        [sys.executable, *given],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for_requests(
    process: subprocess.Popen[str], teacher: ScriptedTeacher, number: int
) -> bool:
    """Whether the teacher has been asked so often before the process ended."""
    while process.poll() is None:
        if len(teacher.bodies) >= number:
            return True
        time.sleep(0.002)
    return False


@pytest.mark.parametrize("mode", ["alpaca", "self-instruct", "narrow", "grounded"])
def test_a_run_that_is_killed_again_and_again_leaves_the_same_bytes(
    mode: str, tmp_path: Path, data_dir: Path
) -> None:
    with running(ScriptedTeacher(say_anything, delay_s=0.03)) as teacher:
        undisturbed = start(mode, tmp_path / "whole", teacher.url, data_dir)
        _, err = undisturbed.communicate()
        assert (undisturbed.returncode, err) == (0, ""), err
        num_requests = len(teacher.bodies)
        teacher.bodies.clear()
        chance = random.Random(7)
        moments = sorted(chance.sample(range(1, num_requests), NUM_KILLS))
        num_killed = 0
        for moment in moments:
            process = start(mode, tmp_path / "rows", teacher.url, data_dir)
            # A little later than the request came, so that answers are cut at any place.
            if wait_for_requests(process, teacher, moment + num_killed):
                time.sleep(chance.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            num_killed += process.returncode == -signal.SIGKILL
            assert not (tmp_path / "rows").exists()
        assert num_killed == NUM_KILLS
        last = start(mode, tmp_path / "rows", teacher.url, data_dir)
        last.communicate()
        assert last.returncode == 0
        # Only what was under way at a kill is asked twice: at most four requests each time.
        assert len(teacher.bodies) <= num_requests + 4 * NUM_KILLS
    assert (tmp_path / "rows").read_bytes() == (tmp_path / "whole").read_bytes()
    assert len(read(tmp_path / "rows")) == 40
    assert not (tmp_path / "refusals").exists()


def test_an_interrupted_run_leaves_its_rows_and_says_so(tmp_path: Path, data_dir: Path) -> None:
    with running(ScriptedTeacher(say_anything, delay_s=0.05)) as teacher:
        # So many that it is not done before the signal comes.
        process = start("narrow", tmp_path / "rows", teacher.url, data_dir, num_rows=2000)
        assert wait_for_requests(process, teacher, 8)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == (
        f"mynah: stopped; what is there stands in {tmp_path / 'rows'}, the same command goes on\n"
    )
    assert len(read(tmp_path / "rows")) >= 4


@pytest.mark.slow
def test_the_command_asks_about_documents_that_were_ingested(
    collect: Run, teacher: ScriptedTeacher, tmp_path: Path
) -> None:
    """With the real embedder."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for topic, number in (("leave", 16), ("travel", 25), ("laptops", 3)):
        (folder / f"{topic}.md").write_text(
            f"# {topic.title()}\n\nFor {topic} the office plans {number} days, and whoever needs"
            " more asks the head of the department in writing.\n"
        )
    assert cli.run(["--data-dir", str(tmp_path / "data"), "ingest", str(folder)]) == 0
    out = tmp_path / "rows"
    code, said, _ = collect(
        "grounded", out, "--num-rows", "6", "--unanswerable", "0", "--num-passages", "2"
    )
    assert code == 0
    assert "Wrote 6 rows" in said
    for row in read(out):
        assert len(row.passages) == 2
        assert any(p["is_cited"] for p in row.provenance["passages"])
