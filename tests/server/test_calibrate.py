"""`mynah calibrate`: labelled questions to a threshold that the next start uses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from server.assembly import grounding_rules
from server.config import load_settings
from server.grounding.calibration import load_calibration
from tests.server.tune.tiny_runs import mynah

PLACES = ("harbour", "museum", "library", "bakery", "school", "clinic", "station", "garden")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A folder of documents, and questions on what stands in them and on what does not."""
    docs = tmp_path / "docs"
    docs.mkdir()
    rows: list[dict[str, object]] = []
    for number, place in enumerate(PLACES):
        text = f"# The {place}\n\nThe {place} opens at {number + 5} o'clock. Dogs are welcome.\n"
        (docs / f"{place}.md").write_text(text)
        asked = {
            f"When does the {place} open?": [f"{number + 5} o'clock"],
            f"Which violinist won the Helsinki competition in {1950 + number}?": [],
        }
        for question, answers in asked.items():
            rows.append({"id": f"q{len(rows)}", "question": question, "answers": answers})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "questions.jsonl").write_text(lines)
    return tmp_path


def test_a_calibration_is_used_by_the_model_that_it_was_made_with(
    house: Path, tiny_gguf: Path
) -> None:
    data = house / "data"
    questions, docs = house / "questions.jsonl", house / "docs"
    command = ("calibrate", questions, "--docs", docs, "--model", tiny_gguf, "--max-false", 0.125)
    code, out, err = mynah(data, *command, "--dry-run")
    assert code == 0, err
    assert "16 questions, threshold:" in out
    assert load_calibration(data) is None
    code, out, err = mynah(data, *command, "--json")
    assert code == 0, err
    kept = load_calibration(data)
    assert kept is not None
    assert json.loads(out)["abstention"]["min_evidence"] == kept.abstention.min_evidence
    # Violinists are far from harbours.
    assert kept.refusals.unanswerable == 1.0
    assert kept.refusals.answerable <= 0.125
    settings = load_settings(model=tiny_gguf, data_dir=data)
    assert grounding_rules(settings, None).abstention == kept.abstention
    other = house / "other.gguf"
    other.write_bytes(tiny_gguf.read_bytes() + b"\0")
    others = load_settings(model=other, data_dir=data)
    assert grounding_rules(others, None).abstention is None


def test_too_few_labels_and_damage_are_told_in_a_line(house: Path, tiny_gguf: Path) -> None:
    questions = house / "questions.jsonl"
    few = questions.read_text().splitlines()[:6]
    questions.write_text("\n".join(few))
    command = ("calibrate", questions, "--docs", house / "docs", "--model", tiny_gguf)
    code, out, err = mynah(house / "data", *command)
    assert (code, out) == (1, "")
    assert "at least 8 of each are needed" in err
    (house / "data").mkdir(exist_ok=True)
    (house / "data" / "calibration.json").write_text("{")
    code, _, err = mynah(house / "data", *command)
    assert code == 1
    assert "mynah calibrate" in err
