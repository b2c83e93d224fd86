"""`mynah models`: the models at hand, and which of them is the default."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.commands.context import CommandContext
from server.commands.output import printable, write, write_json, write_table
from server.commands.progress import show_count
from server.commands.transfers import show_bytes, to_size

if TYPE_CHECKING:
    from models.quantizing import Quantization
    from models.registry import Registry
    from models.registry_entries import Entry

app = typer.Typer(
    help="List, fetch, quantize and choose models.", add_completion=False, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(help="Name of a model.", show_default=False)]
NewName = Annotated[
    str | None, typer.Option("--name", help="What to call it; by default after the file.")
]
Licence = Annotated[
    list[str] | None,
    typer.Option("--licence", help="A licence that holds for it; may be given again."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _check_type(value: str) -> str:
    from models.quantizing import KINDS

    if value.lower() not in KINDS:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(KINDS)}.")
    return value.lower()


@app.command("list")
def list_models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the models; the default one has a star."""
    from models.download import list_unfinished
    from models.gating import summarize_gate
    from models.registry_entries import BUNDLED

    registry = _open_registry(context)
    default = registry.default()
    name = default.name if default else BUNDLED
    entries = registry.list()
    if as_json:
        write_json([_to_json(entry, is_default=entry.name == name) for entry in entries])
        return
    write_table(
        ("NAME", "SIZE", "TYPE", "ORIGIN", "LICENCE", "DEFAULT", "REPORT"),
        [
            (
                entry.name,
                to_size(entry.size_bytes),
                entry.kind,
                entry.origin,
                _describe_licence(entry),
                "*" if entry.name == name else "",
                summarize_gate(entry),
            )
            for entry in entries
        ],
    )
    for text, num_bytes in list_unfinished(_downloads(registry)):
        _note(f"Unfinished: {to_size(num_bytes)} of {text}; pull it again to go on.")


@app.command("pull")
def pull_model(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="OWNER/REPO or OWNER/REPO:FILE of Hugging Face, or an http(s) address.",
            show_default=False,
        ),
    ],
    *,
    sha256: Annotated[
        str | None, typer.Option(help="SHA-256 that the file must have.", metavar="HEX")
    ] = None,
    name: NewName = None,
    licence: Licence = None,
    as_json: AsJson = False,
) -> None:
    """Download a GGUF; the same command goes on where it was cut off."""
    from models.download import download_gguf, normalize_sha256
    from models.download_sources import find_source
    from models.errors import ModelFileInvalid
    from models.registry_entries import to_name

    registry = _open_registry(context)
    expected = None if sha256 is None else normalize_sha256(sha256)
    if name is not None:
        registry.check_free(name)
    found = find_source(source)
    name = name or to_name(found.filename)
    registry.check_free(name)
    with show_bytes(sys.stderr) as show:
        done = download_gguf(
            found.url, _downloads(registry), sha256=expected, token=found.token, show=show
        )
    try:
        entry = registry.add(
            done.path,
            name,
            origin="pulled",
            licences=[*(licence or ()), *found.licences],
            details={"source": found.text, "checked_by": done.checked_by},
            is_moved=True,
        )
    except ModelFileInvalid:
        done.discard()
        raise
    done.discard()
    _report(entry, as_json, checked_by=done.checked_by)
    if done.checked_by is None:
        _note(
            f"Not verified: nobody told the SHA-256. It is {done.sha256}; compare it with one that"
            " you trust, or pass it as --sha256."
        )


@app.command("add")
def add_model(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="GGUF file to copy.", show_default=False)],
    *,
    name: NewName = None,
    licence: Licence = None,
    as_json: AsJson = False,
) -> None:
    """Add a GGUF file from this machine."""
    from models.registry_entries import to_name

    entry = _open_registry(context).add(
        path.expanduser(), name or to_name(path.name), origin="added", licences=licence or ()
    )
    _report(entry, as_json)


