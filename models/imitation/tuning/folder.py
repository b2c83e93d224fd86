"""The folder of a run: where its files lie, and the record of what made them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.imitation.errors import RunDamaged
from models.imitation.tuning.checkpoint import Checkpoint, hash_checkpoint, read_checkpoint


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of a run."""

    path: Path

    @property
    def record(self) -> Path:
        return self.path / "run.json"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def weights(self) -> Path:
        """The trained checkpoint, or the adapters, with tokenizer and template."""
        return self.path / "model"

    @property
    def base(self) -> Path:
        """The untrained checkpoint of a run from scratch."""
        return self.path / "base"

    @property
    def merged(self) -> Path:
        """The checkpoint with its adapters merged, which an export writes."""
        return self.path / "merged"

    @property
    def exports(self) -> Path:
        return self.path / "export"

    @property
    def samples(self) -> Path:
        """Conversations that an export is measured on."""
        return self.path / "samples.jsonl"

    @property
    def losses(self) -> Path:
        return self.path / "loss.jsonl"

    @property
    def picture(self) -> Path:
        return self.path / "loss.png"

    def read(self) -> dict[str, Any]:
        """The run's record. Raises `RunDamaged`."""
        try:
            found = json.loads(self.record.read_text(encoding="utf-8"))
            if not isinstance(found, dict):
                raise ValueError("no object")
        except FileNotFoundError:
            raise RunDamaged(
                f"{self.path} holds no run: there is no run.json; give the --out folder of"
                " `mynah tune train`."
            ) from None
        except (OSError, ValueError) as error:
            raise RunDamaged(f"{self.record} cannot be read: {error}.") from None
        return found

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the run's record, aside and then renamed."""
        aside = self.record.with_suffix(".part")
        aside.write_text(json.dumps(record, ensure_ascii=False, indent=1), encoding="utf-8")
        aside.replace(self.record)


def base_of(folder: RunFolder, record: Mapping[str, Any]) -> Checkpoint:
    """Return the checkpoint that a run started from. Raises `RunDamaged` if it is another now."""
    named = record["base"]["path"]
    path = folder.base if named is None else Path(named)
    if not path.is_dir():
        raise RunDamaged(f"the run's base {path} is gone; put it back to merge the adapters.")
    if hash_checkpoint(path) != record["base"]["sha256"]:
        raise RunDamaged(f"the run's base {path} was changed since; put the old one back.")
    return read_checkpoint(path)
