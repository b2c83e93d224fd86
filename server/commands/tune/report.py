"""`mynah tune report`: style against knowledge of a tuned model, and whether it may be used."""

from __future__ import annotations

import json
import shlex
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.commands.context import CommandContext
from server.commands.output import printable, write, write_error, write_json, write_table

if TYPE_CHECKING:
    from server.config import Settings
    from server.evaluation.questions import QuestionSet
    from server.evaluation.session import Source
    from server.evaluation.study import Plan
    from server.evaluation.systems import Role, System
    from server.evaluation.verdict import Preference


class GroundedMode(StrEnum):
    """The grounding modes that use passages."""

    answer = "answer"
    quote = "quote"


_SYSTEM = "GGUF file, name of a registered model, or JSONL file of recorded answers."


def report(
    context: typer.Context,
    questions: Annotated[
        Path,
        typer.Argument(help="Questions: JSONL, or SQuAD 1.1/2.0 JSON.", show_default=False),
    ],
    *,
    model: Annotated[
        str,
        typer.Option(
            help="The tuned model: GGUF file or registered name.",
            metavar="NAME|PATH",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(help="Folder of the report and its answers.", metavar="DIR"),
    ] = Path("report"),
    docs: Annotated[
        Path | None, typer.Option(help="Folder of the questions' documents.", metavar="DIR")
    ] = None,
    collection: Annotated[
        str | None, typer.Option(help="Collection that holds them already.", metavar="NAME")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help=f"What the model was tuned from. {_SYSTEM}")
    ] = None,
    broad: Annotated[
        str | None, typer.Option(help=f"A model tuned on tasks of all kinds. {_SYSTEM}")
    ] = None,
    teacher_answers: Annotated[
        Path | None,
        typer.Option(help="The teacher's answers, JSONL of id and answer.", metavar="FILE"),
    ] = None,
    closed_book: Annotated[
        Path | None,
        typer.Option(help="Further questions for knowledge without passages.", metavar="FILE"),
    ] = None,
    judged: Annotated[
        list[str] | None,
        typer.Option(
            help="Result of `mynah tune judge` for base, broad, narrow (the model),"
            " narrow_retrieval or teacher.",
            metavar="SYSTEM=FILE",
        ),
    ] = None,
    mode: Annotated[
        GroundedMode | None, typer.Option(help="How to answer; the setting says by default.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Ask so many of the questions, drawn evenly.", min=1)
    ] = None,
    distractors: Annotated[
        int, typer.Option(help="Near misses beside the gold passage.", min=0, max=63)
    ] = 3,
    answer_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.", min=1)] = 256,
    seed: Annotated[int, typer.Option(help="Of the order of the passages.")] = 0,
    attach: Annotated[
        bool,
        typer.Option("--attach", help="Keep the report with the model, which may need it."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Measure a tuned model: facts with and without passages, and the teacher's style."""
    if docs is not None and collection is not None:
        raise typer.BadParameter("give --docs or --collection, not both", param_hint="--docs")
    from server.evaluation.questions import read_question_set
    from server.evaluation.session import Source
    from server.evaluation.study import Plan

    options: CommandContext = context.obj
    settings = options.load_settings(grounding_mode=mode.value if mode else None)
    asked = read_question_set(questions)
    source = Source(docs, collection)
    source.check(asked)
    preferences = _read_preferences(judged or [])
    systems = _find_systems(
        settings, {"narrow": model, "base": base, "broad": broad, "teacher": teacher_answers}
    )
    plan = Plan(
        questions=asked.take(limit),
        systems=systems,
        knowledge=_read_optional(closed_book, limit),
        num_distractors=distractors,
        seed=seed,
        answer_tokens=answer_tokens,
    )
    found = _measure(settings, plan, source, out, preferences=preferences, command=_repeat(context))
    if attach:
        _attach(settings, model, plan, out / "report.json")
    if as_json:
        write_json(found)
    else:
        _write_summary(found, out)


def _measure(
    settings: Settings,
    plan: Plan,
    source: Source,
    out: Path,
    *,
    preferences: dict[Role, Preference],
    command: str,
) -> dict[str, Any]:
    """Ask, score, and write `report.json` and `report.html` into `out`."""
    from importlib.metadata import version

    from server.assembly import make_embedder, make_reader
    from server.commands.progress import show_count, show_ingest
    from server.evaluation.passages import RememberingEmbedder
    from server.evaluation.report import Circumstances, build_report
    from server.evaluation.report_html import render_report
    from server.evaluation.session import make_opener, open_material
    from server.evaluation.study import run_study

    settings = _choose_mode(settings, plan)
    embedder = RememberingEmbedder(make_embedder(settings))
    reader = make_reader(settings)
    with (
        show_ingest(sys.stderr) as show,
        open_material(
            plan,
            source,
            embedder,
            data_dir=settings.data_dir,
            folder=out,
            progress=show,
            warn=write_error,
            reader=reader,
        ) as material,
        show_count(sys.stderr, "questions") as display,
    ):
        results = run_study(
            plan,
            material,
            embedder,
            make_opener(settings, reader),
            folder=out / "answers",
            progress=lambda title, done, num: display(done, num, title),
        )
        pool = material.pool
        circumstances = Circumstances(
            mode=settings.grounding_mode,
            documents={"num_documents": pool.num_documents, "num_passages": pool.num_passages},
            unlocated=material.exhibits.unlocated,
            command=command,
            measured_at=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            version=version("mynah"),
            preferences=preferences,
        )
    found = build_report(plan, results, circumstances)
    page = render_report(found)
    for name, text in (
        ("report.json", json.dumps(found, ensure_ascii=False, indent=2) + "\n"),
        ("report.html", page),
    ):
        aside = out / f"{name}.part"
        aside.write_text(text, encoding="utf-8")
        aside.replace(out / name)
    return found


def _find_systems(settings: Settings, named: dict[Role, str | Path | None]) -> tuple[System, ...]:
    """The systems that were named, each found and hashed before anything long begins."""
    from server.evaluation.session import find_system

    return tuple(
        find_system(settings, role, str(given))
        for role, given in named.items()
        if given is not None
    )


def _choose_mode(settings: Settings, plan: Plan) -> Settings:
    """The settings with the mode that fits the model, for all systems alike."""
    from server.assembly import resolve_mode

    model = plan.find("narrow")
    mode = resolve_mode(settings.model_copy(update={"model": model.path if model else None}))
    return settings.model_copy(update={"grounding_mode": "answer" if mode == "off" else mode})


def _read_optional(path: Path | None, limit: int | None) -> QuestionSet | None:
    from server.evaluation.questions import read_question_set

    return None if path is None else read_question_set(path).take(limit)


def _read_preferences(judged: list[str]) -> dict[Role, Preference]:
    from server.evaluation.systems import TITLES
    from server.evaluation.verdict import read_preference

    found: dict[Role, Preference] = {}
    for text in judged:
        name, _, file = text.partition("=")
        role = next((role for role in TITLES if role == name), None)
        if role is None or not file:
            raise typer.BadParameter(
                f"{text!r} is not SYSTEM=FILE with one of {', '.join(TITLES)}",
                param_hint="--judged",
            )
        found[role] = read_preference(Path(file))
    return found


def _attach(settings: Settings, name: str, plan: Plan, path: Path) -> None:
    """Keep the report with the registered model of that name, or of that very file."""
    from models.imitation.errors import ModelUnknown
    from server.assembly import open_registry

    registry, model = open_registry(settings), plan.find("narrow")
    if model is not None and Path(name).is_file():
        entry = registry.find_file(model.sha256)
        if entry is None:
            raise ModelUnknown(
                f"{name} is not registered, so the report in {path} is attached to nothing; add"
                " the model with `mynah models add` and run the same command again.",
                param="model",
            )
        name = entry.name
    registry.attach_report(name, path)
    typer.echo(f"Attached the report to the model {name}.", err=True)


def _repeat(context: typer.Context) -> str:
    """The command that measures again, of the options that were given."""
    parts = ["mynah", "tune", "report"]
    for parameter in context.command.params:
        name, value = parameter.name or "", context.params.get(parameter.name or "")
        if name in ("as_json", "attach") or value is None or value == parameter.default:
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            text = str(getattr(item, "value", item))
            parts += [text] if name == "questions" else [f"--{name.replace('_', '-')}", text]
    return shlex.join(parts)


def _write_summary(found: dict[str, Any], out: Path) -> None:
    """The four conditions as a table, then every verdict in a sentence."""
    from server.evaluation.report_html import FIGURE_TITLES

    conditions = found["factuality"]["conditions"].values()
    rows = []
    for name, title in FIGURE_TITLES.items():
        figures = [c["figures"].get(name) for c in conditions]
        if any(figures):
            rows.append((title, *(_show(figure) for figure in figures)))
    write_table(("", *(c["title"].upper() for c in conditions)), rows)
    write()
    for system in found["style_and_knowledge"]["systems"].values():
        for verdict in system["verdicts"].values():
            write(printable(f"{system['title']}: {verdict['sentence']}"))
    write(found["factuality"]["gate_verdict"]["sentence"])
    write(found["style_and_knowledge"]["caveat"])
    write(f"Wrote {out / 'report.html'} and {out / 'report.json'}.")


def _show(figure: dict[str, float] | None) -> str:
    if figure is None:
        return "-"
    return f"{figure['mean']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"
