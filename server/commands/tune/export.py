"""`mynah tune export`: a run's model as GGUF files, compared with it and registered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.commands.context import CommandContext
from server.commands.output import write, write_json, write_table

if TYPE_CHECKING:
    from models.imitation.tuning.export import ExportReport

Run = Annotated[Path, typer.Argument(help="Folder of a finished run.", show_default=False)]
Name = Annotated[str, typer.Option(help="Name of the model; each file is NAME-TYPE.")]
Types = Annotated[
    list[str] | None,
    typer.Option(
        "--type", help="f16, q8_0, q6_k, q5_k_m, q4_k_m, ...; may be repeated. [default: q8_0]"
    ),
]
Register = Annotated[bool, typer.Option(help="Put the files into the registry of models.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the files. [default: RUN/export]")]
Texts = Annotated[
    list[Path] | None,
    typer.Option(help="Plain text to measure perplexity on. [default: the run's own answers]"),
]
Device = Annotated[str, typer.Option(help="Where the checkpoint runs: auto, cpu or cuda.")]
Threads = Annotated[int, typer.Option(help="CPU threads; 0 for all.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def export(
    context: typer.Context,
    run: Run,
    *,
    name: Name,
    types: Types = None,
    register: Register = True,
    out: Out = None,
    texts: Texts = None,
    device: Device = "auto",
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Make GGUF files of a run: merge, convert, compare, quantize, measure and register.

    Nothing is registered unless 1,000 strings have the same tokens as in the checkpoint and 95 %
    of 50 greedy texts are equal. A model card is written beside the files.
    """
    from models.imitation.tuning.export import ExportPlan
    from models.imitation.tuning.export import export as export_run
    from models.registry import Registry
    from models.registry_entries import check_name

    check_name(name)
    options: CommandContext = context.obj
    registry = Registry(options.load_settings().data_dir / "models") if register else None
    plan = ExportPlan(
        run=run,
        name=name,
        kinds=tuple(dict.fromkeys(kind.lower() for kind in types or ["q8_0"])),
        out=out,
        registry=registry,
        texts=tuple(texts or ()),
        device=device,
        num_threads=threads,
    )
    report = export_run(plan, lambda text: typer.echo(f"{text} ...", err=True))
    if as_json:
        write_json(report.to_json())
    else:
        _write(report)


def _write(report: ExportReport) -> None:
    from models.imitation.tuning.card import change_of

    parity = report.parity
    write(
        f"Equal to the checkpoint: {parity.num_equal_strings} of {parity.num_strings} strings,"
        f" {parity.num_equal_prompts} of {parity.num_prompts} greedy texts."
    )
    rows = [
        (
            file.kind,
            file.size_bytes,
            f"{file.perplexity.value:.4f}",
            f"{change_of(file, report.reference):+.2%}",
            file.entry or "-",
            file.file,
        )
        for file in report.files
    ]
    write_table(("TYPE", "BYTES", "PERPLEXITY", "AGAINST F16", "REGISTERED", "FILE"), rows)
    if report.is_non_commercial:
        write(f"Non-commercial: {'; '.join(report.licences)}.")
    write(f"Files and card: {report.folder}")
