"""Writes the tables of settings, error codes and commands into the pages of this folder.

`python docs/generate.py` after a change of any of them; a test fails until that was done.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from server import cli
from server.config import Settings
from server.config_sources import PREFIX
from server.statuses import STATUS_BY_CLASS, type_of

FOLDER = Path(__file__).parent
COMMANDS = (
    (),
    ("ingest",),
    ("documents",),
    ("delete",),
    ("collections",),
    ("ask",),
    ("chat",),
    ("serve",),
    ("calibrate",),
    ("tune-engine",),
    ("eval",),
    ("eval", "run"),
    ("eval", "make"),
    ("keys",),
    ("keys", "create"),
    ("keys", "list"),
    ("keys", "delete"),
    ("models",),
    ("models", "list"),
    ("models", "pull"),
    ("models", "add"),
    ("models", "quantize"),
    ("models", "use"),
    ("models", "rollback"),
    ("models", "remove"),
    ("tune",),
    ("tune", "collect"),
    ("tune", "report"),
    ("tune", "import"),
    ("tune", "filter"),
    ("tune", "train"),
    ("tune", "export"),
    ("tune", "judge"),
)


def render_settings() -> str:
    """One row for each setting."""
    lines = ["| setting | variable | default | what it does |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        if name == "data_dir":
            shown = "`~/.local/share/mynah`"
        elif default in (None, ()):
            shown = "none"
        else:
            shown = f"`{str(default).lower() if isinstance(default, bool) else default}`"
        lines.append(f"| `{name}` | `{PREFIX}{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(lines)


def render_errors() -> str:
    """One row for each pair of code and status, with what each class says of itself."""
    meanings: dict[tuple[int, str], list[str]] = {}
    for cls, status in STATUS_BY_CLASS.items():
        first = " ".join((cls.__doc__ or "").split("\n\n")[0].split())
        meanings.setdefault((status, str(cls.code)), []).append(first)
    lines = ["| status | type | code | when |", "|---|---|---|---|"]
    for (status, code), texts in sorted(meanings.items()):
        lines.append(f"| {status} | `{type_of(status)}` | `{code}` | {' '.join(texts)} |")
    return "\n".join(lines)


def render_commands() -> str:
    """The help of each command, 80 columns wide."""
    parts = []
    for command in COMMANDS:
        output = io.StringIO()
        with _columns(80), contextlib.redirect_stdout(output):
            cli.run([*command, "--help"])
        title = " ".join(("mynah", *command))
        parts.append(f"### {title}\n\n```text\n{output.getvalue().strip()}\n```")
    return "\n\n".join(parts)


BLOCKS: dict[str, dict[str, Callable[[], str]]] = {
    "settings.md": {"settings": render_settings},
    "errors.md": {"errors": render_errors},
    "cli.md": {"commands": render_commands},
}


def fill(name: str, text: str) -> str:
    """The page with its generated blocks as they should be."""
    for block, render in BLOCKS[name].items():
        begin, end = f"<!-- begin {block} -->", f"<!-- end {block} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        found = pattern.search(text)
        if found is None:
            raise ValueError(f"{name} has no block {block}")
        text = f"{text[: found.start()]}{begin}\n\n{render()}\n\n{end}{text[found.end() :]}"
    return text


def main() -> None:
    """Rewrite every page that has generated blocks."""
    for name in BLOCKS:
        path = FOLDER / name
        path.write_text(fill(name, path.read_text(encoding="utf-8")), encoding="utf-8")


@contextlib.contextmanager
def _columns(width: int) -> Iterator[None]:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(width)
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


if __name__ == "__main__":
    main()
