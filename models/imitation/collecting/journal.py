"""The answers of a run, each on the disk before it is used: what a run resumes from.

The first line holds the plan, every other one an answer with the number of its request and the
hash of the request's body. Rows are never stored here: they follow from plan and answers.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from models.imitation.collecting.teacher import TeacherReply, TeacherRequest
from models.imitation.errors import RunDamaged

_FORMAT = 1


class Journal:
    """Opens or creates the journal beside the rows at `out`; held by one process at a time.

    Raises `RunDamaged` where the journal was begun with another plan, is damaged or in use, or
    where `out` exists without it.
    """

    def __init__(self, out: Path, plan: Mapping[str, Any]) -> None:
        self.path = out.with_name(out.name + ".journal")
        self._answers: dict[int, tuple[str, TeacherReply]] = {}
        self.num_tokens = 0
        if out.exists() and not self.path.exists():
            raise RunDamaged(
                f"{out} exists, but {self.path.name} beside it does not, so the run cannot go on;"
                " write to another file.",
                param="out",
            )
        try:
            self._file: BinaryIO = os.fdopen(
                os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644), "r+b"
            )
        except OSError as error:
            raise RunDamaged(f"cannot write {self.path}: {error.strerror}.", param="out") from None
        try:
            self._lock()
            self._load({"format": _FORMAT, **plan})
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; idempotent."""
        self._file.close()

    @property
    def num_answers(self) -> int:
        """Answers that were received, over all runs."""
        return len(self._answers)

    def find(self, number: int, request: TeacherRequest, model: str) -> TeacherReply | None:
        """The answer to the request of that number, if there is one. Raises `RunDamaged`."""
        if number not in self._answers:
            return None
        digest, reply = self._answers[number]
        if digest != _digest(request, model):
            raise RunDamaged(
                f"{self.path}: answer {number} belongs to another request than this run asks;"
                " write to another file."
            )
        return reply

    def append(self, number: int, request: TeacherRequest, model: str, reply: TeacherReply) -> None:
        """Keep an answer: from now on it outlives this process, and after `sync` the machine."""
        digest = _digest(request, model)
        row = {"number": number, "request": digest, "bound_tokens": request.bound_tokens}
        self._write({**row, "reply": asdict(reply)})
        self._keep(number, digest, reply, request.bound_tokens)

    def sync(self) -> None:
        """Return once all answers are on the disk."""
        os.fsync(self._file.fileno())

    def _keep(self, number: int, digest: str, reply: TeacherReply, bound_tokens: int) -> None:
        self._answers[number] = (digest, reply)
        if reply.num_prompt_tokens is None or reply.num_completion_tokens is None:
            # Nobody counted: what it can have cost at most keeps the budget.
            self.num_tokens += bound_tokens
        else:
            self.num_tokens += reply.num_prompt_tokens + reply.num_completion_tokens

    def _lock(self) -> None:
        with suppress(BlockingIOError):
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        raise RunDamaged(f"another process is writing {self.path}; wait until it has ended.")

    def _load(self, plan: dict[str, Any]) -> None:
        content = self._file.read()
        # A line without its end was being written when the process was killed.
        end = content.rfind(b"\n") + 1
        lines = content[:end].splitlines()
        self._file.truncate(end)
        self._file.seek(end)
        if not lines:
            self._write(plan)
            self.sync()
            return
        try:
            self._check_plan(json.loads(lines[0]), json.loads(json.dumps(plan)))
            for line in lines[1:]:
                row = json.loads(line)
                reply = TeacherReply(**row["reply"])
                self._keep(row["number"], row["request"], reply, row["bound_tokens"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunDamaged(f"{self.path} is damaged ({error}); write to another file.") from None

    def _check_plan(self, begun: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
        for name in {**begun, **plan}:
            if begun.get(name) != plan.get(name):
                raise RunDamaged(
                    f"{self.path} was begun with another {name} ({begun.get(name)!r}, now"
                    f" {plan.get(name)!r}); go on with that one, or write to another file.",
                    param=name,
                )

    def _write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()


def _digest(request: TeacherRequest, model: str) -> str:
    body = json.dumps(request.to_body(model), sort_keys=True)
    return hashlib.sha256(body.encode()).hexdigest()
