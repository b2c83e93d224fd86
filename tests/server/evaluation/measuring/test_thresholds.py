"""Limits for CI: how they are written, and when they are kept."""

from __future__ import annotations

from typing import Any

import pytest

from models.imitation.errors import TrainingDataInvalid
from server.evaluation.measuring.thresholds import read_thresholds

REPORT: dict[str, Any] = {
    "retrieval": {
        "groups": {
            "all": {"figures": {"recall@5": {"mean": 0.9, "low": 0.8, "high": 1.0}}},
            "follow_up": {"figures": {"mrr": {"mean": 0.5, "low": 0.3, "high": 0.7}}},
        }
    },
    "conditions": {
        "retrieved": {"figures": {"containment": {"mean": 0.6, "low": 0.5, "high": 0.7}}},
        "gold": {"figures": {"containment": {"mean": 0.8, "low": 0.7, "high": 0.9}}},
    },
}


@pytest.mark.parametrize(
    ("text", "is_upper", "is_kept"),
    [
        ("recall@5=0.9", False, True),
        ("recall@5=0.91", False, False),
        ("all.recall@5=0.9", False, True),
        ("follow_up.mrr = .4", False, True),
        ("containment=0.7", False, False),
        ("gold.containment=0.7", False, True),
        ("containment=0.6", True, True),
        ("containment=0.59", True, False),
        ("f1=0", False, False),
        ("closed_book.f1=1", True, False),
    ],
)
def test_a_limit_is_kept_by_the_figure_alone(text: str, is_upper: bool, is_kept: bool) -> None:
    (threshold,) = read_thresholds(text, is_upper=is_upper)
    row = threshold.check(REPORT)
    assert row["is_kept"] is is_kept
    assert row["kind"] == ("at most" if is_upper else "at least")


def test_a_figure_that_was_not_measured_keeps_no_limit() -> None:
    rows = [threshold.check(REPORT) for threshold in read_thresholds("mrr=0, f1=0,")]
    assert [(row["name"], row["found"], row["is_kept"]) for row in rows] == [
        ("mrr", None, False),
        ("f1", None, False),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("recall@5", "FIGURE=NUMBER"),
        ("recall@5=much", "FIGURE=NUMBER"),
        ("recall@5=nan", "FIGURE=NUMBER"),
        ("recal@5=0.9", "did you mean recall@5"),
        ("zzz=1", "there are recall@1"),
        ("gold.mrr=1", "no section 'gold'"),
        ("follow_up.f1=1", "use closed_book, gold"),
    ],
)
def test_what_is_wrong_with_a_limit_is_said(text: str, said: str) -> None:
    with pytest.raises(TrainingDataInvalid, match=said):
        read_thresholds(text)


def test_names_are_written_as_they_are_read() -> None:
    text = "recall@5=1,follow_up.mrr=1,gold.f1=1,f1=1"
    names = [threshold.name for threshold in read_thresholds(text)]
    assert names == ["recall@5", "follow_up.mrr", "gold.f1", "f1"]
