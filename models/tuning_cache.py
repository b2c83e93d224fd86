"""What `mynah tune-engine` found, kept in the data directory for later starts."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.engine_tuning import EngineTuning
from models.machine import Machine

logger = logging.getLogger("mynah.engine")

FILE_NAME = "engine.json"
_FORMAT = 1
# The least that `EngineSettings` takes.
_MIN_CHUNK = 16


class TuningCache:
    """The tunings of a data directory, by model, machine and what else changes speed.

    A damaged file is a miss: everything in it can be measured again.
    """

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / FILE_NAME

    def find(self, model: str, machine: Machine, variant: str) -> EngineTuning | None:
        """What was measured, None if nothing was."""
        row = self._read().get(_to_key(model, machine, variant))
        if row is None:
            return None
        try:
            return _parse(row)
        except (KeyError, TypeError, ValueError, AttributeError):
            logger.warning("%s is damaged; run `mynah tune-engine` again", self.path)
            return None

    def keep(self, model: str, machine: Machine, variant: str, tuning: EngineTuning) -> None:
        """Add a tuning, written aside and then renamed."""
        rows = {**self._read(), _to_key(model, machine, variant): asdict(tuning)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_suffix(".part")
        text = json.dumps({"format": _FORMAT, "tunings": rows}, indent=2)
        aside.write_text(text + "\n", encoding="utf-8")
        aside.replace(self.path)

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["format"] == _FORMAT:
                return dict(content["tunings"])
        except FileNotFoundError:
            return {}
        except (OSError, KeyError, TypeError, ValueError) as error:
            logger.warning("%s cannot be read (%s); run `mynah tune-engine`", self.path, error)
        return {}


def _to_key(model: str, machine: Machine, variant: str) -> str:
    return f"{model} on {machine.name}, {variant}"


def _parse(row: Mapping[str, Any]) -> EngineTuning:
    found = EngineTuning(
        int(row["num_threads"]),
        int(row["num_batch_threads"]),
        int(row["chunk_tokens"]),
        {str(what): dict(by_number) for what, by_number in row["speeds"].items()},
    )
    if min(found.num_threads, found.num_batch_threads) < 1 or found.chunk_tokens < _MIN_CHUNK:
        raise ValueError("out of range")
    return found