@app.command("quantize")
def quantize_model(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(help="Name of a model, or a GGUF file.", show_default=False)
    ],
    *,
    kind: Annotated[
        str,
        typer.Option("--type", help="Number format, such as q4_k_m.", callback=_check_type),
    ],
    name: NewName = None,
    licence: Licence = None,
    as_json: AsJson = False,
) -> None:
    """Make a smaller model of one that is there."""
    from models.quantizing import quantize
    from models.registry_entries import to_quantized_name

    registry = _open_registry(context)
    path, base = _find_source(registry, source)
    name = name or to_quantized_name(base or path.name, kind)
    registry.check_free(name)
    with registry.scratch() as folder:
        target = folder / "quantized.gguf"
        with _stopping_at_once(), show_count(sys.stderr, "tensors") as show:
            done = quantize(path, target, kind, show=lambda i, num: show(i, num, kind))
        entry = registry.add(
            target,
            name,
            origin="quantized",
            base=base,
            licences=licence or (),
            details={"num_tensors": done.num_tensors, "num_fallbacks": done.num_fallbacks},
            is_moved=True,
        )
    _report(
        entry,
        as_json,
        num_tensors=done.num_tensors,
        num_fallbacks=done.num_fallbacks,
        is_requantized=done.is_requantized,
    )
    _note_quality(done)


@app.command("use")
def use_model(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Make a model the default, or `bundled` again."""
    _report_default(_open_registry(context).use(name), as_json)


@app.command("rollback")
def roll_back(context: typer.Context, as_json: AsJson = False) -> None:
    """Make the default what it was before."""
    _report_default(_open_registry(context).rollback(), as_json)


@app.command("remove")
def remove_model(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Delete a model that is not the default."""
    entry = _open_registry(context).remove(name)
    if as_json:
        write_json({"removed": True, **_to_json(entry)})
    else:
        write(f"Removed {entry.name}: {to_size(entry.size_bytes)} are free again.")


def _open_registry(context: typer.Context) -> Registry:
    from server.assembly import open_registry

    options: CommandContext = context.obj
    return open_registry(options.load_settings())


def _downloads(registry: Registry) -> Path:
    return registry.folder / "downloads"


def _find_source(registry: Registry, source: str) -> tuple[Path, str | None]:
    """The file to quantize, and the registered model that it is."""
    from models.registry_folder import hash_file

    path = Path(source).expanduser()
    if not path.is_file():
        entry = registry.verify(source)
        return entry.path, entry.name
    twin = registry.find_file(hash_file(path))
    return path, twin.name if twin else None


@contextmanager
def _stopping_at_once() -> Iterator[None]:
    """Ctrl-C ends the process: llama.cpp asks nobody before it is done.

    The next command that changes the registry deletes what this one leaves.
    """
    former = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def _to_json(entry: Entry, **more: object) -> dict[str, object]:
    from models.gating import summarize_gate

    row = {**entry.to_json(), "path": str(entry.path), "gate": summarize_gate(entry)}
    return {**row, "report": None if entry.report is None else str(entry.report), **more}


def _report(entry: Entry, as_json: bool, **more: object) -> None:
    if as_json:
        write_json(_to_json(entry, **more))
        return
    write(f"Added {entry.name}: {to_size(entry.size_bytes)}, {entry.kind}.")
    write(f"SHA-256 {entry.sha256}")
    write(printable(f"Licence: {_describe_licence(entry)}"))


def _report_default(entry: Entry, as_json: bool) -> None:
    if as_json:
        write_json(_to_json(entry, is_default=True))
    else:
        write(f"{entry.name} is the default; a running `mynah serve` takes it at its next start.")
    if entry.is_non_commercial:
        _note(f"NON-COMMERCIAL: the licence of {entry.name} forbids commercial use.")


def _describe_licence(entry: Entry) -> str:
    text = ", ".join(entry.licences) or "unknown"
    return f"{text} (NON-COMMERCIAL)" if entry.is_non_commercial else text


def _note_quality(done: Quantization) -> None:
    if done.num_fallbacks:
        _note(
            f"{done.num_fallbacks} of {done.num_tensors} tensors took a larger type: their rows"
            f" are no multiple of the block of {done.kind}."
        )
    if done.is_requantized:
        _note("The source was quantized already; an f16 or bf16 source gives better results.")


def _note(text: str) -> None:
    typer.echo(printable(text), err=True)
