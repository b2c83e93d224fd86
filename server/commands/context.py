"""What the options before the command's name say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from server.config import Settings


@dataclass(frozen=True, slots=True)
class CommandContext:
    """`--data-dir` and `--config`; None means not given."""

    data_dir: Path | None = None
    config: Path | None = None

    def load_settings(self, **options: Any) -> Settings:
        """The settings with a command's own options on top. Raises `ConfigInvalid`."""
        # pydantic takes longer to import than `--help` may take.
        from server.config import load_settings

        return load_settings(config=self.config, data_dir=self.data_dir, **options)
