"""What a person who judges may see and do: the next pair, a choice, undo and an export."""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from models.imitation.errors import TuningError
from models.imitation.judging.judgements import MODEL_PREFIX, Choice, Judgement, JudgementLog
from models.imitation.judging.pairs import Comparison
from server.errors import InternalError, InvalidValue

log = logging.getLogger("mynah.judging")

MAX_NAME_CHARS = 60


class Desk:
    """Serves the pairs of one comparison to any number of raters.

    Whatever it returns or raises holds no name of a system, nor a path, which may hold one: ids
    are opaque, texts have the names hidden, and of a failed file only the log tells.
    """

    def __init__(self, comparison: Comparison, judgements: JudgementLog) -> None:
        self._comparison = comparison
        self._judgements = judgements

    def read_state(self, rater: str) -> dict[str, Any]:
        """Progress of a rater and the first pair that is not judged, None after the last."""
        rater = check_rater(rater)
        with _hiding_paths():
            judged = self._judgements.standing_of(rater)
        pairs = self._comparison.pairs
        pair = next((pair for pair in pairs if pair.id not in judged), None)
        item = None
        if pair is not None:
            shown = self._comparison.show(pair)
            item = {"id": pair.id, "question": shown.question, "a": shown.a, "b": shown.b}
        return {
            "rater": rater,
            "num_items": len(pairs),
            "num_done": sum(pair.id in judged for pair in pairs),
            "can_undo": bool(judged),
            "item": item,
        }

    def judge(self, rater: str, item: str, choice: Choice) -> dict[str, Any]:
        """Keep a choice and return the state after it.

        Raises `InvalidValue` for an unknown item, and for one that the rater has judged: another
        window may have been faster, and a choice must not be overwritten unseen.
        """
        rater = check_rater(rater)
        pair = self._comparison.by_id.get(item)
        if pair is None:
            raise InvalidValue("There is no such pair; reload the page.", param="item")
        with _hiding_paths():
            judgement = Judgement(item, rater, choice, pair.sides, int(time.time()))
            is_kept = self._judgements.add(judgement)
        if not is_kept:
            raise InvalidValue(
                "You have judged this pair already, perhaps in another window; reload the page.",
                param="item",
            )
        return self.read_state(rater)

    def undo(self, rater: str) -> dict[str, Any]:
        """Take back the rater's last choice and return the state after it."""
        rater = check_rater(rater)
        with _hiding_paths():
            undone = self._judgements.undo(rater, int(time.time()))
        if undone is None:
            raise InvalidValue("There is nothing to take back.", param="rater")
        return self.read_state(rater)

    def export(self, rater: str) -> dict[str, Any]:
        """What stands of one rater, still blind: without who stood on which side."""
        rater = check_rater(rater)
        with _hiding_paths():
            judged = self._judgements.standing_of(rater)
        return {
            "rater": rater,
            "num_items": len(self._comparison.pairs),
            "judgements": [
                {"item": j.item, "choice": j.choice, "time_s": j.time_s} for j in judged.values()
            ],
        }

    def export_csv(self, rater: str) -> str:
        """The same as a table, the time in UTC."""
        out = io.StringIO()
        table = csv.writer(out, lineterminator="\n")
        table.writerow(("rater", "item", "choice", "time"))
        exported = self.export(rater)
        for row in exported["judgements"]:
            judged_at = datetime.fromtimestamp(row["time_s"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            table.writerow((exported["rater"], row["item"], row["choice"], judged_at))
        return out.getvalue()


def check_rater(name: str) -> str:
    """The name with single blanks.

    Raises `InvalidValue` for one that is empty, long or a model's. It begins with a letter or
    digit, so that no spreadsheet takes it for a formula.
    """
    name = " ".join(name.split())
    if not (0 < len(name) <= MAX_NAME_CHARS and name.isprintable() and name[0].isalnum()):
        raise InvalidValue(
            f"A name has 1 to {MAX_NAME_CHARS} characters and begins with a letter or digit.",
            param="rater",
        )
    if name.casefold().startswith(MODEL_PREFIX):
        raise InvalidValue(f"Names of people do not begin with {MODEL_PREFIX!r}.", param="rater")
    return name


@contextmanager
def _hiding_paths() -> Iterator[None]:
    try:
        yield
    except TuningError as error:
        log.error("%s", error.message)
        raise InternalError(
            "The file of judgements cannot be used; whoever runs this page finds the reason in its"
            " log."
        ) from None
