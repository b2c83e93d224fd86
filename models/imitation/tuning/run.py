"""A run of training in a folder: data in, weights and the record of what made them out."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.imitation.conversations import Conversation, read_conversations, write_conversations
from models.imitation.errors import CheckpointUnsupported, RunDamaged, TrainingDataInvalid
from models.imitation.tuning.checkpoint import (
    choose_device,
    hash_checkpoint,
    hash_files,
    hash_text,
    load_model,
    read_checkpoint,
    save_tokenizer,
)
from models.imitation.tuning.curve import LossLog, Point, Show, draw_png
from models.imitation.tuning.folder import RunFolder
from models.imitation.tuning.libraries import prepare_libraries
from models.imitation.tuning.lora import add_adapters, save_adapters
from models.imitation.tuning.masking import Encoder, Example
from models.imitation.tuning.packing import pack
from models.imitation.tuning.scratch import ScratchShape, make_checkpoint, texts_of
from models.imitation.tuning.settings import TrainSettings
from models.imitation.tuning.templates import choose_template, make_tokenizer

if TYPE_CHECKING:
    from models.imitation.tuning.trainer import Trainer

_NUM_SAMPLES = 50
# What must be equal for a run to go on from its checkpoint.
_IDENTITY = ("base", "data", "template", "settings")


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """What to train on what: `base` is a checkpoint's folder, or `scratch` the shape of a new one.

    `template`: None for the checkpoint's own, a name or a file. `device` as in PyTorch, or `auto`.
    """

    data: tuple[Path, ...]
    out: Path
    settings: TrainSettings
    base: Path | None = None
    scratch: ScratchShape | None = None
    template: str | None = None
    device: str = "auto"
    save_every_s: float = 300.0


class TrainRun:
    """Prepares everything up to the first step; `train` takes the steps that are left.

    Raises `TrainingDataInvalid`, `CheckpointUnsupported`, `TrainingFailed`, `ExtraMissing`, and
    `RunDamaged` where the folder holds another run.
    """

    def __init__(self, plan: TrainPlan) -> None:
        prepare_libraries("torch", "transformers", "tokenizers", "peft", "matplotlib")
        self.plan = plan
        self.device = choose_device(plan.device)
        self.settings = _resolve(plan.settings, self.device)
        self.folder = RunFolder(plan.out)
        self._conversations = [c for path in plan.data for c in _read(path)]
        plan.out.mkdir(parents=True, exist_ok=True)
        self.checkpoint = read_checkpoint(self._find_base())
        self.template = choose_template(self.checkpoint, plan.template)
        self._length = length = min(self.settings.max_length, self.checkpoint.max_length)
        tokenizer = make_tokenizer(self.checkpoint, self.template)
        self._encoder = Encoder(tokenizer, length, block_attention=self.settings.block_attention)
        kept, held_out = split(self._conversations, self.settings.held_out)
        self._examples = list(self._encoder.encode_all(kept))
        self.counts = dict(self._encoder.counts)
        if not self._examples:
            raise TrainingDataInvalid(
                f"no conversation can be trained on: {json.dumps(self.counts)}; see --max-length"
                " and the template."
            )
        self._held_out = list(self._encoder.encode_all(held_out))
        self._rows = self._to_rows(self._examples, length)
        self.record = self._describe(tokenizer.vocabulary.num_vocab)
        self._check_folder()
        write_conversations(self.folder.samples, _sample(held_out, kept, self.settings.seed))

    def _find_base(self) -> Path:
        if self.plan.base is not None:
            return self.plan.base
        if self.plan.scratch is None:
            raise CheckpointUnsupported(
                "name a checkpoint's folder with --base, or start with --from-scratch.",
                param="base",
            )
        texts = texts_of(self._conversations)
        make_checkpoint(self.folder.base, texts, self.plan.scratch, self.settings.seed)
        return self.folder.base

    def _to_rows(self, examples: Sequence[Example], length: int) -> list[list[Example]]:
        if not self.settings.packing:
            return [[example] for example in examples]
        return pack(examples, length, random.Random(self.settings.seed))

    def _describe(self, num_vocab: int) -> dict[str, Any]:
        scratch, base = self.plan.scratch, self.plan.base
        provenance = [c.provenance for c in self._conversations]
        named = {str(p["license"]) for p in provenance if p.get("license")}
        licences = sorted({*named, *filter(None, [self.checkpoint.licence])})
        return {
            "version": 1,
            "base": {
                "path": None if base is None else str(base.resolve()),
                "from_scratch": None if scratch is None else asdict(scratch),
                "family": self.checkpoint.family,
                "num_vocab": num_vocab,
                "sha256": hash_checkpoint(self.checkpoint.folder),
            },
            "data": {
                "files": [path.name for path in self.plan.data],
                "sha256": hash_files(list(self.plan.data)),
            },
            "template": {
                "source": self.plan.template or "checkpoint",
                "sha256": hash_text(self.template),
                "end_ids": list(self._encoder.turn_end.ids),
            },
            "settings": self.settings.to_json(),
            "seed": self.settings.seed,
            "licences": licences,
            "teachers": sorted({str(p["teacher"]) for p in provenance if p.get("teacher")}),
            "counts": self.counts,
            "num_rows": len(self._rows),
            "num_held_out": len(self._held_out),
        }

    def _check_folder(self) -> None:
        if self.folder.record.exists():
            found = self.folder.read()
            other = [
                key for key in _IDENTITY if _identity(found, key) != _identity(self.record, key)
            ]
            if other:
                raise RunDamaged(
                    f"{self.folder.path} holds a run with another {' and '.join(other)}; give"
                    " another --out, or delete the folder to start again."
                )
            self.record = found
            return
        self.folder.write(self.record)

    @property
    def is_complete(self) -> bool:
        """Whether all steps were taken and the weights are saved."""
        return "result" in self.record

    @cached_property
    def trainer(self) -> Trainer:
        """The trainer at its last checkpoint; loads the weights."""
        import torch

        from models.imitation.tuning.trainer import Trainer

        settings = self.settings
        # Frozen weights lose nothing that matters in half the memory.
        is_half = settings.method == "lora" and settings.precision == "bf16"
        dtype = torch.bfloat16 if is_half and self.device != "cpu" else torch.float32
        model = load_model(self.checkpoint.folder, dtype=dtype, device=self.device)
        self._check_vocabulary(int(model.get_input_embeddings().weight.shape[0]))
        if settings.method == "lora":
            model = add_adapters(model, settings)
        held_out = self._to_rows(self._held_out, self._length)
        trainer = Trainer(model, self._rows, settings, held_out=held_out, device=self.device)
        if self.folder.checkpoint.exists():
            trainer.load(self.folder.checkpoint)
        return trainer

    def _check_vocabulary(self, num_rows: int) -> None:
        num_vocab = int(self.record["base"]["num_vocab"])
        if num_vocab > num_rows:
            raise CheckpointUnsupported(
                f"{self.checkpoint.folder}: the tokenizer has {num_vocab} tokens, the weights only"
                f" {num_rows}.",
                param="base",
            )

    def train(self, show: Show | None = None) -> dict[str, Any]:
        """Take the steps that are left, save the weights and return the run's record.

        Stopped by Ctrl-C or a failure of `show`, it saves a checkpoint to go on from.
        """
        trainer, settings = self.trainer, self.settings
        log = LossLog(self.folder.losses, num_steps_done=trainer.step)
        every = settings.eval_every or max(1, trainer.num_steps // 10)
        saved_s = time.monotonic()
        try:
            while trainer.step < trainer.num_steps:
                started_s = time.monotonic()
                done = trainer.advance()
                rate = done.num_tokens / max(time.monotonic() - started_s, 1e-9)
                is_due = done.step % every == 0 or done.step == trainer.num_steps
                measured = trainer.evaluate() if is_due else None
                log.append(Point(done.step, done.loss, done.lr, done.grad_norm, rate, measured))
                if show is not None:
                    show(log.points, trainer.num_steps)
                if time.monotonic() - saved_s >= self.plan.save_every_s:
                    trainer.save(self.folder.checkpoint)
                    draw_png(log.points, self.folder.picture)
                    saved_s = time.monotonic()
        finally:
            trainer.save(self.folder.checkpoint)
            if log.points:
                draw_png(log.points, self.folder.picture)
        self._save_weights()
        last = log.points[-1]
        held_out = [p.held_out for p in log.points if p.held_out is not None]
        self.record["result"] = {
            "num_steps": trainer.step,
            "num_trained_parameters": trainer.num_trained,
            "loss": last.loss,
            "held_out_loss": held_out[-1] if held_out else None,
        }
        self.folder.write(self.record)
        return self.record

    def _save_weights(self) -> None:
        model = self.trainer.model
        if self.settings.method == "lora":
            save_adapters(model, self.folder.weights)
        else:
            model.save_pretrained(str(self.folder.weights))
        save_tokenizer(self.checkpoint, self.template, self.folder.weights)


def _resolve(settings: TrainSettings, device: str) -> TrainSettings:
    if settings.precision != "auto":
        return settings
    import torch

    is_bf16 = device.startswith("cuda") and torch.cuda.is_bf16_supported()
    return replace(settings, precision="bf16" if is_bf16 else "fp32")


def _read(path: Path) -> list[Conversation]:
    try:
        return list(read_conversations(path))
    except OSError as error:
        raise TrainingDataInvalid(f"{path} cannot be read: {error.strerror}.") from None


def _identity(record: Mapping[str, Any], key: str) -> Any:
    """Where a file lies does not matter, only what it holds."""
    part = record.get(key)
    return part.get("sha256", part) if isinstance(part, dict) else part


def split(
    conversations: Sequence[Conversation], share: float
) -> tuple[list[Conversation], list[Conversation]]:
    """Return conversations to train on and a `share` held out, chosen by their ids alone."""
    kept: list[Conversation] = []
    held_out: list[Conversation] = []
    for conversation in conversations:
        digest = hashlib.sha256(conversation.id.encode("utf-8", "replace")).digest()
        is_out = int.from_bytes(digest[:8], "big") < share * 2**64
        (held_out if is_out else kept).append(conversation)
    return (kept, held_out) if kept else (held_out, [])


def _sample(
    held_out: Sequence[Conversation], kept: Sequence[Conversation], seed: int
) -> list[Conversation]:
    rng = random.Random(seed)
    found = rng.sample(held_out, min(_NUM_SAMPLES, len(held_out)))
    return found + rng.sample(kept, min(_NUM_SAMPLES - len(found), len(kept)))
