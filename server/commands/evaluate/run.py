"""`mynah eval FILE`: how well the search and the answers do on a file of questions."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.commands.ask import ModelOption
from server.commands.context import CommandContext
from server.commands.evaluate.summary import shorten, write_summary
from server.commands.output import write_error, write_json
from server.commands.tune.report import GroundedMode

if TYPE_CHECKING:
    from server.config import Settings
    from server.evaluation.conditions import ConditionName
    from server.evaluation.measuring.thresholds import Threshold
    from server.evaluation.session import Source
    from server.evaluation.study import Plan

# Exit codes beside 0 (done), 1 (failed) and 2 (wrong usage).
THRESHOLD_MISSED = 3
_CONDITIONS = "retrieved,gold,wrong,closed_book"


def run(
    context: typer.Context,
    questions: Annotated[
        Path,
        typer.Argument(
            help="Questions: JSONL, or SQuAD 1.1/2.0 JSON.", metavar="FILE", show_default=False
        ),
    ],
    *,
    collection: Annotated[
        str | None,
        typer.Option(
            help="Collection to ask about; by default the only one there is.", metavar="NAME"
        ),
    ] = None,
    docs: Annotated[
        Path | None,
        typer.Option(help="Folder to ask about, taken into an index under OUT.", metavar="DIR"),
    ] = None,
    mode: Annotated[
        GroundedMode | None, typer.Option(help="How to answer; the setting says by default.")
    ] = None,
    model: ModelOption = None,
    limit: Annotated[
        int | None, typer.Option(help="Ask so many of the questions, drawn evenly.", min=1)
    ] = None,
    conditions: Annotated[
        str,
        typer.Option(
            help="What stands in the prompt: what the search finds, the right passage among near"
            " misses, near misses alone, nothing. `none` measures the search alone.",
            metavar="LIST",
        ),
    ] = _CONDITIONS,
    out: Annotated[
        Path, typer.Option(help="Folder of eval.html, eval.json and the answers.", metavar="DIR")
    ] = Path("mynah-eval"),
    fail_under: Annotated[
        str | None,
        typer.Option(
            help="Leave with code 3 if a figure is lower, as in"
            " recall@5=0.9,containment=0.6,gold.containment=0.8,follow_up.mrr=0.7.",
            metavar="LIST",
        ),
    ] = None,
    fail_over: Annotated[
        str | None,
        typer.Option(
            help="The same if a figure is higher, as in false_abstention=0.1,whole_p95_ms=3000.",
            metavar="LIST",
        ),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(help="eval.json of another run over the same questions.", metavar="FILE"),
    ] = None,
    distractors: Annotated[
        int, typer.Option(help="Near misses beside the gold passage.", min=0, max=63)
    ] = 3,
    answer_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.", min=1)] = 256,
    seed: Annotated[int, typer.Option(help="Of the order of the passages.")] = 0,
    parallel: Annotated[
        int,
        typer.Option(help="Questions asked at once; times are those of one person at 1.", min=1),
    ] = 1,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ask again what an earlier run in OUT has asked.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure search and answers on your own questions; an interrupted run goes on.

    Leaves with 0, or 3 if a figure is beyond --fail-under or --fail-over, 1 if the measurement
    failed, 2 for wrong usage.
    """
    if docs is not None and collection is not None:
        raise typer.BadParameter("give --docs or --collection, not both", param_hint="--docs")
    from server.evaluation.measuring.comparison import read_report
    from server.evaluation.questions import read_question_set
    from server.evaluation.session import find_source, find_system
    from server.evaluation.study import Plan

    options: CommandContext = context.obj
    thresholds = _read_thresholds(fail_under, fail_over)
    names = _read_conditions(conditions)
    settings = options.load_settings(grounding_mode=mode.value if mode else None, model=model)
    asked = read_question_set(questions).take(limit)
    other = read_report(compare) if compare is not None else None
    source = find_source(settings, asked, docs, collection)
    plan = Plan(
        questions=asked if source.collection is None else asked.detach(),
        systems=(find_system(settings, "model", _name_model(settings)),),
        num_distractors=distractors,
        seed=seed,
        answer_tokens=answer_tokens,
        conditions=names,
        num_at_once=parallel,
    )
    if fresh:
        for log in (out / "answers").glob("model.*.jsonl"):
            log.unlink()
    found = _measure(
        settings,
        plan,
        source,
        out,
        thresholds=thresholds,
        other=other,
        command=_repeat(context),
    )
    if as_json:
        write_json(shorten(found))
    else:
        write_summary(found, out)
    missed = [row for row in found["thresholds"] if not row["is_kept"]]
    for row in missed:
        figure = "was not measured" if row["found"] is None else f"is {row['found']:.3f}"
        write_error(f"{row['name']} {figure}, wanted {row['kind']} {row['bound']}")
    if missed:
        raise typer.Exit(THRESHOLD_MISSED)


