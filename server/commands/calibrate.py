"""`mynah calibrate`: when to refuse, learned from questions on the user's own documents."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.commands.context import CommandContext
from server.commands.output import write, write_error, write_json, write_table

if TYPE_CHECKING:
    from server.config import Settings
    from server.evaluation.questions import QuestionSet
    from server.evaluation.session import Source
    from server.grounding.abstention import Abstention
    from server.grounding.calibration import Calibration, Labelled

# Shares of falsely refused questions that the table shows beside the one asked for.
_SHOWN = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2)


def calibrate(
    context: typer.Context,
    questions: Annotated[
        Path,
        typer.Argument(
            help="Questions with `answerable` true or false: JSONL, or SQuAD 2.0 JSON.",
            show_default=False,
        ),
    ],
    *,
    collection: Annotated[
        str | None, typer.Option(help="Collection that holds their documents.", metavar="NAME")
    ] = None,
    docs: Annotated[
        Path | None, typer.Option(help="Folder of their documents.", metavar="DIR")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="GGUF file or name of a registered model.")
    ] = None,
    max_false: Annotated[
        float,
        typer.Option(help="Share of answerable questions that may be refused.", min=0.0, max=0.9),
    ] = 0.1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be kept, and keep nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Choose when to refuse, from questions of which it is known whether they have an answer."""
    if docs is not None and collection is not None:
        raise typer.BadParameter("give --docs or --collection, not both", param_hint="--docs")
    from server.assembly import find_model
    from server.evaluation.questions import read_question_set
    from server.evaluation.session import Source
    from server.grounding.calibration import Calibration, fingerprint
    from server.grounding.calibration import calibrate as calibrate_on

    options: CommandContext = context.obj
    settings = options.load_settings(model=model)
    path = find_model(settings)
    asked = read_question_set(questions)
    source = Source(docs, collection)
    source.check(asked)
    examples, current = _read_examples(settings, path, asked, source)
    chosen, refusals = calibrate_on(examples, current, max_false=max_false)
    found = Calibration(chosen, fingerprint(path), refusals, len(examples))
    if not dry_run:
        kept = found.save(settings.data_dir)
        typer.echo(f"Kept in {kept}; the next start of the server uses it.", err=True)
    if as_json:
        write_json(asdict(found))
    else:
        _write_table(examples, current, found, max_false)


def _read_examples(
    settings: Settings, path: Path, asked: QuestionSet, source: Source
) -> tuple[list[Labelled], Abstention]:
    """Every question with its signals, and the abstention in force without a calibration."""
    import asyncio

    from server.assembly import make_embedder, make_reader
    from server.commands.progress import show_count, show_ingest
    from server.evaluation.session import make_opener, open_material
    from server.evaluation.study import Plan
    from server.grounding.calibration import Labelled
    from server.grounding.grounder import GroundingService
    from server.grounding.types import GroundingScope

    embedder = make_embedder(settings)
    reader = make_reader(settings)
    with (
        tempfile.TemporaryDirectory(prefix="mynah-") as folder,
        show_ingest(sys.stderr) as show_files,
        open_material(
            Plan(asked, ()),
            source,
            embedder,
            data_dir=settings.data_dir,
            folder=Path(folder),
            progress=show_files,
            warn=write_error,
            reader=reader,
        ) as material,
        make_opener(settings, reader)(path) as (engine, rules),
        show_count(sys.stderr, "questions") as show,
    ):
        service = GroundingService(engine, material.retriever, embedder, rules)
        scope = GroundingScope(collections=(material.pool.collection,))

        async def read() -> list[Labelled]:
            examples = []
            for number, question in enumerate(asked.questions, 1):
                signals = await service.read_signals(question.messages, scope)
                examples.append(Labelled(signals, question.is_answerable))
                show(number, len(asked.questions), "")
            return examples

        return asyncio.run(read()), service.abstention


def _write_table(
    examples: list[Labelled], current: Abstention, found: Calibration, max_false: float
) -> None:
    from server.grounding.calibration import choose_threshold

    chances = [found.abstention.weigh(example.signals) for example in examples]
    rows = [
        (f"{r.min_evidence:.3f}", f"{r.unanswerable:.2f}", f"{r.answerable:.2f}")
        for share in _SHOWN
        for r in [choose_threshold(chances, examples, max_false=share)]
    ]
    write_table(("REFUSED BELOW", "UNANSWERABLE", "ANSWERABLE"), rows)
    kind = "threshold" if found.abstention.weights == current.weights else "weights and threshold"
    chosen = found.refusals
    write(
        f"Chosen over {found.num_questions} questions, {kind}: below {chosen.min_evidence:.3f}"
        f" {chosen.unanswerable:.2f} of the unanswerable and {chosen.answerable:.2f} of the"
        f" answerable are refused (at most {max_false:.2f} were allowed)."
    )
