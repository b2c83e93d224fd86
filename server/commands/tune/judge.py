"""`mynah tune judge`: which of two systems' answers people, or a model, prefer blindly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from server.commands.context import CommandContext
from server.commands.output import printable, write, write_json
from server.commands.tune.collect import API_KEY_VARIABLE

_ANSWERS = "JSONL of id, question and answer, or conversations"
# Not that of `mynah serve`: both may run at once.
_PAGE_PORT = 8017


def judge(
    context: typer.Context,
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder of the comparison: pairs, judgements, result.", show_default=False
        ),
    ],
    *,
    system: Annotated[
        Path | None,
        typer.Option(help=f"Answers of the system: {_ANSWERS}.", metavar="FILE"),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(help="Answers that it is compared with, under the same ids.", metavar="FILE"),
    ] = None,
    system_name: Annotated[
        str | None, typer.Option(help="Its name in results; the file's by default.")
    ] = None,
    baseline_name: Annotated[
        str | None, typer.Option(help="The other's name; the file's by default.")
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(
            help="Question set that was asked, where the answers do not say.", metavar="FILE"
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of order and sides, 0 by default.")] = None,
    limit: Annotated[int | None, typer.Option(help="Draw so many of the pairs.", min=1)] = None,
    hide: Annotated[
        list[str] | None,
        typer.Option(
            help="Word to hide from raters, besides both names. Repeatable.", metavar="WORD"
        ),
    ] = None,
    page: Annotated[bool, typer.Option("--page", help="Serve the page for people.")] = False,
    host: Annotated[
        str | None, typer.Option(help="Address of the page, 127.0.0.1 by default.", metavar="HOST")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help=f"Port of the page, {_PAGE_PORT} by default; 0 takes a free one.", min=0, max=65535
        ),
    ] = None,
    judge_url: Annotated[
        str | None,
        typer.Option(
            help="OpenAI-compatible endpoint of a judging model; its key stands in"
            f" {API_KEY_VARIABLE}.",
            metavar="URL",
        ),
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="The judging model's name there.", metavar="NAME")
    ] = None,
    accept_teacher_terms: Annotated[
        bool,
        typer.Option(
            "--accept-teacher-terms",
            help="You have read the terms of the judge's provider, and they allow this use; not"
            " needed for an endpoint on this machine.",
        ),
    ] = False,
    max_requests: Annotated[
        int | None, typer.Option(help="Verdicts to pay for at most, two a pair.", min=2)
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Tokens to pay for at most, prompts included.", min=1)
    ] = None,
    judge_tokens: Annotated[
        int | None, typer.Option(help="Longest verdict, in tokens; 1024 by default.", min=1)
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Requests sent at once, 4 by default.", min=1, max=256)
    ] = None,
    timeout_s: Annotated[
        float | None,
        typer.Option(help="Longest wait for one verdict, 600 s by default.", min=1),
    ] = None,
    results: Annotated[
        bool, typer.Option("--results", help="Show the result and write it.")
    ] = False,
    rater: Annotated[
        list[str] | None,
        typer.Option(help="Count this rater; else all people, or all models. Repeatable."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File of the result, FOLDER/result.json by default.", metavar="FILE"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two systems' answers blindly: on a page for people, or by a judging model."""
    _refuse_idle(
        "--system and --baseline",
        is_used=system is not None and baseline is not None,
        values={
            "system": system,
            "baseline": baseline,
            "system_name": system_name,
            "baseline_name": baseline_name,
            "questions": questions,
            "seed": seed,
            "limit": limit,
            "hide": hide,
        },
    )
    _refuse_idle("--page", is_used=page, values={"host": host, "port": port})
    _refuse_idle(
        "--judge-url",
        is_used=judge_url is not None,
        values={
            "judge_model": judge_model,
            "accept_teacher_terms": accept_teacher_terms or None,
            "max_requests": max_requests,
            "max_tokens": max_tokens,
            "judge_tokens": judge_tokens,
            "concurrency": concurrency,
            "timeout_s": timeout_s,
        },
    )
    _refuse_idle("--results", is_used=results, values={"rater": rater, "out": out})
    if page and (judge_url is not None or results or as_json):
        raise typer.BadParameter(
            "it serves until it is stopped; leave --judge-url, --results and --json away",
            param_hint="--page",
        )
    if judge_url is not None and judge_model is None:
        raise typer.BadParameter("name the judging model", param_hint="--judge-model")

    from models.imitation.judging.pairs import read_comparison
    from server.commands.tune import judging

    if system is not None and baseline is not None:
        comparison = judging.make_pairs(
            folder,
            {"system": system, "baseline": baseline},
            {"system": system_name, "baseline": baseline_name},
            questions=questions,
            seed=seed or 0,
            limit=limit,
            hidden=tuple(hide or ()),
        )
        if not as_json:
            judging.describe_pairs(comparison, folder)
    else:
        comparison = read_comparison(folder)

    if page:
        from server.judging.serving import run_page

        options: CommandContext = context.obj
        chosen_port = _PAGE_PORT if port is None else port
        run_page(
            comparison,
            folder,
            options.load_settings(host=host or "127.0.0.1", port=chosen_port),
        )
        return
    summary = None
    if judge_url is not None and judge_model is not None:
        summary = judging.run_judge(
            comparison,
            folder,
            judge_url,
            judge_model,
            accepts_terms=accept_teacher_terms,
            max_requests=max_requests,
            max_tokens=max_tokens,
            judge_tokens=judge_tokens,
            concurrency=concurrency or 4,
            timeout_s=timeout_s or 600.0,
        )
        if not as_json:
            judging.write_summary(summary)
    if results:
        named = rater or ([summary.rater] if summary else None)
        judging.show_results(comparison, folder, named, out, as_json=as_json)
    elif as_json:
        write_json(summary.to_json() if summary else judging.pairs_json(comparison, folder))
    elif summary is None:
        write(printable(f"Next: --page for people, --judge-url for a model, --results ({folder})."))
    if summary is not None and summary.num_pairs and not summary.num_judged and summary.num_errors:
        raise typer.Exit(1)


def _refuse_idle(needed: str, *, is_used: bool, values: dict[str, object]) -> None:
    """Raise `BadParameter` for an option that would be ignored."""
    for name, value in values.items():
        if value is not None and not is_used:
            raise typer.BadParameter(f"it needs {needed}", param_hint=f"--{name.replace('_', '-')}")