def _measure(
    settings: Settings,
    plan: Plan,
    source: Source,
    out: Path,
    *,
    thresholds: list[Threshold],
    other: dict[str, Any] | None,
    command: str,
) -> dict[str, Any]:
    """Search, ask, score, and write `eval.json` and `eval.html` into `out`."""
    import os
    from importlib.metadata import version

    from server.assembly import make_embedder, make_reader, resolve_mode
    from server.commands.progress import show_count, show_ingest
    from server.evaluation.measuring.comparison import compare_reports
    from server.evaluation.measuring.report import Circumstances, build_measurement
    from server.evaluation.measuring.retrieval import measure_retrieval
    from server.evaluation.session import make_opener, open_material
    from server.evaluation.study import Results, run_study

    mode = resolve_mode(settings)
    settings = settings.model_copy(update={"grounding_mode": "answer" if mode == "off" else mode})
    embedder = make_embedder(settings)
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
        pool = material.pool
        retrieval = measure_retrieval(
            plan.questions.questions,
            pool,
            material.retriever,
            lambda done, num: display(done, num, "search"),
        )
        results = Results()
        if plan.conditions:
            results = run_study(
                plan,
                material,
                embedder,
                make_opener(settings, reader),
                folder=out / "answers",
                progress=lambda title, done, num: display(done, num, title),
            )
        circumstances = Circumstances(
            mode=settings.grounding_mode,
            documents={"num_documents": pool.num_documents, "num_passages": pool.num_passages},
            unlocated=material.exhibits.unlocated,
            unproven=material.exhibits.unproven,
            embedder=embedder.identity.model,
            num_cores=os.cpu_count() or 0,
            command=command,
            measured_at=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            version=version("mynah"),
        )
    found = build_measurement(plan, plan.systems[0], results, retrieval, circumstances)
    found["thresholds"] = [threshold.check(found) for threshold in thresholds]
    if other is not None:
        found["comparison"] = compare_reports(found, other)
    _write_files(found, out)
    return found


def _write_files(found: dict[str, Any], out: Path) -> None:
    from server.evaluation.measuring.page import render_measurement

    out.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("eval.json", json.dumps(found, ensure_ascii=False, indent=1) + "\n"),
        ("eval.html", render_measurement(found)),
    ):
        aside = out / f"{name}.part"
        aside.write_text(text, encoding="utf-8")
        aside.replace(out / name)


def _read_thresholds(fail_under: str | None, fail_over: str | None) -> list[Threshold]:
    from models.imitation.errors import TrainingDataInvalid
    from server.evaluation.measuring.thresholds import read_thresholds

    found = []
    for option, text in (("--fail-under", fail_under), ("--fail-over", fail_over)):
        try:
            found += read_thresholds(text or "", is_upper=option == "--fail-over")
        except TrainingDataInvalid as error:
            raise typer.BadParameter(error.message, param_hint=option) from None
    return found


def _read_conditions(text: str) -> tuple[ConditionName, ...]:
    from server.evaluation.conditions import CONDITIONS

    if text.strip() == "none":
        return ()
    names = [name.strip().replace("-", "_") for name in text.split(",") if name.strip()]
    known: dict[str, ConditionName] = {condition.name: condition.name for condition in CONDITIONS}
    for name in names:
        if name not in known:
            raise typer.BadParameter(
                f"there is no condition {name!r}; use {', '.join(known)}, or none",
                param_hint="--conditions",
            )
    return tuple(known[name] for name in dict.fromkeys(names))


def _name_model(settings: Settings) -> str:
    from server.assembly import find_model

    return str(find_model(settings))


def _repeat(context: typer.Context) -> str:
    """The command that measures again, with the options that were given."""
    parts = ["mynah", "eval"]
    for parameter in context.command.params:
        name, value = parameter.name or "", context.params.get(parameter.name or "")
        if name in ("as_json", "fresh") or value is None or value == parameter.default:
            continue
        text = str(getattr(value, "value", value))
        parts += [text] if name == "questions" else [f"--{name.replace('_', '-')}", text]
    return shlex.join(parts)
