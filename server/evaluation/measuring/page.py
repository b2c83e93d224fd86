"""A measurement as one HTML page: figures, plots, and the questions that went wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from models.imitation.statistics import Interval
from server.evaluation.curves import Curve, Difference, draw_curves, draw_differences
from server.evaluation.measuring.failures import REASONS
from server.evaluation.measuring.metrics import (
    ANSWER_METRICS,
    LATENCY_METRICS,
    METRICS,
    RETRIEVAL_METRICS,
)
from server.evaluation.pages import load_template
from server.evaluation.plots import Bar, draw_bars

# Failures of one reason that the page shows; the JSON has all.
MAX_LISTED = 200
_BARS = {
    "containment": "contains an expected answer",
    "f1": "F1",
    "abstention_recall": "declines where there is none",
}
_DIFFERENCES = {
    "retrieval.all": ("recall@1", "recall@5", "mrr"),
    "retrieved": (
        "containment",
        "strict",
        "f1",
        "cites_evidence",
        "citation_precision",
        "support",
        "abstention_recall",
        "false_abstention",
    ),
}
_TIMES = {"search_ms": "search", "first_token_ms": "first token", "whole_ms": "whole answer"}


def render_measurement(report: Mapping[str, Any]) -> str:
    """The page of a report as `build_measurement` made it; all its texts are escaped."""
    failures: dict[str, list[Any]] = defaultdict(list)
    for row in report["failures"]:
        failures[row["reason"]].append(row)
    measured = {
        name for condition in report["conditions"].values() for name in condition["figures"]
    }
    by_kind = {
        name
        for condition in report["conditions"].values()
        for kind in condition["kinds"].values()
        for name in kind["figures"]
    }
    search_by_kind = {name for row in report["retrieval"]["kinds"].values() for name in row}
    return load_template("measurement.html").render(
        report=report,
        set={"num_documents": "?", "num_passages": "?", **report["question_set"]},
        summary=_summarise(report),
        retrieval_metrics=RETRIEVAL_METRICS,
        answer_metrics=[m for m in ANSWER_METRICS if m.name in measured],
        latency_metrics=[m for m in LATENCY_METRICS if m.name in measured],
        kind_metrics=[m for m in METRICS.values() if m.name in by_kind],
        retrieval_kind_metrics=[m for m in METRICS.values() if m.name in search_by_kind],
        reasons=REASONS,
        failures=failures,
        max_listed=MAX_LISTED,
        bars=_trust(_draw_conditions(report)),
        found_by_rank=_trust(_draw_ranks(report)),
        times=_trust(_draw_times(report)),
        differences=_trust(_draw_differences(report)),
    )


def _trust(svg: str) -> Markup:
    """Our own SVG, whose texts are escaped."""
    return Markup(svg)  # noqa: S704


def _summarise(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """The few figures that people ask for first, in words."""
    found = report["retrieval"]["groups"].get("all", {}).get("figures", {})
    answers = report["conditions"].get("retrieved", {}).get("figures", {})
    drafts = (
        ("The search", found, "recall@1", "puts the right passage first for {} of the questions"),
        ("The search", found, "recall@5", "has it among five for {}"),
        ("Answers", answers, "containment", "hold an expected answer in {} of the cases"),
        ("Answers", answers, "supported", "{} of their sentences are backed"),
        ("Answers", answers, "sentences", "{} sentences each"),
        ("Declining", answers, "abstention_recall", "{} of what has no answer"),
        ("Declining", answers, "false_abstention", "and {} of what has one"),
        ("Waiting", answers, "first_token_p50_ms", "{} ms until the first words, half the time"),
        ("Waiting", answers, "whole_p95_ms", "{} ms for all but the slowest twentieth"),
    )
    parts: dict[str, list[str]] = defaultdict(list)
    for title, figures, name, text in drafts:
        if name in figures:
            parts[title].append(text.format(_say(name, figures[name]["mean"])))
    return [{"title": title, "text": "; ".join(texts) + "."} for title, texts in parts.items()]


def _say(name: str, value: float) -> str:
    if METRICS[name].is_rate:
        return f"{value * 100:.0f} %"
    return f"{value:.0f}" if METRICS[name].group == "latency" else f"{value:.1f}"


def _draw_conditions(report: Mapping[str, Any]) -> str:
    bars = []
    for condition in report["conditions"].values():
        for name, title in _BARS.items():
            row = condition["figures"].get(name)
            bars.append(Bar(condition["title"], title, Interval.from_json(row) if row else None))
    return draw_bars(bars, "Answers and abstention by condition") if bars else ""


def _draw_ranks(report: Mapping[str, Any]) -> str:
    curves = [
        Curve(group["title"], list(enumerate(group["found_by_rank"], 1)))
        for group in report["retrieval"]["groups"].values()
        if group["found_by_rank"]
    ]
    title = "Share of questions whose evidence is among the first passages"
    return draw_curves(curves, "passages looked at", title, is_stepped=False) if curves else ""


def _draw_times(report: Mapping[str, Any]) -> str:
    """How many of the answers over retrieved passages were there after how long."""
    outcomes = report["conditions"].get("retrieved", {}).get("outcomes", [])
    curves = []
    for name, label in _TIMES.items():
        times = sorted(row[name] for row in outcomes if row[name] is not None)
        if times and times[-1] > 0:
            shares = [(time, (number + 1) / len(times)) for number, time in enumerate(times)]
            curves.append(Curve(label, shares))
    title = "Share of answers that were there after so many milliseconds"
    return draw_curves(curves, "milliseconds", title, is_stepped=True) if curves else ""


def _draw_differences(report: Mapping[str, Any]) -> str:
    if report["comparison"] is None:
        return ""
    rows = [
        Difference(row["title"], Interval.from_json(row["difference"]), row["verdict"])
        for section in report["comparison"]["sections"]
        for row in section["rows"]
        if row["metric"] in _DIFFERENCES.get(section["name"], ())
    ]
    return draw_differences(rows, "This run less the other, by figure") if rows else ""
