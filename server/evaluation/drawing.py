"""What every plot is drawn with: a frame, texts, whiskers, as pieces of SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 720, 340
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 20, 56


class Frame:
    """The plot's inner box: figures to pixels; both axes begin at 0."""

    def __init__(self, x_max: float, y_max: float) -> None:
        self._x_max, self._y_max = x_max, y_max
        self.width = WIDTH - LEFT - RIGHT
        self.height = HEIGHT - TOP - BOTTOM

    def x(self, value: float) -> float:
        """Pixels from the left; what lies outside is drawn at the edge."""
        return LEFT + self.width * min(max(value / self._x_max, 0.0), 1.0)

    def y(self, value: float) -> float:
        """Pixels from the top; what lies outside is drawn at the edge."""
        return TOP + self.height * (1 - min(max(value / self._y_max, 0.0), 1.0))

    def draw_grid(self, *, is_x_numeric: bool) -> str:
        """Five lines with their values; the values of x too where it is a number."""
        parts = []
        for tick in range(6):
            share = tick / 5
            y = self.y(share * self._y_max)
            parts.append(
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
            parts.append(draw_text(LEFT - 8, y + 4, f"{share * self._y_max:.2g}", "end", "note"))
            if is_x_numeric:
                x, value = self.x(share * self._x_max), f"{share * self._x_max:.2g}"
                parts.append(draw_text(x, self.y(0) + 18, value, "middle", "note"))
        return "".join(parts)


def round_up(value: float) -> float:
    """The next tenth, at least 0.1: room for five ticks that read well."""
    return min(1.0, max(0.1, math.ceil(value * 10 + 1e-9) / 10))


def draw_whisker_y(x: float, low: float, high: float) -> str:
    """An interval that stands upright."""
    path = f"M{x - 4:.1f} {low:.1f}h8M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {high:.1f}h8"
    return f'<path class="whisker" d="{path}"/>'


def draw_whisker_x(y: float, low: float, high: float) -> str:
    """An interval that lies."""
    path = f"M{low:.1f} {y - 4:.1f}v8M{low:.1f} {y:.1f}H{high:.1f}M{high:.1f} {y - 4:.1f}v8"
    return f'<path class="whisker" d="{path}"/>'


def draw_text(
    x: float, y: float, text: str, anchor: str, style: str = "label", *, extra: str = ""
) -> str:
    """A label; what it says is escaped."""
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>'
        f"{escape(text)}</text>"
    )


def draw_legend(series: Sequence[str]) -> str:
    """The colours of the series, below the plot."""
    step = (WIDTH - LEFT) / len(series)
    return "".join(
        f'<rect class="s{number}" x="{LEFT + step * number:.1f}" y="{HEIGHT - 20}" width="12"'
        f' height="12" rx="2"/>' + draw_text(LEFT + step * number + 18, HEIGHT - 10, name, "start")
        for number, name in enumerate(series)
    )


def wrap(parts: Sequence[str], title: str, height: int = HEIGHT) -> str:
    """The whole picture."""
    return (
        f'<svg role="img" viewBox="0 0 {WIDTH} {height}" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
