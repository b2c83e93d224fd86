"""Low-rank adapters: small trained matrices beside frozen ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.imitation.tuning.libraries import prepare_libraries
from models.imitation.tuning.settings import TrainSettings


def add_adapters(model: Any, settings: TrainSettings) -> Any:
    """Return the model with adapters beside all its linear layers; only they are trained.

    The output matrix has none. Weights of the adapters depend on the seed alone.
    """
    prepare_libraries("peft", "transformers")
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(settings.seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        bias="none",
    )
    with _without_notices():
        return get_peft_model(model, config)


def save_adapters(model: Any, folder: Path) -> None:
    """Write the adapters alone, as peft reads them."""
    model.save_pretrained(str(folder), save_embedding_layers=False)


def merge_adapters(base: Any, folder: Path) -> Any:
    """Return `base` with the adapters in `folder` added to its weights."""
    prepare_libraries("peft", "transformers")
    from peft import PeftModel

    with _without_notices():
        return PeftModel.from_pretrained(base, str(folder)).merge_and_unload()


@contextmanager
def _without_notices() -> Iterator[None]:
    """The names of transformers that peft uses will be replaced; that is theirs to settle."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
