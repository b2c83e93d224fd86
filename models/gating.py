"""Whether a tuned model may become the default: what its report must hold and say.

The report is written by `mynah tune report`: an object with `schema`, `model` and `base` (name and
sha256; `base` null for a model from scratch), `factuality`, `style_and_knowledge` and `gate`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from models.imitation.errors import GateRefused
from models.registry_entries import Entry

SCHEMA = 1


def read_report(path: Path, entry: Entry) -> Mapping[str, Any]:
    """The report in `path`. Raises `GateRefused` unless it is one of the very file of `entry`."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GateRefused(
            f"cannot read the report {path}: {error.strerror or error}; {_advice(entry)}."
        ) from error
    except ValueError as error:
        raise GateRefused(f"{path} is not JSON: {error}; {_advice(entry)}.") from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise GateRefused(f"{path} is no report of schema {SCHEMA}; {_advice(entry)}.")
    model = report.get("model")
    if not isinstance(model, dict) or model.get("sha256") != entry.sha256:
        raise GateRefused(
            f"the report {path} is of another file than the model {entry.name}; {_advice(entry)}."
        )
    return report


def check_gate(entry: Entry) -> None:
    """Raise `GateRefused` if `entry` is tuned and its report is missing or speaks against it."""
    if not entry.is_tuned:
        return
    if entry.report is None:
        raise GateRefused(
            f"{entry.name} is a tuned model without a report and cannot become the default;"
            f" {_advice(entry)}."
        )
    report = read_report(entry.report, entry)
    gate = report.get("gate")
    if not isinstance(gate, dict):
        raise GateRefused(f"the report of {entry.name} lacks `gate`; {_advice(entry)}.")
    for flag, part, what in (
        ("has_factuality", "factuality", "factuality"),
        ("has_style_report", "style_and_knowledge", "style and knowledge"),
    ):
        if gate.get(flag) is not True or not report.get(part):
            raise GateRefused(
                f"the report of {entry.name} lacks its part on {what}; {_advice(entry)}."
            )
    _check_difference(entry, report, gate)


def summarize_gate(entry: Entry) -> str:
    """The state of the report in a word: `-`, `attached`, `needed`, `passed` or `refused`."""
    if not entry.is_tuned:
        return "attached" if entry.report else "-"
    if entry.report is None:
        return "needed"
    try:
        check_gate(entry)
    except GateRefused:
        return "refused"
    return "passed"


def _check_difference(entry: Entry, report: Mapping[str, Any], gate: Mapping[str, Any]) -> None:
    """Grounded exact match of the model less its base's: the interval must not lie below 0."""
    base = report.get("base")
    if base is None:
        if entry.origin == "tuned" and entry.base is not None:
            raise GateRefused(
                f"the report of {entry.name} does not compare it with its base {entry.base};"
                f" {_advice(entry)}."
            )
        return
    difference = gate.get("grounded_em_difference")
    values = difference if isinstance(difference, dict) else {}
    low, high, mean = (values.get(key) for key in ("low", "high", "mean"))
    num_questions = values.get("num_questions")
    if (
        not (_is_number(low) and _is_number(high) and _is_number(mean))
        or not isinstance(num_questions, int)
        or num_questions < 1
    ):
        raise GateRefused(
            f"the report of {entry.name} does not say how its grounded exact match differs from"
            f" its base's; {_advice(entry)}."
        )
    if high < 0:
        name = base.get("name") if isinstance(base, dict) else base
        raise GateRefused(
            f"{entry.name} cannot become the default: its grounded exact match fell by"
            f" {-mean:.3f} below its base {name} (interval {low:.3f} to {high:.3f},"
            f" {num_questions} questions); tune again, then run"
            f" `mynah tune report --model {entry.name} ...`."
        )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _advice(entry: Entry) -> str:
    return f"run `mynah tune report --model {entry.name} ...` first"
