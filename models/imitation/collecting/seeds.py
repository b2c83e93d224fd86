"""Seeds: the examples written by people that a teacher's tasks grow from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.imitation.errors import TrainingDataInvalid

_DATA = Path(__file__).parents[1] / "data"
BROAD_SEEDS = _DATA / "seeds.jsonl"
GROUNDED_SEEDS = _DATA / "grounded-seeds.jsonl"


@dataclass(frozen=True, slots=True)
class Seed:
    """One task with its answer; `input` is empty where the instruction says it all.

    `task` names what a narrow set of seeds has in common.
    """

    id: str
    instruction: str
    input: str
    output: str
    is_classification: bool = False
    task: str = ""


@dataclass(frozen=True, slots=True)
class SeedSet:
    """The seeds of a file in its order, and the hash of what they say."""

    seeds: tuple[Seed, ...]
    digest: str


def read_seeds(path: Path, *, at_least: int, task: str | None = None) -> SeedSet:
    """The seeds of a JSONL file, of one task where `task` names it.

    A line has `instruction` and `output`, and may have `id`, `input`, `classification` and `task`.
    Raises `TrainingDataInvalid`, naming the line, or where they are fewer than `at_least`.
    """
    seeds = _read_lines(path)
    if task is not None:
        names = sorted({seed.task for seed in seeds if seed.task})
        seeds = [seed for seed in seeds if seed.task == task]
        if not seeds:
            known = f"there are: {', '.join(names)}" if names else "its seeds name none"
            raise TrainingDataInvalid(f"{path} has no task {task!r}; {known}.", param="task")
    if len(seeds) < at_least:
        raise TrainingDataInvalid(
            f"{path} has {len(seeds)} seeds; this mode needs {at_least}.", param="seeds"
        )
    said = [[s.id, s.instruction, s.input, s.output, s.is_classification, s.task] for s in seeds]
    digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
    return SeedSet(tuple(seeds), digest)


def read_one_task(path: Path, *, at_least: int, task: str | None = None) -> SeedSet:
    """As `read_seeds`, for the modes that imitate one task: raises where there are several."""
    found = read_seeds(path, at_least=at_least, task=task)
    names = sorted({seed.task for seed in found.seeds})
    if len(names) > 1:
        raise TrainingDataInvalid(
            f"{path} has several tasks ({', '.join(name or 'unnamed' for name in names)});"
            " choose one with --task.",
            param="task",
        )
    return found


def _read_lines(path: Path) -> list[Seed]:
    seeds: list[Seed] = []
    ids: set[str] = set()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise TrainingDataInvalid(f"there is no file of seeds {path}.", param="seeds") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingDataInvalid(f"cannot read {path}: {error}.", param="seeds") from None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            seed = _read_seed(json.loads(line), f"seed-{number:03}")
            if seed.id in ids:
                raise TrainingDataInvalid(f"the id {seed.id!r} stands there twice")
        except (json.JSONDecodeError, TrainingDataInvalid) as error:
            raise TrainingDataInvalid(f"{path}, line {number}: {error}.", param="seeds") from None
        ids.add(seed.id)
        seeds.append(seed)
    return seeds


def _read_seed(row: Any, default_id: str) -> Seed:
    if not isinstance(row, Mapping):
        raise TrainingDataInvalid("not a JSON object")
    texts = {
        name: row.get(name, default)
        for name, default in (
            ("id", default_id),
            ("instruction", ""),
            ("input", ""),
            ("output", ""),
            ("task", ""),
        )
    }
    for name, value in texts.items():
        if not isinstance(value, str):
            raise TrainingDataInvalid(f"{name} is no text")
        if not value.strip() and name in ("id", "instruction", "output"):
            raise TrainingDataInvalid(f"{name} is missing or empty")
    flag = row.get("classification", False)
    if not isinstance(flag, bool):
        raise TrainingDataInvalid("classification is neither true nor false")
    return Seed(is_classification=flag, **texts)
