"""Plots as inline SVG whose colours the page's style sheet gives, so that they follow its theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from models.imitation.statistics import Interval

_WIDTH, _HEIGHT = 720, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 20, 56


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; None where the figure does not apply."""

    group: str
    series: str
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Point:
    """A system by two figures; `x` and `y` have their intervals drawn as a cross."""

    label: str
    x: Interval
    y: Interval


def draw_bars(bars: Sequence[Bar], title: str) -> str:
    """Bars by group and series on a scale of 0 to 1, each with its interval."""
    groups = list(dict.fromkeys(bar.group for bar in bars))
    series = list(dict.fromkeys(bar.series for bar in bars))
    frame = _Frame(1.0, 1.0)
    step = frame.width / len(groups)
    width = min(44.0, step * 0.8 / len(series))
    parts = [frame.draw_grid(is_x_numeric=False)]
    for bar in bars:
        number = series.index(bar.series)
        middle = _LEFT + step * (groups.index(bar.group) + 0.5)
        x = middle + (number - len(series) / 2) * width
        if bar.interval is None:
            parts.append(_text(x + width / 2, frame.y(0) - 6, "n/a", "middle", "note"))
            continue
        top = frame.y(bar.interval.mean)
        label = f"{bar.group}, {bar.series}: {bar.interval.mean:.3f}"
        parts.append(
            f'<rect class="s{number}" x="{x + 2:.1f}" y="{top:.1f}" width="{width - 4:.1f}"'
            f' height="{frame.y(0) - top:.1f}" rx="2"><title>{escape(label)}</title></rect>'
        )
        parts.append(
            _whisker_y(x + width / 2, frame.y(bar.interval.low), frame.y(bar.interval.high))
        )
    for number, group in enumerate(groups):
        parts.append(_text(_LEFT + step * (number + 0.5), frame.y(0) + 20, group, "middle"))
    parts.append(_draw_legend(series))
    return _wrap(parts, title)


def draw_scatter(points: Sequence[Point], x_title: str, y_title: str, title: str) -> str:
    """Systems as points with both intervals; axes begin at 0."""
    frame = _Frame(
        _round_up(max(point.x.high for point in points)),
        _round_up(max(point.y.high for point in points)),
    )
    parts = [frame.draw_grid(is_x_numeric=True)]
    labels: list[tuple[float, float]] = []
    for number, point in enumerate(points):
        x, y = frame.x(point.x.mean), frame.y(point.y.mean)
        label = f"{point.label}: {x_title} {point.x.mean:.3f}, {y_title} {point.y.mean:.3f}"
        parts.append(_whisker_y(x, frame.y(point.y.low), frame.y(point.y.high)))
        parts.append(_whisker_x(y, frame.x(point.x.low), frame.x(point.x.high)))
        parts.append(
            f'<circle class="s{number}" cx="{x:.1f}" cy="{y:.1f}" r="7">'
            f"<title>{escape(label)}</title></circle>"
        )
        is_right = x > _LEFT + frame.width * 0.7
        place = y - 12 if y > _TOP + 6 else y + 20  # above, unless that is outside the plot
        while any(abs(place - other) < 15 and abs(x - at) < 190 for at, other in labels):
            place += 15
        labels.append((x, place))
        parts.append(
            _text(x + (-10 if is_right else 10), place, point.label, "end" if is_right else "start")
        )
    parts.append(_text(_LEFT + frame.width / 2, _HEIGHT - 12, x_title, "middle"))
    turned = f'transform="rotate(-90 14 {_TOP + frame.height / 2:.0f})"'
    parts.append(_text(14, _TOP + frame.height / 2, y_title, "middle", extra=turned))
    return _wrap(parts, title)


class _Frame:
    """The plot's inner box: figures to pixels."""

    def __init__(self, x_max: float, y_max: float) -> None:
        self._x_max, self._y_max = x_max, y_max
        self.width = _WIDTH - _LEFT - _RIGHT
        self.height = _HEIGHT - _TOP - _BOTTOM

    def x(self, value: float) -> float:
        return _LEFT + self.width * min(max(value / self._x_max, 0.0), 1.0)

    def y(self, value: float) -> float:
        return _TOP + self.height * (1 - min(max(value / self._y_max, 0.0), 1.0))

    def draw_grid(self, *, is_x_numeric: bool) -> str:
        parts = []
        for tick in range(6):
            share = tick / 5
            y = self.y(share * self._y_max)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}"'
                f' y2="{y:.1f}"/>'
            )
            parts.append(_text(_LEFT - 8, y + 4, f"{share * self._y_max:.2g}", "end", "note"))
            if is_x_numeric:
                x, value = self.x(share * self._x_max), f"{share * self._x_max:.2g}"
                parts.append(_text(x, self.y(0) + 18, value, "middle", "note"))
        return "".join(parts)


def _round_up(value: float) -> float:
    """The next tenth, at least 0.1: room for five ticks that read well."""
    return min(1.0, max(0.1, math.ceil(value * 10 + 1e-9) / 10))


def _whisker_y(x: float, low: float, high: float) -> str:
    path = f"M{x - 4:.1f} {low:.1f}h8M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {high:.1f}h8"
    return f'<path class="whisker" d="{path}"/>'


def _whisker_x(y: float, low: float, high: float) -> str:
    path = f"M{low:.1f} {y - 4:.1f}v8M{low:.1f} {y:.1f}H{high:.1f}M{high:.1f} {y - 4:.1f}v8"
    return f'<path class="whisker" d="{path}"/>'


def _text(
    x: float, y: float, text: str, anchor: str, style: str = "label", *, extra: str = ""
) -> str:
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>'
        f"{escape(text)}</text>"
    )


def _draw_legend(series: Sequence[str]) -> str:
    step = (_WIDTH - _LEFT) / len(series)
    return "".join(
        f'<rect class="s{number}" x="{_LEFT + step * number:.1f}" y="{_HEIGHT - 20}" width="12"'
        f' height="12" rx="2"/>' + _text(_LEFT + step * number + 18, _HEIGHT - 10, name, "start")
        for number, name in enumerate(series)
    )


def _wrap(parts: Sequence[str], title: str) -> str:
    return (
        f'<svg role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
