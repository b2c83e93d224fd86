"""Two measurements of the same questions, figure by figure, with a verdict on each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from models.imitation.errors import RunDamaged, TrainingDataInvalid
from models.imitation.statistics import Interval
from server.evaluation.conditions import CONDITIONS
from server.evaluation.measuring.estimates import by_id, measure, measure_difference
from server.evaluation.measuring.metrics import (
    ANSWER_METRICS,
    LATENCY_METRICS,
    RETRIEVAL_METRICS,
    Metric,
)
from server.evaluation.measuring.retrieval import RetrievalRow
from server.evaluation.measuring.thresholds import GROUPS
from server.evaluation.outcomes import Outcome

SCHEMA = 1
Verdict = Literal["better", "worse", "no difference shown"]
Rows = dict[str, Any]


def read_report(path: Path) -> dict[str, Any]:
    """The JSON that an earlier `mynah eval` wrote. Raises `TrainingDataInvalid`."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingDataInvalid(f"cannot read {path}: {error}.", param="compare") from None
    if not isinstance(report, dict) or "conditions" not in report or "retrieval" not in report:
        raise TrainingDataInvalid(f"{path} is no eval.json of `mynah eval`.", param="compare")
    if report.get("schema") != SCHEMA:
        raise TrainingDataInvalid(
            f"{path} was written by another version of `mynah eval`; measure again.",
            param="compare",
        )
    return report


def compare_reports(this: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Every figure of `this` less that of `other`, over the questions that both asked.

    Questions count as the same if id, text and answers are equal. Raises `TrainingDataInvalid`
    if there are none, `RunDamaged` if a file's rows were changed.
    """
    mine, theirs = _list_questions(this), _list_questions(other)
    common = {id_ for id_ in mine if theirs.get(id_) == mine[id_]}
    if not common:
        raise TrainingDataInvalid(
            "the two measurements have no question in common.", param="compare"
        )
    sections: list[dict[str, Any]] = []
    for name, title, metrics in _list_sections():
        a, b = (
            {id_: row for id_, row in read_rows(report, name).items() if id_ in common}
            for report in (this, other)
        )
        rows = [row for metric in metrics if (row := _compare(metric, a, b)) is not None]
        if rows:
            sections.append({"name": name, "title": title, "rows": rows})
    # How long it took depends on what else the machine did.
    changes = [
        row["verdict"]
        for section in sections
        for row in section["rows"]
        if row["group"] != "latency"
    ]
    return {
        "other": {key: other[key] for key in ("model", "mode", "measured_at")},
        "num_common": len(common),
        "num_left_out": len(set(mine) | set(theirs)) - len(common),
        "num_better": changes.count("better"),
        "num_worse": changes.count("worse"),
        "sections": sections,
    }


def judge(interval: Interval, *, is_less_better: bool) -> Verdict:
    """By the interval of a difference: it has to lie on one side of 0 wholly."""
    if interval.low <= 0 <= interval.high:
        return "no difference shown"
    return "better" if (interval.low > 0) != is_less_better else "worse"


def read_rows(report: Mapping[str, Any], section: str) -> Rows:
    """Question id to what a report keeps of it: of a condition, or of a group's retrieval.

    Raises `RunDamaged`.
    """
    group = section.removeprefix("retrieval.")
    if group == section:
        found = report["conditions"].get(section, {}).get("outcomes", [])
        return by_id([Outcome.from_json(row) for row in found])
    rows = [RetrievalRow.from_json(row) for row in report["retrieval"]["rows"]]
    return by_id(select_group(rows, group))


def select_group(rows: Sequence[RetrievalRow], group: str) -> list[RetrievalRow]:
    """The rows of a group: all, stand_alone or follow_up."""
    return [row for row in rows if group == "all" or row.is_follow_up == (group == "follow_up")]


def _list_sections() -> list[tuple[str, str, tuple[Metric, ...]]]:
    return [
        *(
            (f"retrieval.{name}", f"Retrieval, {title} questions", RETRIEVAL_METRICS)
            for name, title in GROUPS.items()
        ),
        *(
            (c.name, f"Answers, {c.title}", ANSWER_METRICS + LATENCY_METRICS)
            for c in sorted(CONDITIONS, key=lambda c: c.name != "retrieved")
        ),
    ]


def _list_questions(report: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {row["id"]: {**row, "kind": None} for row in report["questions"]}
    except (KeyError, TypeError):
        raise RunDamaged("a report's list of questions was changed.") from None


def _compare(metric: Metric, a: Rows, b: Rows) -> dict[str, Any] | None:
    difference = measure_difference(metric, a, b)
    if difference is None:
        return None
    both = [id_ for id_ in a if id_ in b]
    this, other = (measure(metric, [rows[id_] for id_ in both]) for rows in (a, b))
    if this is None or other is None:
        return None
    verdict = judge(difference.interval, is_less_better=metric.is_less_better)
    return {
        "metric": metric.name,
        "title": metric.title,
        "group": metric.group,
        "this": this.to_json(),
        "other": other.to_json(),
        "difference": difference.to_json(),
        "verdict": verdict,
    }
