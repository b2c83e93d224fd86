"""`mynah eval`: without a command's name it runs `mynah eval run`."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from server.commands.evaluate import make, run

_DEFAULT = "run"


class DefaultGroup(TyperGroup):
    """A group whose command `run` need not be named: a question file is no command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the base does, with the default command's name put in front where none stands."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=DefaultGroup,
    help="Measure answers on your own questions: `mynah eval FILE`; `make` drafts such a file.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
)

app.command("run")(run.run)
app.command("make")(make.make)
