"""Reports as one HTML page each that needs nothing else: no script, no font, no request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

_FOLDER = Path(__file__).parent / "templates"


def load_template(name: str) -> jinja2.Template:
    """A template of this folder; what is filled into it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = show_figure
    environment.filters["signed"] = show_signed
    environment.filters["number"] = show_number
    return environment.get_template(name)


def show_figure(row: Mapping[str, Any] | None) -> Markup:
    """The figure with its interval below; a dash where there is none."""
    if row is None:
        return Markup('<span class="none">–</span>')
    mean, low, high = (show_number(row[name]) for name in ("mean", "low", "high"))
    return Markup("<b>{}</b><small>{} – {}</small>").format(mean, low, high)


def show_signed(row: Mapping[str, Any] | None) -> Markup:
    """A difference with its interval, bold where that lies on one side of zero."""
    if row is None:
        return Markup('<span class="none">–</span>')
    is_clear = row["low"] > 0 or row["high"] < 0
    mean, low, high = (_show_sign(row[name]) for name in ("mean", "low", "high"))
    return Markup('<b class="{}">{}</b><small>{} to {}</small>').format(
        "clear" if is_clear else "open", mean, low, high
    )


def _show_sign(value: float) -> str:
    return ("−" if value < 0 else "+") + show_number(abs(value))


def show_number(value: float) -> str:
    """Three digits behind the point, or one where the number is large."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"
