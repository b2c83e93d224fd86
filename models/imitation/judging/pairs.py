"""Pairs of answers to one question, in an order and on sides drawn by a seed and then kept.

Nothing that a rater gets to see says which system wrote what: ids are hashes, the names of both
systems are hidden wherever a text holds them.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from models.imitation.errors import RunDamaged, TrainingDataInvalid
from models.imitation.judging.answers import Answered

Role = Literal["system", "baseline"]
Sides = Mapping[Literal["A", "B"], Role]

PAIRS_NAME = "pairs.jsonl"
HIDDEN = "[name]"
_FORMAT = 1
_ROLES: tuple[Role, ...] = ("system", "baseline")


@dataclass(frozen=True, slots=True)
class Pair:
    """One question with the answers of both; `a` is the role whose answer is shown as A."""

    id: str
    source_id: str
    question: str
    system: str
    baseline: str
    a: Role

    @property
    def sides(self) -> Sides:
        """Who stands on which side, as it is stored with every judgement."""
        return {"A": self.a, "B": other(self.a)}

    def answer_of(self, role: Role) -> str:
        """The answer as it was given."""
        return self.system if role == "system" else self.baseline

    def to_json(self) -> dict[str, Any]:
        """One JSON object; `from_json` gives the pair back."""
        return {
            "id": self.id,
            "source_id": self.source_id,
            "question": self.question,
            "system": self.system,
            "baseline": self.baseline,
            "sides": dict(self.sides),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Pair:
        """Raises `KeyError`, `TypeError` or `ValueError` for what is no pair."""
        texts = {name: row[name] for name in ("id", "source_id", "question", *_ROLES)}
        if not all(isinstance(text, str) for text in texts.values()):
            raise TypeError("a text is missing")
        return cls(**texts, a=read_sides(row["sides"])["A"])


@dataclass(frozen=True, slots=True)
class Shown:
    """A pair as raters see it: texts alone, the names in them hidden."""

    question: str
    a: str
    b: str


@dataclass(frozen=True)
class Comparison:
    """All pairs of two systems in the order in which they are shown.

    `hidden` are words that no rater may read. `num_unpaired` answers had no counterpart.
    """

    system: str
    baseline: str
    seed: int
    hidden: tuple[str, ...]
    num_unpaired: int
    pairs: tuple[Pair, ...]

    def show(self, pair: Pair) -> Shown:
        """What a rater may know of a pair."""
        first, second = (pair.answer_of(pair.sides[side]) for side in ("A", "B"))
        return Shown(self.hide(pair.question), self.hide(first), self.hide(second))

    def hide(self, text: str) -> str:
        """`text` without the hidden words, whatever their case; parts of words stay."""
        return self._pattern.sub(HIDDEN, text) if self._pattern else text

    @cached_property
    def num_hidden(self) -> int:
        """Pairs in which something is hidden."""
        return sum(
            any(text != self.hide(text) for text in (p.question, p.system, p.baseline))
            for p in self.pairs
        )

    @cached_property
    def by_id(self) -> Mapping[str, Pair]:
        """Pairs by their opaque ids."""
        return {pair.id: pair for pair in self.pairs}

    @cached_property
    def text(self) -> str:
        """The content of the file: a header and one line for each pair."""
        header = {
            "format": _FORMAT,
            "system": self.system,
            "baseline": self.baseline,
            "seed": self.seed,
            "hidden": list(self.hidden),
            "num_unpaired": self.num_unpaired,
        }
        rows = [header, *(pair.to_json() for pair in self.pairs)]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    @cached_property
    def sha256(self) -> str:
        """Hash of everything that a judgement rests on."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        # A name is written with hyphens here and with blanks there, and often without its owner.
        names = {name for word in self.hidden for name in (word, word.rpartition("/")[2])}
        parts = [[part for part in re.split(r"[-_\s]+", name) if part] for name in names]
        words = {r"[-_\s]*".join(map(re.escape, found)) for found in parts if found}
        if not words:
            return None
        joined = "|".join(sorted(words, key=len, reverse=True))
        # Underscores are no part of a word: Markdown emphasises with them.
        return re.compile(rf"(?<![^\W_])(?:{joined})(?![^\W_])", re.IGNORECASE)


