"""The report as one HTML page that needs nothing else: no script, no font, no request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from models.imitation.statistics import Interval
from server.evaluation.pages import load_template
from server.evaluation.plots import Bar, Point, draw_bars, draw_scatter

_BARS = {
    "contains": "contains a gold answer",
    "em": "exact match",
    "abstained_unanswerable": "says so where there is none",
}
FIGURE_TITLES = {
    "contains": "contains a gold answer",
    "strict": "… all parts of it",
    "em": "exact match (all questions)",
    "f1": "F1 (all questions)",
    "em_answerable": "exact match (answerable)",
    "f1_answerable": "F1 (answerable)",
    "abstained_unanswerable": "abstains: unanswerable",
    "abstained_answerable": "abstains: answerable",
    "gold_shown": "right passage in the prompt",
    "cites_gold": "cites the right passage",
    "citation_recall": "citation recall",
    "citation_precision": "citation precision",
}
# Table 2 of arXiv 2305.15717: similarity to ChatGPT of LLaMA and of its imitation on 150M tokens.
PUBLISHED = {
    "lists": ("0.13", "0.81"),
    "summary": ("0.02", "0.48"),
    "unigrams": ("0.195", "0.425"),
    "length": ("−0.11", "0.62"),
    "tone": ("0.57", "0.98"),
}


def render_report(report: Mapping[str, Any]) -> str:
    """The page of a report as `build_report` made it; texts of models and files are escaped."""
    return load_template("report.html").render(
        report=report,
        factuality=report["factuality"],
        style=report["style_and_knowledge"],
        figure_titles=FIGURE_TITLES,
        published=PUBLISHED,
        bars=Markup(_draw_conditions(report)),  # noqa: S704 - our own SVG, its texts escaped
        scatter=Markup(_draw_systems(report)),  # noqa: S704 - as above
    )


def _draw_conditions(report: Mapping[str, Any]) -> str:
    bars = []
    for condition in report["factuality"]["conditions"].values():
        for name, title in _BARS.items():
            row = condition["figures"].get(name)
            bars.append(Bar(condition["title"], title, Interval.from_json(row) if row else None))
    return draw_bars(bars, "Accuracy and abstention under the four conditions") if bars else ""


def _draw_systems(report: Mapping[str, Any]) -> str:
    """Style against accuracy; empty unless at least one system has both."""
    points = []
    main_row = report["style_and_knowledge"]["main_row"]
    for role, system in report["style_and_knowledge"]["systems"].items():
        accuracy = system["grounded"] if role == "narrow_retrieval" else system["knowledge"]
        rows = {row["row"]: row for row in system["style"]}
        style = rows.get(main_row)
        if role == "teacher":
            # By definition: the teacher's answers share all their words with themselves.
            style = {"mean": 1.0, "low": 1.0, "high": 1.0}
        if accuracy is None or style is None:
            continue
        points.append(
            Point(
                system["title"],
                Interval.from_json(accuracy["contains"]),
                Interval.from_json(style),
            )
        )
    if not any(point.label != "teacher" for point in points):
        return ""
    return draw_scatter(
        points,
        "accuracy (share of answers with a gold answer)",
        "style (unigrams shared)",
        "Style against accuracy of the systems",
    )
