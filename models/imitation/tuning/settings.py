"""How a run trains: everything that its result depends on besides data and base."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from models.imitation.errors import TrainingFailed

Method = Literal["lora", "full"]
Precision = Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Settings of `mynah tune train`.

    Defaults of LoRA are those of Vicuna's script (rank 8, alpha 16, dropout 0.05), the schedule is
    Alpaca's and Vicuna's (3 epochs, warm-up 3 %, cosine, no weight decay). `max_length` counts ids
    of a row; `batch_rows` rows are taken `accumulate` times for a step. `text_weight` is the weight
    of predicting what is no answer. `max_steps` 0: as many as `epochs` make. `eval_every` 0: ten
    times in the run. `held_out` is the share of conversations kept back to measure on.
    """

    method: Method = "lora"
    max_length: int = 1024
    packing: bool = True
    block_attention: bool = False
    epochs: float = 3.0
    max_steps: int = 0
    batch_rows: int = 8
    accumulate: int = 1
    lr: float = 2e-4
    warmup: float = 0.03
    weight_decay: float = 0.0
    clip: float = 1.0
    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    text_weight: float = 0.0
    held_out: float = 0.02
    eval_every: int = 0
    precision: Precision = "auto"
    gradient_checkpointing: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises `TrainingFailed` naming the setting that is out of range."""
        bounds: dict[str, tuple[float, float]] = {
            "max_length": (8, math.inf),
            "epochs": (0.01, math.inf),
            "max_steps": (0, math.inf),
            "batch_rows": (1, math.inf),
            "accumulate": (1, math.inf),
            "lr": (1e-9, 10.0),
            "warmup": (0.0, 1.0),
            "weight_decay": (0.0, 1.0),
            "clip": (1e-6, math.inf),
            "rank": (1, 4096),
            "alpha": (1, math.inf),
            "dropout": (0.0, 0.9),
            "text_weight": (0.0, 1.0),
            "held_out": (0.0, 0.5),
            "eval_every": (0, math.inf),
        }
        for name, (least, most) in bounds.items():
            value = float(getattr(self, name))
            if not least <= value <= most:
                raise TrainingFailed(
                    f"{name} is {value:g}; it must be from {least:g} to {most:g}.", param=name
                )

    def to_json(self) -> dict[str, Any]:
        """The settings as a JSON object."""
        return asdict(self)


def learning_rate(step: int, num_steps: int, settings: TrainSettings) -> float:
    """The rate of a step, from 0: linear warm-up, then a half cosine down to 0."""
    num_warmup = math.ceil(settings.warmup * num_steps)
    if step < num_warmup:
        return settings.lr * (step + 1) / num_warmup
    share = (step - num_warmup) / max(1, num_steps - num_warmup)
    return settings.lr * 0.5 * (1.0 + math.cos(math.pi * share))
