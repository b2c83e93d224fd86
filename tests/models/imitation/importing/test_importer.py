from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.imitation.conversations import Conversation, Turn
from models.imitation.errors import TrainingDataInvalid
from models.imitation.importing.files import read_rows, write_lines
from models.imitation.importing.importer import ImportOptions, import_files
from models.imitation.importing.report import Drop, Malformed, Report

ALPACA = {"instruction": "Name a bird.", "input": "", "output": "A heron."}


def sharegpt(id_: str, question: str = "What is a heron?", answer: str = "A wading bird.") -> Any:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": id_, "conversations": turns}


def write(path: Path, *rows: object) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def run(*paths: Path, **options: Any) -> tuple[list[Conversation], Report]:
    report = Report()
    return list(import_files(paths, ImportOptions(**options), report)), report


def test_alpaca_rows_become_questions_with_their_input(tmp_path: Path) -> None:
    rows = [ALPACA, {**ALPACA, "instruction": "Translate.", "input": "heron", "output": "Reiher"}]
    empty = {**ALPACA, "output": " "}
    path = tmp_path / "alpaca.json"
    path.write_text(json.dumps([*rows, empty, {"instruction": 3, "output": "x"}]))
    found, report = run(path, license="CC-BY-NC-4.0", teacher="text-davinci-003")
    assert [conversation.turns for conversation in found] == [
        (Turn("user", "Name a bird."), Turn("assistant", "A heron.")),
        (Turn("user", "Translate.\n\nheron"), Turn("assistant", "Reiher")),
    ]
    assert found[1].provenance == {
        "source": "alpaca.json",
        "license": "CC-BY-NC-4.0",
        "teacher": "text-davinci-003",
        "format": "alpaca",
        "file": "alpaca.json",
        "item": 2,
    }
    assert report.dropped == {"empty turn": 1, "malformed": 1}
    assert str(report.malformed[0]) == ("alpaca.json, item 4: no texts `instruction` and `output`")


def test_what_the_row_says_of_itself_is_noted_and_the_user_has_the_last_word(
    tmp_path: Path,
) -> None:
    said = {"license": "MIT", "teacher": "gpt-4", "source": "expertqa", "use": 1}
    path = write(tmp_path / "x.jsonl", {**ALPACA, **said})
    ours = run(path)[0][0].provenance
    assert (ours["license"], ours["teacher"], ours["source"]) == ("MIT", "gpt-4", "expertqa")
    assert ours["row"] == said
    theirs = run(path, license="BSD", teacher="people", source="s")[0][0].provenance
    assert (theirs["license"], theirs["teacher"], theirs["source"]) == ("BSD", None, "s")
    silent = run(write(tmp_path / "y.jsonl", ALPACA))[0][0].provenance
    # None would mean that people wrote it.
    assert (silent["license"], silent["teacher"]) == ("unknown", "unknown")


def test_sharegpt_rows_are_dropped_when_short_or_shared_before(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.jsonl",
        sharegpt("a"),
        sharegpt("a", "Another question?"),
        sharegpt("b"),
        sharegpt("c", "Hm?", "Well."),
        sharegpt("d", "Who made ChatGPT?", "OpenAI did, in 2022."),
        sharegpt("e", "Is Lombardy in Italy?", "Yes, in the north."),
    )
    found, report = run(path)
    assert [conversation.id for conversation in found] == ["a", "d", "e"]
    assert report.dropped == {"duplicate id": 1, "duplicate": 1, "too short": 1}
    found, report = run(path, brand_words=("openai", "chatgpt", "bard"), min_chars=0)
    assert [conversation.id for conversation in found] == ["a", "c", "e"]
    assert report.dropped["brand word"] == 1


