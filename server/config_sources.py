"""Where settings stand: environment variables and a TOML file, every name checked."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from server.errors import ConfigInvalid

PREFIX = "MYNAH_"
# Read by the command line itself, not settings.
OTHER_VARIABLES = frozenset({"MYNAH_CONFIG", "MYNAH_DEBUG", "MYNAH_TEACHER_API_KEY"})


def read_environment(variables: Mapping[str, str], known: Iterable[str]) -> dict[str, str]:
    """The settings among `variables`, by their names. Raises `ConfigInvalid` for one unknown."""
    names = {f"{PREFIX}{name.upper()}": name for name in known}
    found = {}
    for variable, value in variables.items():
        if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES:
            continue
        if variable not in names:
            hint = _suggest(variable, [*names, *OTHER_VARIABLES])
            raise ConfigInvalid(f"there is no setting {variable}{hint}.", param=variable)
        # An empty variable is how shells and compose files say "not set".
        if value:
            found[names[variable]] = value
    return found


def read_file(path: Path, known: Collection[str]) -> dict[str, Any]:
    """The settings of a TOML file. Raises `ConfigInvalid`."""
    try:
        with path.expanduser().open("rb") as file:
            values = tomllib.load(file)
    except FileNotFoundError:
        raise ConfigInvalid(
            f"there is no configuration file {path}{_suggest_file(path)}.", param="config"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigInvalid(f"cannot read {path}: {reason}.", param="config") from None
    for name in values:
        if name not in known:
            hint = _suggest(name, known)
            raise ConfigInvalid(f"{path}: there is no setting {name}{hint}.", param=name)
    return values


def _suggest(name: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]}" if matches else ""


def _suggest_file(path: Path) -> str:
    try:
        beside = [entry.name for entry in path.parent.iterdir() if entry.suffix == ".toml"]
    except OSError:
        return ""
    return _suggest(path.name, beside)
