"""Limits that a measurement must keep, `recall@5=0.9,gold.containment=0.8`, for CI."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.imitation.errors import TrainingDataInvalid
from server.evaluation.conditions import CONDITIONS
from server.evaluation.measuring.metrics import METRICS

GROUPS = {"all": "all", "stand_alone": "stand-alone", "follow_up": "follow-up"}
_DEFAULT_CONDITION = "retrieved"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A bound of one figure: of a group of questions (retrieval) or a condition (answers)."""

    section: str
    metric: str
    bound: float
    is_upper: bool = False

    @property
    def name(self) -> str:
        """As it is written: the section only where it is not the usual one."""
        usual = "all" if METRICS[self.metric].group == "retrieval" else _DEFAULT_CONDITION
        return self.metric if self.section == usual else f"{self.section}.{self.metric}"

    def check(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """The bound, the figure (None if it was not measured) and whether the bound is kept.

        The figure itself counts, not its interval; one that was not measured keeps no bound.
        """
        figure = find_figure(report, self.section, self.metric)
        found = None if figure is None else figure["mean"]
        is_kept = found is not None and (
            found <= self.bound if self.is_upper else found >= self.bound
        )
        return {
            "name": self.name,
            "kind": "at most" if self.is_upper else "at least",
            "bound": self.bound,
            "found": found,
            "is_kept": is_kept,
        }


def read_thresholds(text: str, *, is_upper: bool = False) -> list[Threshold]:
    """The bounds of a list such as `recall@5=0.9,false_abstention=0.1`.

    Raises `TrainingDataInvalid` naming what is no figure, no section or no number.
    """
    return [_read_one(part.strip(), is_upper) for part in text.split(",") if part.strip()]


def _read_one(part: str, is_upper: bool) -> Threshold:
    name, equals, value = part.partition("=")
    section, dot, metric = name.strip().rpartition(".")
    try:
        bound = float(value)
    except ValueError:
        bound = math.nan
    if not equals or not math.isfinite(bound):
        raise TrainingDataInvalid(f"{part!r} is not FIGURE=NUMBER, as in recall@5=0.9.")
    if metric not in METRICS:
        near = difflib.get_close_matches(metric, METRICS, 3, 0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(METRICS)}."
        raise TrainingDataInvalid(f"there is no figure {metric!r}; {hint}")
    if METRICS[metric].group == "retrieval":
        sections, usual = list(GROUPS), "all"
    else:
        sections, usual = [condition.name for condition in CONDITIONS], _DEFAULT_CONDITION
    if dot and section not in sections:
        raise TrainingDataInvalid(
            f"{metric} has no section {section!r}; use {', '.join(sections)}."
        )
    return Threshold(section or usual, metric, bound, is_upper)


def find_figure(report: Mapping[str, Any], section: str, metric: str) -> Mapping[str, Any] | None:
    """A figure of a report; None where it was not measured."""
    if METRICS[metric].group == "retrieval":
        figures = report["retrieval"]["groups"].get(section, {}).get("figures", {})
    else:
        figures = report["conditions"].get(section, {}).get("figures", {})
    found: Mapping[str, Any] | None = figures.get(metric)
    return found
