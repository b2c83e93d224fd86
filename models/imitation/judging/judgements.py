"""The one record of a judgement, of people and of models alike, in a file that only grows.

A line is on the disk before anyone is told that it is kept. Nothing is ever changed: who undoes a
judgement adds a record without a choice, and the last record of a rater on a pair is what stands.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from models.imitation.errors import RunDamaged, TrainingDataInvalid
from models.imitation.judging.pairs import Role, Sides, read_sides

Choice = Literal["A", "B", "tie", "both_bad"]
Outcome = Literal["win", "loss", "tie", "both_bad"]

CHOICES: tuple[Choice, ...] = get_args(Choice)
JUDGEMENTS_NAME = "judgements.jsonl"
# Raters that are models; people may not take such a name.
MODEL_PREFIX = "model:"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one rater says of one pair.

    `sides` is who stood on which side when the rater chose; a model sees both orders, and its
    `choice` is told for these sides. `choice` is None where nothing stands: a person has undone
    it, or the model's verdict could not be read. `judge` is None for people, else says which
    model judged and what it said in each order.
    """

    item: str
    rater: str
    choice: Choice | None
    sides: Sides
    time_s: int
    judge: Mapping[str, Any] | None = None

    @property
    def outcome(self) -> Outcome | None:
        """What the choice means for the system; None where there is no choice."""
        match self.choice:
            case "A" | "B":
                return "win" if self.sides[self.choice] == "system" else "loss"
            case choice:
                return choice

    @property
    def is_model(self) -> bool:
        """Whether a model is the rater."""
        return self.judge is not None

    def to_json(self) -> dict[str, Any]:
        """One JSON object; `from_json` gives the judgement back."""
        return {
            "item": self.item,
            "rater": self.rater,
            "choice": self.choice,
            "sides": dict(self.sides),
            "time_s": self.time_s,
            "judge": None if self.judge is None else dict(self.judge),
        }

    @classmethod
    def from_json(cls, row: Any) -> Judgement:
        """Raises `TrainingDataInvalid` with what is wrong."""
        try:
            choice, judge = row["choice"], row["judge"]
            if choice is not None and choice not in CHOICES:
                raise ValueError(f"the choice is {choice!r}")
            if judge is not None and not isinstance(judge, dict):
                raise TypeError("'judge' is no object")
            return cls(
                item=str(row["item"]),
                rater=str(row["rater"]),
                choice=choice,
                sides=read_sides(row["sides"]),
                time_s=int(row["time_s"]),
                judge=judge,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TrainingDataInvalid(f"not a judgement: {error!r}.") from None


def choice_of(role: Role | None, sides: Sides) -> Choice:
    """The side on which `role` stands; a tie for None."""
    if role is None:
        return "tie"
    return "A" if sides["A"] == role else "B"


class JudgementLog:
    """The judgements of a folder; several processes and threads may add to them at once.

    Raises `RunDamaged` where the file cannot be opened or written, and `TrainingDataInvalid` for a
    line that is no judgement.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JUDGEMENTS_NAME
        self._lock = threading.Lock()
        self._end = 0
        self._num_lines = 0
        # Of each rater by item, the latest record last.
        self._standing: dict[str, dict[str, Judgement]] = {}
        try:
            opened = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise self._unwritable(error) from None
        self._file: BinaryIO = os.fdopen(opened, "r+b", buffering=0)
        try:
            with self._held():
                # The file itself must outlive the machine too.
                _sync_folder(folder)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Let go of the file; idempotent."""
        self._file.close()

    def __enter__(self) -> JudgementLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def standing(self) -> dict[str, dict[str, Judgement]]:
        """What stands now: rater to item to judgement, without what was undone.

        A model's judgements without a choice are part of it: they are errors to be counted.
        """
        with self._held():
            return {rater: dict(of_rater) for rater, of_rater in self._standing.items() if of_rater}

    def standing_of(self, rater: str) -> dict[str, Judgement]:
        """One rater's judgements by item, the latest last."""
        with self._held():
            return dict(self._standing.get(rater, {}))

    def add(self, judgement: Judgement) -> bool:
        """Keep a judgement; False, and nothing is kept, where the rater has judged the pair."""
        with self._held():
            if judgement.item in self._standing.get(judgement.rater, {}):
                return False
            self._append(judgement)
            return True

    def undo(self, rater: str, time_s: int) -> Judgement | None:
        """Take back the rater's latest judgement that stands, and return it; None without one."""
        with self._held():
            of_rater = self._standing.get(rater)
            if not of_rater:
                return None
            last = next(reversed(of_rater.values()))
            self._append(Judgement(last.item, rater, None, last.sides, time_s))
            return last

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Alone with the file, and abreast of what others have written."""
        with self._lock:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                self._catch_up()
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _catch_up(self) -> None:
        self._file.seek(self._end)
        content = self._file.read()
        length = content.rfind(b"\n") + 1
        lines = content[:length].splitlines()
        for number, line in enumerate(lines, self._num_lines + 1):
            try:
                self._apply(Judgement.from_json(json.loads(line)))
            except (ValueError, TrainingDataInvalid) as error:
                raise TrainingDataInvalid(f"{self.path}, line {number}: {error}") from None
        self._num_lines += len(lines)
        self._end += length
        if length < len(content):
            # Nobody else is writing, so the writer of this half line was killed.
            self._file.truncate(self._end)

    def _append(self, judgement: Judgement) -> None:
        line = json.dumps(judgement.to_json()).encode() + b"\n"
        try:
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from None
        self._catch_up()

    def _apply(self, judgement: Judgement) -> None:
        of_rater = self._standing.setdefault(judgement.rater, {})
        of_rater.pop(judgement.item, None)
        if judgement.choice is not None or judgement.is_model:
            of_rater[judgement.item] = judgement

    def _unwritable(self, error: OSError) -> RunDamaged:
        return RunDamaged(f"cannot write {self.path}: {error.strerror}.", param="folder")


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
