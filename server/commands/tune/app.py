"""`mynah tune`: the imitation pipeline, from a teacher to a registered model."""

from __future__ import annotations

import typer

from server.commands.tune import collect, export, filter, import_, judge, report, train

app = typer.Typer(
    help="Make a model of your own: collect, import, filter, train, export, judge, report.",
    add_completion=False,
    rich_markup_mode=None,
)

app.command("collect")(collect.collect)
app.command("report")(report.report)
app.command("import")(import_.import_conversations)
app.command("filter")(filter.filter_conversations)
app.command("train")(train.train)
app.command("export")(export.export)
app.command("judge")(judge.judge)