def make_comparison(
    names: Mapping[Role, str],
    answers: Mapping[Role, Mapping[str, Answered]],
    *,
    questions: Mapping[str, str] | None = None,
    seed: int = 0,
    limit: int | None = None,
    hidden: tuple[str, ...] = (),
) -> Comparison:
    """Pair the answers by id; order and sides follow from seed and ids, not from the files' order.

    `questions` go before what the files say was asked. At most `limit` pairs are drawn. Raises
    `TrainingDataInvalid` where no id is in both files, a question is unknown, or the two files
    answer different ones.
    """
    system, baseline = answers["system"], answers["baseline"]
    if names["system"] == names["baseline"]:
        raise TrainingDataInvalid(
            f"both systems are called {names['system']}; tell them apart with --system-name and"
            " --baseline-name.",
            param="system_name",
        )
    shared = sorted(set(system) & set(baseline))
    if not shared:
        raise TrainingDataInvalid("no id stands in both files, so there is nothing to compare.")
    random.Random(f"order:{seed}").shuffle(shared)
    pairs = []
    for source_id in shared[:limit]:
        question = _find_question(source_id, answers, questions or {})
        digest = hashlib.sha256(f"{seed}:{source_id}".encode()).hexdigest()
        pairs.append(
            Pair(
                id=digest[:16],
                source_id=source_id,
                question=question,
                system=system[source_id].answer,
                baseline=baseline[source_id].answer,
                a=random.Random(f"sides:{seed}:{source_id}").choice(_ROLES),
            )
        )
    return Comparison(
        system=names["system"],
        baseline=names["baseline"],
        seed=seed,
        hidden=tuple(dict.fromkeys((names["system"], names["baseline"], *hidden))),
        num_unpaired=len(set(system) ^ set(baseline)),
        pairs=tuple(pairs),
    )


def read_comparison(folder: Path) -> Comparison:
    """The comparison kept in a folder. Raises `TrainingDataInvalid`."""
    path = folder / PAIRS_NAME
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        header = json.loads(lines[0])
        if header["format"] != _FORMAT:
            raise ValueError(f"format {header['format']}, which this version does not know")
        return Comparison(
            system=header["system"],
            baseline=header["baseline"],
            seed=int(header["seed"]),
            hidden=tuple(map(str, header["hidden"])),
            num_unpaired=int(header["num_unpaired"]),
            pairs=tuple(Pair.from_json(json.loads(line)) for line in lines[1:]),
        )
    except FileNotFoundError:
        raise TrainingDataInvalid(
            f"there are no pairs in {folder}; make them with --system FILE and --baseline FILE.",
            param="folder",
        ) from None
    except OSError as error:
        raise TrainingDataInvalid(f"cannot read {path}: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingDataInvalid(f"{path} holds no pairs: {error!r}.") from None


def keep_comparison(folder: Path, comparison: Comparison) -> None:
    """Write the pairs, or find them there already.

    Raises `RunDamaged` if the folder holds other pairs, or cannot be written.
    """
    path = folder / PAIRS_NAME
    if path.exists():
        if read_comparison(folder) != comparison:
            raise RunDamaged(
                f"{path} was made of other answers, names, words or another seed; name another"
                " folder, or leave --system and --baseline away to go on with what it holds.",
                param="folder",
            )
        return
    aside = path.with_name(path.name + ".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with aside.open("w", encoding="utf-8") as out:
            out.write(comparison.text)
            out.flush()
            os.fsync(out.fileno())
        aside.replace(path)
    except OSError as error:
        raise RunDamaged(f"cannot write {path}: {error.strerror}.", param="folder") from None


def other(role: Role) -> Role:
    """The one of the two that `role` is not."""
    return "baseline" if role == "system" else "system"


def read_sides(row: Any) -> Sides:
    """Raises `ValueError` unless both roles stand on one side each."""
    if row == {"A": "system", "B": "baseline"}:
        return {"A": "system", "B": "baseline"}
    if row == {"A": "baseline", "B": "system"}:
        return {"A": "baseline", "B": "system"}
    raise ValueError(f"not a choice of sides: {row!r}")


def _find_question(
    source_id: str, answers: Mapping[Role, Mapping[str, Answered]], questions: Mapping[str, str]
) -> str:
    if source_id in questions:
        return questions[source_id]
    said = [answers[role][source_id].question for role in _ROLES]
    known = [question for question in said if question and question.strip()]
    if not known:
        raise TrainingDataInvalid(
            f"neither file says what {source_id} asks; give the questions with --questions FILE.",
            param="questions",
        )
    if len({" ".join(question.split()) for question in known}) > 1:
        raise TrainingDataInvalid(
            f"the files answer different questions under the id {source_id}; name with --questions"
            " FILE what was asked.",
            param="questions",
        )
    return known[0]
