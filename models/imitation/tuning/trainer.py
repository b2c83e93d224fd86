"""The training loop: one optimizer step at a time, the same from any checkpoint on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.imitation.errors import RunDamaged, TrainingFailed
from models.imitation.tuning.checkpoint import FAMILIES
from models.imitation.tuning.masking import Example
from models.imitation.tuning.packing import Batch, collate
from models.imitation.tuning.settings import TrainSettings, learning_rate

Rows = Sequence[Sequence[Example]]


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step did. `loss`: nats per id of an answer; `num_tokens`: ids in its rows."""

    step: int
    loss: float
    lr: float
    grad_norm: float
    num_tokens: int


def picked_logits(model: Any, batch: Batch) -> Tensor:
    """Return float32 logits `[num_picks, vocab]` at the batch's picks."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    inputs = {
        "input_ids": batch.ids,
        "attention_mask": batch.mask,
        "position_ids": batch.positions,
        "use_cache": False,
    }
    if base.config.model_type in FAMILIES:
        # Logits of every id would take more memory than all the rest.
        hidden = base.model(**inputs).last_hidden_state.flatten(0, 1)
        logits: Tensor = base.lm_head(hidden[batch.picks])
    else:
        logits = base(**inputs).logits.flatten(0, 1)[batch.picks]
    return logits.float()


class Trainer:
    """A model in training. The batch and the dropout of a step depend on seed and step alone."""

    def __init__(
        self,
        model: Any,
        rows: Rows,
        settings: TrainSettings,
        *,
        held_out: Rows = (),
        device: str = "cpu",
    ) -> None:
        self.model = model
        self.settings = settings
        self.step = 0
        self._rows = rows
        # Few rows: a step takes each of them once, not one of them several times.
        self._rows_per_step = min(settings.batch_rows * settings.accumulate, len(rows))
        self._held_out = held_out
        self._device = torch.device(device)
        self._is_bf16 = settings.precision == "bf16"
        if settings.gradient_checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        self._trained = {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        matrices = [p for p in self._trained.values() if p.dim() > 1]
        vectors = [p for p in self._trained.values() if p.dim() <= 1]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": settings.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=settings.lr,
        )

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        wanted = math.ceil(self.settings.epochs * len(self._rows) / self._rows_per_step)
        return self.settings.max_steps or max(1, wanted)

    @property
    def num_trained(self) -> int:
        """Parameters that are trained."""
        return sum(parameter.numel() for parameter in self._trained.values())

    def advance(self) -> StepResult:
        """Take one optimizer step. Raises `TrainingFailed` where the loss is no number."""
        settings = self.settings
        self.model.train()
        torch.manual_seed((settings.seed << 32) + self.step)
        batches = self._batches(self.step)
        total = sum(float(batch.weights.sum()) for batch in batches)
        num_answer = sum(int((batch.weights == 1).sum()) for batch in batches)
        sum_answer = 0.0
        for batch in batches:
            losses = self._losses(batch)
            loss = (losses * batch.weights).sum() / total
            loss.backward()  # type: ignore[no-untyped-call]
            sum_answer += float(losses.detach()[batch.weights == 1].sum())
        mean = sum_answer / num_answer
        norm = float(torch.nn.utils.clip_grad_norm_(self._trained.values(), settings.clip))
        if not (math.isfinite(mean) and math.isfinite(norm)):
            raise TrainingFailed(
                f"the loss is no number any more at step {self.step + 1}; start again with a lower"
                f" --lr than {settings.lr:g}.",
                param="lr",
            )
        lr = learning_rate(self.step, self.num_steps, settings)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        num_tokens = sum(
            len(example.ids) for row in self._step_rows(self.step - 1) for example in row
        )
        return StepResult(self.step, mean, lr, norm, num_tokens)

    def evaluate(self) -> float | None:
        """Nats per id of an answer over the conversations held out; None where there are none."""
        if not self._held_out:
            return None
        self.model.eval()
        total, count = 0.0, 0
        with torch.no_grad():
            for start in range(0, len(self._held_out), self.settings.batch_rows):
                batch = collate(self._held_out[start : start + self.settings.batch_rows])
                batch = batch.to(self._device)
                total += float((self._losses(batch) * batch.weights).sum())
                count += int(batch.weights.sum())
        return total / count

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on, aside and then renamed."""
        state = {
            "step": self.step,
            "trained": dict(self._trained),
            "optimizer": self._optimizer.state_dict(),
        }
        aside = path.with_suffix(".part")
        torch.save(state, aside)
        aside.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint. Raises `RunDamaged` where it does not fit this run."""
        try:
            state = torch.load(path, map_location=self._device, weights_only=True)
            if state["trained"].keys() != self._trained.keys():
                raise ValueError("it has other parameters")
            with torch.no_grad():
                for name, parameter in self._trained.items():
                    parameter.copy_(state["trained"][name])
            self._optimizer.load_state_dict(state["optimizer"])
            self.step = int(state["step"])
        # torch.load raises what its reader, zip or pickle raise.
        except Exception as error:
            raise RunDamaged(
                f"{path} cannot be resumed ({' '.join(str(error).split())[:150]}); delete it to"
                " start again."
            ) from error

    def _losses(self, batch: Batch) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._is_bf16):
            logits = picked_logits(self.model, batch)
        return functional.cross_entropy(logits.float(), batch.targets, reduction="none")

    def _batches(self, step: int) -> list[Batch]:
        rows, size = self._step_rows(step), self.settings.batch_rows
        return [
            collate(rows[start : start + size], text_weight=self.settings.text_weight).to(
                self._device
            )
            for start in range(0, len(rows), size)
        ]

    def _step_rows(self, step: int) -> list[Sequence[Example]]:
        """The rows of a step: all rows in an order of the epoch's own, then those of the next."""
        size, found = len(self._rows), []
        start = step * self._rows_per_step
        for epoch in range(start // size, (start + self._rows_per_step - 1) // size + 1):
            order = np.random.default_rng((self.settings.seed, epoch)).permutation(size)
            first = max(start - epoch * size, 0)
            last = min(start + self._rows_per_step - epoch * size, size)
            found += [self._rows[index] for index in order[first:last]]
        return found
