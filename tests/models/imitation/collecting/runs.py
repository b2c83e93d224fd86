"""One run of collecting in this process, with its end and the rows it left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.imitation.collecting.collector import Collector
from models.imitation.collecting.seeds import Seed, SeedSet
from models.imitation.collecting.teacher import RetryRules, Teacher
from models.imitation.collecting.types import Limits, Mode, Progress, Summary
from models.imitation.conversations import Conversation, read_conversations
from tests.models.imitation.collecting.scripted_teacher import ScriptedTeacher

QUICK = RetryRules(max_attempts=4, first_wait_s=0.01)


def collect(
    teacher: ScriptedTeacher,
    mode: Mode,
    out: Path,
    *,
    num_rows: int = 10,
    max_requests: int | None = None,
    max_tokens: int | None = None,
    concurrency: int = 4,
    shown: list[Progress] | None = None,
    **options: Any,
) -> Summary:
    return Collector(
        mode,
        Teacher(teacher.url, "teacher", concurrency=concurrency, **{"retry": QUICK, **options}),
        out,
        Limits(num_rows, max_requests, max_tokens),
        row_license="CC0-1.0",
        progress=lambda progress: None if shown is None else shown.append(progress),
    ).run()


def read(out: Path) -> list[Conversation]:
    return list(read_conversations(out))


def make_seeds(number: int) -> SeedSet:
    """Seeds that share no word with what the scripted teacher says."""
    seeds = tuple(
        Seed(f"s{i}", f"Seed question number{i} about thing{i} please", f"given{i}", f"reply{i}")
        for i in range(number)
    )
    return SeedSet(seeds, f"digest-{number}")
