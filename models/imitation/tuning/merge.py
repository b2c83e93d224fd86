"""The trained checkpoint of a run, adapters merged into their base."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.imitation.errors import RunDamaged
from models.imitation.tuning.checkpoint import (
    TEMPLATE_FILE,
    Checkpoint,
    load_model,
    read_checkpoint,
    save_tokenizer,
)
from models.imitation.tuning.folder import RunFolder, base_of
from models.imitation.tuning.lora import merge_adapters


def merge(folder: RunFolder, record: Mapping[str, Any], *, device: str) -> tuple[Any, Checkpoint]:
    """Return the trained model in float32 and its checkpoint.

    Merged adapters are written to `RUN/merged`, a checkpoint that other tools read too. Raises
    `RunDamaged` for a run that is not finished or whose base is not there any more.
    """
    import torch

    if "result" not in record:
        raise RunDamaged(
            f"the run in {folder.path} is not finished; give `mynah tune train` the same options"
            " again to go on."
        )
    if record["settings"]["method"] == "full":
        return load_model(folder.weights, dtype=torch.float32, device=device), read_checkpoint(
            folder.weights
        )
    base = base_of(folder, record)
    model = merge_adapters(
        load_model(base.folder, dtype=torch.float32, device=device), folder.weights
    )
    model.eval()
    _write(model, base, (folder.weights / TEMPLATE_FILE).read_text(encoding="utf-8"), folder.merged)
    return model, read_checkpoint(folder.merged)


def _write(model: Any, base: Checkpoint, template: str, target: Path) -> None:
    aside = target.with_name(target.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(str(aside))
    save_tokenizer(base, template, aside)
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
