"""`mynah tune train`: a checkpoint, or a new small model, on conversations."""

from __future__ import annotations

import sys
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.commands.output import write, write_error, write_json

if TYPE_CHECKING:
    from models.imitation.tuning.run import TrainRun
    from models.imitation.tuning.settings import TrainSettings


class Methods(StrEnum):
    """Which weights are trained."""

    lora = "lora"
    full = "full"


class Precisions(StrEnum):
    """What products are computed in."""

    auto = "auto"
    bf16 = "bf16"
    fp32 = "fp32"


_LR = {Methods.lora: 2e-4, Methods.full: 2e-5}
_LR_SCRATCH = 1e-3

Data = Annotated[
    list[Path], typer.Argument(help="Conversations (JSONL).", metavar="DATA...", show_default=False)
]
Out = Annotated[Path, typer.Option(help="Folder of the run; a stopped run goes on there.")]
Base = Annotated[
    Path | None, typer.Option(help="Hugging Face checkpoint to start from.", metavar="DIR")
]
FromScratch = Annotated[
    bool,
    typer.Option("--from-scratch", help="Start from a new small Llama with its own tokenizer."),
]
Method = Annotated[
    Methods | None,
    typer.Option(help="lora: adapters; full: all weights. [default: lora, from scratch full]"),
]
Template = Annotated[
    str | None,
    typer.Option(help="Chat template: a jinja file, or vicuna. [default: the checkpoint's]"),
]
BlockAttention = Annotated[
    bool, typer.Option("--block-attention", help="Passages do not see each other.")
]
MaxLength = Annotated[int, typer.Option(help="Tokens of a row; longer conversations are cut.")]
Packing = Annotated[
    bool, typer.Option(help="Several conversations in a row, unseen by each other.")
]
Epochs = Annotated[float, typer.Option(help="How often all conversations are taken.")]
MaxSteps = Annotated[int, typer.Option(help="Steps in the place of epochs; 0 for none.")]
BatchRows = Annotated[int, typer.Option(help="Rows computed at once.")]
Accumulate = Annotated[int, typer.Option(help="Batches that make one step.")]
Lr = Annotated[
    float | None,
    typer.Option(help="Highest learning rate. [default: lora 2e-4, full 2e-5, from scratch 1e-3]"),
]
Warmup = Annotated[float, typer.Option(help="Share of the steps in which the rate rises.")]
WeightDecay = Annotated[float, typer.Option(help="Weight decay of matrices.")]
Clip = Annotated[float, typer.Option(help="Largest norm of a gradient.")]
Rank = Annotated[int, typer.Option(help="Rank of the adapters.")]
Alpha = Annotated[int, typer.Option(help="Scale of the adapters, times their rank.")]
Dropout = Annotated[float, typer.Option(help="Dropout before the adapters.")]
TextWeight = Annotated[
    float, typer.Option(help="Weight of predicting what is no answer; 0.1 helps from scratch.")
]
HeldOut = Annotated[float, typer.Option(help="Share of conversations to measure on only.")]
EvalEvery = Annotated[int, typer.Option(help="Steps between measurements; 0 for ten in all.")]
Precision = Annotated[Precisions, typer.Option(help="auto: bf16 on a GPU that has it.")]
GradientCheckpointing = Annotated[
    bool, typer.Option("--gradient-checkpointing", help="Less memory, a third slower.")
]
Seed = Annotated[int, typer.Option(help="Equal seeds give equal runs.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
SaveEveryS = Annotated[float, typer.Option(help="Seconds between checkpoints.")]
Threads = Annotated[int, typer.Option(help="CPU threads; 0 for PyTorch's choice.")]
Vocab = Annotated[int, typer.Option(help="From scratch: most tokens of the vocabulary.")]
Width = Annotated[int, typer.Option(help="From scratch: width.")]
Layers = Annotated[int, typer.Option(help="From scratch: layers.")]
Heads = Annotated[int, typer.Option(help="From scratch: attention heads.")]
KvHeads = Annotated[int, typer.Option(help="From scratch: heads of keys and values.")]
Hidden = Annotated[int, typer.Option(help="From scratch: width inside the MLP.")]
Context = Annotated[int, typer.Option(help="From scratch: tokens of context.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the run's record as JSON.")]


def train(
    data: Data,
    *,
    out: Out,
    base: Base = None,
    from_scratch: FromScratch = False,
    method: Method = None,
    template: Template = None,
    block_attention: BlockAttention = False,
    max_length: MaxLength = 1024,
    packing: Packing = True,
    epochs: Epochs = 3.0,
    max_steps: MaxSteps = 0,
    batch_rows: BatchRows = 8,
    accumulate: Accumulate = 1,
    lr: Lr = None,
    warmup: Warmup = 0.03,
    weight_decay: WeightDecay = 0.0,
    clip: Clip = 1.0,
    rank: Rank = 8,
    alpha: Alpha = 16,
    dropout: Dropout = 0.05,
    text_weight: TextWeight = 0.0,
    held_out: HeldOut = 0.02,
    eval_every: EvalEvery = 0,
    precision: Precision = Precisions.auto,
    gradient_checkpointing: GradientCheckpointing = False,
    seed: Seed = 0,
    device: Device = "auto",
    save_every_s: SaveEveryS = 300.0,
    threads: Threads = 0,
    vocab: Vocab = 8192,
    width: Width = 384,
    layers: Layers = 8,
    heads: Heads = 6,
    kv_heads: KvHeads = 2,
    hidden: Hidden = 1024,
    context: Context = 2048,
    as_json: AsJson = False,
) -> None:
    """Train a model on the answers in conversations; the same command again resumes a stopped run.

    Writes the weights with tokenizer and template (model/), run.json, loss.jsonl and loss.png.
    """
    if (base is None) == (not from_scratch):
        raise typer.BadParameter("give either --base DIR or --from-scratch")
    chosen = dict(locals())
    method = method or (Methods.full if from_scratch else Methods.lora)
    if from_scratch and method == "lora":
        raise typer.BadParameter("--from-scratch trains all weights; leave --method lora out")
    from models.imitation.tuning.curve import show_curve
    from models.imitation.tuning.libraries import prepare_libraries
    from models.imitation.tuning.run import TrainPlan, TrainRun
    from models.imitation.tuning.scratch import ScratchShape

    prepare_libraries("torch")
    if threads:
        import torch

        torch.set_num_threads(threads)
    chosen |= {"method": str(method), "precision": str(precision)}
    chosen |= {"lr": lr or (_LR_SCRATCH if from_scratch else _LR[method])}
    shape = ScratchShape(vocab, width, layers, heads, kv_heads, hidden, context)
    run = TrainRun(
        TrainPlan(
            data=tuple(data),
            out=out,
            settings=_settings(chosen),
            base=base,
            scratch=shape if from_scratch else None,
            template=template,
            device=device,
            save_every_s=save_every_s,
        )
    )
    if not run.is_complete:
        _warn_of_family(run)
        typer.echo(_describe(run), err=True)
        try:
            with show_curve(sys.stderr) as show:
                run.train(show)
        except KeyboardInterrupt:
            trainer = run.trainer
            write_error(
                f"stopped at step {trainer.step} of {trainer.num_steps}; the same command goes on"
            )
            raise typer.Exit(130) from None
    if as_json:
        write_json(run.record)
    else:
        _write_result(run)


def _settings(chosen: dict[str, Any]) -> TrainSettings:
    from models.imitation.tuning.settings import TrainSettings

    return TrainSettings(**{field.name: chosen[field.name] for field in fields(TrainSettings)})


def _warn_of_family(run: TrainRun) -> None:
    """Say before the hours of training, not after them, that `mynah tune export` will refuse."""
    from models.imitation.errors import CheckpointUnsupported
    from models.imitation.tuning.convert import check_family

    try:
        check_family(run.checkpoint)
    except CheckpointUnsupported as error:
        write_error(f"it can be trained, but not exported: {error.message}")


def _describe(run: TrainRun) -> str:
    counts, trainer = run.counts, run.trainer
    left_out = [
        f"{counts[reason]} {reason.replace('_', ' ')}"
        for reason in ("too_long", "refused", "tool_calls", "no_answer", "turns_cut")
        if counts.get(reason)
    ]
    text = (
        f"{counts['conversations']} conversations, {counts.get('turns', 0)} answers in"
        f" {run.record['num_rows']} rows; {trainer.num_trained:,} parameters trained on"
        f" {run.device} in {run.settings.precision}, {trainer.num_steps} steps"
    )
    if left_out:
        text += f"; left out: {', '.join(left_out)}"
    if trainer.step:
        text += f"; going on at step {trainer.step}"
    return text


def _write_result(run: TrainRun) -> None:
    result = run.record["result"]
    held_out = result["held_out_loss"]
    ending = "" if held_out is None else f", {held_out:.4f} held out"
    write(f"Trained {result['num_steps']} steps: loss {result['loss']:.4f}{ending}.")
    write(f"Next: mynah tune export {run.folder.path} --name NAME --type q8_0")