def test_malformed_lines_are_reported_by_number_and_fatal_when_strict(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    lines = [
        b"\xef\xbb\xbf" + json.dumps(ALPACA).encode(),
        b"",
        b'{"instruction": "cut of',
        b"[1]",
        b'{"instruction": "q", "output": "\xff"}',
        b"[" * 100_000,
        b'{"instruction": "q", "output": "\\ud83d"}',
        b'{"instruction": "q", "output": "a", "score": NaN}',
        b'{"instruction": "q", "output": 5}',
        b'{"instruction": "q2", "output": "fine"}',
    ]
    path.write_bytes(b"\n".join(lines))
    found, report = run(path)
    assert [conversation.turns[0].content for conversation in found] == ["Name a bird.", "q2"]
    assert [row.number for row in report.malformed] == [3, 4, 5, 6, 7, 8, 9]
    assert report.dropped == {"malformed": 7}
    assert report.to_json()["malformed"][1] == {
        "file": "x.jsonl",
        "line": 4,
        "error": "not a JSON object",
    }
    with pytest.raises(TrainingDataInvalid, match=r"x\.jsonl, line 3: not valid JSON"):
        run(path, is_strict=True)


@pytest.mark.parametrize("opener", [lzma.open, gzip.open])
def test_packed_files_are_read(tmp_path: Path, opener: Callable[..., Any]) -> None:
    path = tmp_path / f"x.jsonl.{'xz' if opener is lzma.open else 'gz'}"
    with opener(path, "wt") as file:
        file.write(json.dumps(ALPACA))
    assert run(path)[1].num_kept == 1
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(TrainingDataInvalid, match="cannot be read"):
        run(path)


def test_files_that_are_no_training_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataInvalid, match="--format"):
        run(write(tmp_path / "x.jsonl", {"text": "?"}))
    with pytest.raises(TrainingDataInvalid, match="not valid JSON"):
        run(write(tmp_path / "x.json", "[1,"))


row_values = st.one_of(
    st.builds(
        sharegpt,
        st.sampled_from("ab"),
        st.sampled_from(["What is a heron?", "And a mynah, then?", ""]),
        st.sampled_from(["A wading bird of the shore.", "Ask OpenAI.", "x " * 60]),
    ),
    st.just({"conversations": 3}),
    st.just(7),
)


@given(st.lists(row_values, max_size=8), st.sampled_from([None, 20, 60]))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
def test_every_row_is_kept_or_dropped_for_a_reason_and_bytes_repeat(
    tmp_path: Path, rows: list[Any], max_tokens: int | None
) -> None:
    path = write(tmp_path / "x.jsonl", *rows)
    dropped: list[str] = []

    def on_drop(drop: Drop, file: str, number: int, row: Mapping[str, Any] | None) -> None:
        assert file == "x.jsonl"
        assert row in (None, rows[number - 1])
        dropped.append(drop.reason)

    def check_law(report: Report) -> None:
        assert report.num_read == report.num_kept + report.dropped.total()

    options = ImportOptions(
        format="sharegpt", max_tokens=max_tokens, oversized="drop", brand_words=("openai",)
    )
    report = Report()
    found = list(import_files([path], options, report, on_drop, check_law))
    assert report.num_read == len(rows)
    assert report.num_written == len(found) >= report.num_kept
    assert sorted(dropped) == sorted(report.dropped.elements())
    exchanges = sum(t.role == "user" for c in found for t in c.turns)
    if max_tokens is not None:
        counts = report.changed
        assert exchanges + counts["exchanges dropped"] == counts["exchanges"]
    again = list(import_files([path], options, Report()))
    assert [json.dumps(c.to_json()) for c in again] == [json.dumps(c.to_json()) for c in found]


def test_rows_of_an_array_are_numbered_as_items(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([ALPACA, None], indent=2))
    first, second = read_rows(path)
    assert not isinstance(first, Malformed)
    assert (first.unit, first.number) == ("item", 1)
    assert str(second) == "x.json, item 2: not a JSON object"


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("old")

    def fail_halfway() -> None:
        with write_lines(path) as write_line:
            write_line({"a": "é"})
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with write_lines(path) as write_line:
        write_line({"a": "é"})
    assert path.read_bytes() == '{"a": "é"}\n'.encode()
    missing = write_lines(tmp_path / "none" / "x")
    with pytest.raises(TrainingDataInvalid, match="cannot be written"), missing:
        pass
