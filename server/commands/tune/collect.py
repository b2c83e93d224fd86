"""`mynah tune collect`: rows of training data from a few seeds and a teacher."""

from __future__ import annotations

import os
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TextIO

import typer

from server.commands.output import printable, write, write_error, write_json

if TYPE_CHECKING:
    from models.imitation.collecting.types import Progress, Summary

API_KEY_VARIABLE = "MYNAH_TEACHER_API_KEY"
_STOPS = {
    "max_requests": "Stopped at --max-requests; raise it, and the same command goes on.",
    "max_tokens": "Stopped before --max-tokens would be passed; raise it, and the same command"
    " goes on.",
}
_LINE_INTERVAL_S = 5.0


class ModeChoice(StrEnum):
    """The ways of collecting."""

    grounded = "grounded"
    narrow = "narrow"
    alpaca = "alpaca"
    self_instruct = "self-instruct"


def collect(
    context: typer.Context,
    mode: Annotated[
        ModeChoice,
        typer.Argument(
            help="grounded: questions on passages of your documents; narrow: more of one task;"
            " alpaca, self-instruct: tasks of all kinds.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            help="JSONL file of the rows; the answers are kept beside it in OUT.journal.",
            show_default=False,
        ),
    ],
    *,
    teacher: Annotated[
        str,
        typer.Option(
            help=f"OpenAI-compatible endpoint; its key stands in {API_KEY_VARIABLE}.",
            metavar="URL",
            show_default=False,
        ),
    ],
    model: Annotated[
        str, typer.Option(help="The teacher's name there.", metavar="NAME", show_default=False)
    ],
    accept_teacher_terms: Annotated[
        bool,
        typer.Option(
            "--accept-teacher-terms",
            help="You have read the teacher's terms, and they allow to train on its answers.",
        ),
    ] = False,
    num_rows: Annotated[int, typer.Option(help="Rows to collect.", min=1)] = 100,
    max_requests: Annotated[
        int | None,
        typer.Option(help="Answers to pay for at most, over all runs.", min=1),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Tokens to pay for at most, prompts included, over all runs.", min=1),
    ] = None,
    seeds: Annotated[
        Path | None,
        typer.Option(help="JSONL file of seeds in the place of Mynah's own.", metavar="FILE"),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="The seeds' task (narrow, grounded).", metavar="NAME")
    ] = None,
    description: Annotated[
        str | None,
        typer.Option(help="What the task is, told to the teacher (narrow).", metavar="TEXT"),
    ] = None,
    collection: Annotated[
        str | None,
        typer.Option(help="Ask about this collection only (grounded).", metavar="NAME"),
    ] = None,
    unanswerable: Annotated[
        float | None,
        typer.Option(
            help="Share of questions that the passages do not answer, 0.3 by default (grounded).",
            min=0,
            max=1,
        ),
    ] = None,
    num_passages: Annotated[
        int | None,
        typer.Option(
            help="Passages shown with a question, 4 by default (grounded).", min=1, max=32
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(help="Requests sent at once; a round has 5 to 16.", min=1, max=64)
    ] = 4,
    timeout_s: Annotated[
        float, typer.Option(help="Longest wait for one answer, in seconds.", min=1)
    ] = 600.0,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn by chance.")] = 0,
    row_license: Annotated[
        str,
        typer.Option("--license", help="Licence to note in each row.", metavar="TEXT"),
    ] = "LicenseRef-teacher-terms",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Collect training rows from a teacher; the same command goes on where it stopped."""
    from models.imitation.collecting.collector import Collector
    from models.imitation.collecting.teacher import Teacher, endpoint_of
    from models.imitation.collecting.types import Limits
    from models.imitation.errors import TeacherFailed, TermsNotAccepted
    from server.commands.tune.collecting import make_mode

    endpoint = endpoint_of(teacher)
    if not accept_teacher_terms:
        raise TermsNotAccepted(
            f"many providers forbid to train models that compete with theirs on their answers; read"
            f" the terms of {model} at {endpoint} and, if they allow it, add"
            " --accept-teacher-terms.",
            param="accept_teacher_terms",
        )
    choices = {
        "task": task,
        "description": description,
        "collection": collection,
        "unanswerable": unanswerable,
        "num_passages": num_passages,
    }
    _refuse_idle(mode, choices)
    with (
        make_mode(mode, choices, context.obj, seeds=seeds, seed=seed) as chosen,
        _ProgressLine(sys.stderr, num_rows) as show,
    ):
        collector = Collector(
            chosen,
            Teacher(
                teacher,
                model,
                os.environ.get(API_KEY_VARIABLE),
                concurrency=concurrency,
                timeout_s=timeout_s,
            ),
            out,
            Limits(num_rows, max_requests, max_tokens),
            row_license=row_license,
            progress=show,
        )
        try:
            summary = collector.run()
        except TeacherFailed as error:
            raise TeacherFailed(
                f"{error.message} What is there stands in {out}; the same command goes on."
            ) from error
        except KeyboardInterrupt:
            write_error(f"stopped; what is there stands in {out}, the same command goes on")
            raise
    if as_json:
        write_json(_to_json(out, summary))
    else:
        _write_summary(out, summary)
    if summary.stopped_by == "fruitless":
        write_error("the teacher's last answers were of no use; look at them in the journal")
        raise typer.Exit(1)


def _refuse_idle(mode: ModeChoice, choices: dict[str, Any]) -> None:
    """Raise `BadParameter` for an option that the mode would ignore."""
    used = {
        ModeChoice.grounded: {"task", "collection", "unanswerable", "num_passages"},
        ModeChoice.narrow: {"task", "description"},
    }.get(mode, set())
    for name, value in choices.items():
        if value is not None and name not in used:
            raise typer.BadParameter(
                f"the mode {mode} does not use it", param_hint=f"--{name.replace('_', '-')}"
            )


class _ProgressLine:
    """One line that is written over in a terminal, and a line now and then anywhere else."""

    def __init__(self, stream: TextIO, num_wanted: int) -> None:
        self._stream = stream
        self._num_wanted = num_wanted
        self._is_terminal = stream.isatty()
        self._shown_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def __call__(self, progress: Progress) -> None:
        interval_s = 0.1 if self._is_terminal else _LINE_INTERVAL_S
        if time.monotonic() - self._shown_s < interval_s:
            return
        self._shown_s = time.monotonic()
        parts = [
            f"{progress.num_rows}/{self._num_wanted} rows",
            f"{progress.num_requests} requests",
            f"{progress.num_tokens} tokens",
            f"{progress.num_dropped} left out",
        ]
        if progress.num_retries:
            parts.append(f"{progress.num_retries} retries")
        line = "  ".join(parts)
        self._stream.write(f"\r\x1b[K{line}" if self._is_terminal else f"{line}\n")
        self._stream.flush()


def _write_summary(out: Path, summary: Summary) -> None:
    write(
        printable(
            f"Wrote {summary.num_rows} rows to {out}: {summary.num_requests} requests"
            f" ({summary.num_requests_now} of them now), {summary.num_tokens} tokens,"
            f" {summary.num_retries} retries."
        )
    )
    if summary.dropped:
        counts = ", ".join(f"{number} {reason}" for reason, number in summary.dropped.items())
        write(f"Left out: {counts}.")
    if summary.stopped_by in _STOPS:
        write(_STOPS[summary.stopped_by])


def _to_json(out: Path, summary: Summary) -> dict[str, object]:
    return {
        "out": str(out),
        "stopped_by": summary.stopped_by,
        "num_rows": summary.num_rows,
        "num_requests": summary.num_requests,
        "num_requests_now": summary.num_requests_now,
        "num_tokens": summary.num_tokens,
        "num_retries": summary.num_retries,
        "dropped": dict(summary.dropped),
    }
