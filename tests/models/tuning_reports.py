"""Reports of `mynah tune report`, as far as the gate reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.registry_entries import Entry


def write_report(
    path: Path,
    entry: Entry,
    *,
    base: Mapping[str, str] | None = None,
    difference: Mapping[str, object] | None = None,
    **changes: object,
) -> Path:
    """A report of `entry` that opens the gate, but for the `changes`."""
    report: dict[str, Any] = {
        "schema": 1,
        "model": {"name": entry.name, "sha256": entry.sha256},
        "base": base,
        "factuality": {"num_questions": 200},
        "style_and_knowledge": {"verdict": "style gained, knowledge unchanged"},
        "gate": {
            "grounded_em_difference": difference,
            "has_factuality": True,
            "has_style_report": True,
        },
    }
    path.write_text(json.dumps({**report, **changes}))
    return path


def difference(low: float, high: float, num_questions: int = 200) -> dict[str, object]:
    """How grounded exact match differs from the base's: an interval."""
    mean = (low + high) / 2
    return {"low": low, "high": high, "mean": mean, "num_questions": num_questions}
