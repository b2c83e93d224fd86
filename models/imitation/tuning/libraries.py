"""The libraries of the `tune` extra, imported late and kept from the network."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from models.imitation.errors import ExtraMissing

_SWITCHES = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}


def prepare_libraries(*packages: str) -> None:
    """Switch downloads off and check that `packages` are there; call it before importing them.

    Raises `ExtraMissing` naming what to install.
    """
    for name, value in _SWITCHES.items():
        os.environ.setdefault(name, value)
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ExtraMissing(
            f"{', '.join(missing)} cannot be imported; install Mynah with its extra `tune`"
            " (pip install 'mynah[tune]')."
        )
    if "transformers" in packages:
        from transformers.utils import logging

        chatter: Any = logging
        chatter.set_verbosity_error()
        chatter.disable_progress_bar()
