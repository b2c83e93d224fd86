"""`mynah tune`: the imitation pipeline, from a teacher to a registered model."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Make a model of your own: collect, import, filter, train, export, judge, report.",
    add_completion=False,
    rich_markup_mode=None,
)
