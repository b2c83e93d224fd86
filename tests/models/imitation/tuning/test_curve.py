from __future__ import annotations

import io
from pathlib import Path

import pytest

from models.imitation.tuning.curve import (
    LossLog,
    Point,
    describe,
    draw_png,
    draw_text,
    read_points,
    show_curve,
    smooth,
)

POINTS = [
    Point(step, 4.0 / step, 1e-3, 1.0, 100.0, 5.0 / step if step % 4 == 0 else None)
    for step in range(1, 13)
]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_resumed_log_forgets_what_lies_behind_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "loss.jsonl"
    log = LossLog(path)
    for point in POINTS:
        log.append(point)
    with path.open("a") as out:
        out.write('{"step": 13, "los')  # killed while it wrote
    assert read_points(path) == POINTS
    resumed = LossLog(path, num_steps_done=5)
    resumed.append(POINTS[5])
    assert read_points(path) == resumed.points == POINTS[:6]


def test_the_mean_of_a_constant_is_the_constant_from_the_start() -> None:
    assert smooth([2.0] * 9) == pytest.approx([2.0] * 9)
    assert smooth([4.0, 2.0])[0] == pytest.approx(4.0)
    assert 2.0 < smooth([4.0, 2.0])[1] < 4.0


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    draw_png(POINTS, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_file_gets_lines_with_the_last_step_among_them() -> None:
    stream = io.StringIO()
    with show_curve(stream) as show:
        for number in range(1, len(POINTS) + 1):
            show(POINTS[:number], len(POINTS))
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("step 1/12  loss 4.0000  lr 1.00e-03")
    assert lines[-1] == describe(POINTS, 12)
    assert "held out 0.4167" in lines[-1]
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_gets_a_curve() -> None:
    assert "┤" in draw_text(POINTS, 60)
    assert len(draw_text(POINTS * 1000, 60).splitlines()) < 20
    stream = Terminal()
    with show_curve(stream) as show:
        show(POINTS[:1], len(POINTS))
        show(POINTS, len(POINTS))
    assert "step 12/12" in stream.getvalue()
    assert "┤" in stream.getvalue()
