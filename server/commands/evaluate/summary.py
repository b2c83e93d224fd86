"""A measurement in the terminal: its tables, or its figures as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from server.commands.output import printable, write, write_table


def shorten(found: dict[str, Any]) -> dict[str, Any]:
    """The report without the rows behind its figures, which stand in `eval.json`."""
    left_out = ("questions", "failures", "meanings", "checker")
    short = {name: value for name, value in found.items() if name not in left_out}
    short["retrieval"] = {k: v for k, v in found["retrieval"].items() if k != "rows"}
    short["conditions"] = {
        name: {k: v for k, v in condition.items() if k != "outcomes"}
        for name, condition in found["conditions"].items()
    }
    return short


def write_summary(found: dict[str, Any], out: Path) -> None:
    """Search and answers as two tables, what went wrong by its cause, and the comparison."""
    from server.evaluation.measuring.failures import REASONS
    from server.evaluation.measuring.metrics import METRICS

    asked = found["question_set"]
    write(
        f"{asked['num_questions']} questions, {asked['num_documents']} documents,"
        f" mode {found['mode']}, {found['model']['name']}"
    )
    if num := asked["num_unreviewed"]:
        write(f"{num} of the questions are drafts that nobody has reviewed.")
    for columns in (found["retrieval"]["groups"].values(), found["conditions"].values()):
        rows = []
        for metric in METRICS.values():
            figures = [column["figures"].get(metric.name) for column in columns]
            if any(figures):
                rows.append((metric.title, *(_show(figure) for figure in figures)))
        if rows:
            write()
            write_table(("", *(column["title"].upper() for column in columns)), rows)
    write()
    reasons = [row["reason"] for row in found["failures"]]
    for reason, (title, _) in REASONS.items():
        if num := reasons.count(reason):
            write(f"{num:4}  {title}")
    if found["comparison"] is not None:
        _write_comparison(found["comparison"])
    write(f"Wrote {out / 'eval.html'} and {out / 'eval.json'}.")


def _write_comparison(comparison: dict[str, Any]) -> None:
    write()
    rows = [
        (
            row["title"],
            section["title"],
            f"{row['this']['mean']:.3f}",
            f"{row['other']['mean']:.3f}",
            f"{row['difference']['mean']:+.3f} ({row['difference']['low']:+.3f} to"
            f" {row['difference']['high']:+.3f})",
            row["verdict"],
        )
        for section in comparison["sections"]
        for row in section["rows"]
    ]
    write_table(("", "", "THIS", "OTHER", "DIFFERENCE", "VERDICT"), rows)
    write(
        printable(
            f"Against {comparison['other']['model']['name']}, {comparison['num_common']} questions,"
            f" paired: {comparison['num_better']} figures better, {comparison['num_worse']} worse."
        )
    )


def _show(figure: dict[str, float] | None) -> str:
    if figure is None:
        return "-"
    digits = 3 if figure["high"] < 100 else 0
    return f"{figure['mean']:.{digits}f} ({figure['low']:.{digits}f}-{figure['high']:.{digits}f})"
