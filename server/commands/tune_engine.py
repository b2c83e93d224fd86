"""`mynah tune-engine`: threads and chunk size that suit the model and the machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from server.commands.ask import ModelOption
from server.commands.context import CommandContext
from server.commands.output import write, write_json, write_table

if TYPE_CHECKING:
    from models.engine_tuning import EngineTuning


def tune_engine(
    context: typer.Context,
    *,
    model: ModelOption = None,
    seconds: Annotated[
        float, typer.Option(help="Time to measure for.", min=1.0, max=3600.0)
    ] = 30.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be kept, and keep nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure which threads and chunk size suit this machine; later starts use them.

    Do it while the machine does nothing else.
    """
    options: CommandContext = context.obj
    settings = options.load_settings(model=model)
    from models.engine_tuning import make_measured_settings, measure_tuning
    from models.machine import read_machine
    from models.tuning_cache import TuningCache
    from server.assembly import find_model
    from server.engine_options import choose_gpu_layers, to_variant
    from server.grounding.calibration import fingerprint

    path = find_model(settings)
    machine = read_machine()
    num_gpu_layers = choose_gpu_layers(settings)
    measured = make_measured_settings(path, num_gpu_layers=num_gpu_layers, kv_type=settings.kv_type)
    tuning = measure_tuning(measured, machine, seconds)
    cache = TuningCache(settings.data_dir)
    if not dry_run:
        variant = to_variant(settings, num_gpu_layers)
        cache.keep(fingerprint(path), machine, variant, tuning)
        typer.echo(f"Kept in {cache.path}; the next start of the server uses it.", err=True)
    if as_json:
        write_json({"model": str(path), "machine": machine.name, **asdict(tuning)})
    else:
        _write_table(tuning, machine.name)


def _write_table(tuning: EngineTuning, machine: str) -> None:
    chosen = {
        "decode by threads": tuning.num_threads,
        "prefill by threads": tuning.num_batch_threads,
        "prefill by chunk": tuning.chunk_tokens,
    }
    rows = [
        (int(number), f"{speed:.1f}", what, "chosen" if int(number) == chosen[what] else "")
        for what, speeds in tuning.speeds.items()
        for number, speed in speeds.items()
    ]
    write_table(("NUMBER", "TOKENS/S", "OF", ""), rows)
    write(
        f"On {machine}: {tuning.num_threads} threads to decode, {tuning.num_batch_threads} for"
        f" prompts, chunks of {tuning.chunk_tokens} tokens."
    )
