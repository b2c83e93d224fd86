"""Conversations through every filter in turn; each that is dropped has a counted reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from models.imitation.conversations import Conversation, Turn
from models.imitation.errors import TrainingDataInvalid
from models.imitation.filtering.decontamination import DecontaminationRule
from models.imitation.filtering.language import LanguageRule
from models.imitation.filtering.near_duplicates import NearDuplicateRule
from models.imitation.filtering.pii import mask
from models.imitation.filtering.rules import (
    ExactDuplicateRule,
    LengthRule,
    Lengths,
    RougeRule,
    Rule,
    Stateless,
    WordRule,
)
from models.imitation.importing.files import Row, read_rows
from models.imitation.importing.importer import OnDrop, OnRow
from models.imitation.importing.report import MALFORMED, Drop, Malformed, Report

PiiAction = Literal["off", "mask", "drop"]


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """Which filters run. Empty or None: that one does not; `brand_words` is empty by default."""

    evaluation_paths: tuple[Path, ...] = ()
    pii: PiiAction = "mask"
    lengths: Lengths = field(default_factory=Lengths)
    keywords: tuple[str, ...] = ()
    brand_words: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    language_threshold: float = 0.5
    drops_duplicates: bool = True
    near_threshold: float | None = 0.8
    rouge_limit: float | None = None


def make_rules(options: FilterOptions) -> list[Rule]:
    """Return the rules in the order they run.

    Decontamination comes first, for it must see the text as it is; then what alters the text;
    then rules that look at one row, cheap ones first; then those that compare with kept rows.
    Raises `TrainingDataInvalid` and `ExtraMissing`.
    """
    rules: list[Rule] = []
    if options.evaluation_paths:
        rules.append(DecontaminationRule(options.evaluation_paths))
    if options.pii != "off":
        rules.append(PiiRule(options.pii))
    rules.append(LengthRule(options.lengths))
    if options.keywords:
        rules.append(WordRule("keyword", options.keywords, ("user",)))
    if options.brand_words:
        roles = ("system", "developer", "user", "assistant", "tool")
        rules.append(WordRule("brand word", options.brand_words, roles))
    if options.languages:
        rules.append(LanguageRule(options.languages, options.language_threshold))
    if options.drops_duplicates:
        rules.append(ExactDuplicateRule())
    if options.near_threshold is not None:
        rules.append(NearDuplicateRule(options.near_threshold))
    if options.rouge_limit is not None:
        rules.append(RougeRule(options.rouge_limit))
    return rules


def filter_files(
    paths: Sequence[Path],
    rules: Sequence[Rule],
    report: Report,
    *,
    is_strict: bool = False,
    on_drop: OnDrop | None = None,
    on_row: OnRow | None = None,
) -> Iterator[Conversation]:
    """Yield the conversations that every rule keeps, in order; `report` is complete after them.

    Raises `TrainingDataInvalid` for a file that cannot be read and, where `is_strict` is set, for
    the first malformed row.
    """
    for path in paths:
        for row in read_rows(path):
            changed: Counter[str] = Counter()
            found = _read(row)
            result = found if isinstance(found, Malformed) else _apply(rules, found, changed)
            if isinstance(result, Conversation):
                for rule in rules:
                    rule.remember(result)
                report.keep()
                report.num_written += 1
                report.changed.update(changed)
                yield result
            else:
                if isinstance(result, Malformed):
                    if is_strict:
                        raise TrainingDataInvalid(f"{result}.")
                    report.malformed.append(result)
                    result = Drop(MALFORMED, result.error)
                report.drop(result.reason)
                if on_drop is not None:
                    value = row.value if isinstance(row, Row) else None
                    on_drop(result, row.file, row.number, value)
            if on_row is not None:
                on_row(report)


def _read(row: Row | Malformed) -> Conversation | Malformed:
    if isinstance(row, Malformed):
        return row
    try:
        return Conversation.from_json(row.value)
    except TrainingDataInvalid as error:
        return row.malformed(error.message.rstrip("."))


def _apply(
    rules: Sequence[Rule], conversation: Conversation, changed: Counter[str]
) -> Conversation | Drop:
    for rule in rules:
        result = rule.check(conversation, changed)
        if isinstance(result, Drop):
            return result
        conversation = result
    return conversation


class PiiRule(Stateless):
    """Masks personal data and secrets wherever a conversation has them, or drops it."""

    def __init__(self, action: Literal["mask", "drop"]) -> None:
        self._action = action

    def check(self, conversation: Conversation, changed: Counter[str]) -> Conversation | Drop:
        kinds: list[str] = []
        turns = tuple(
            Turn(turn.role, _mask(turn.content, kinds), _mask(dict(turn.extra), kinds))
            for turn in conversation.turns
        )
        passages = tuple(
            replace(p, title=_mask(p.title, kinds), text=_mask(p.text, kinds))
            for p in conversation.passages
        )
        provenance = dict(conversation.provenance)
        if "row" in provenance:
            provenance["row"] = _mask(provenance["row"], kinds)
        if not kinds:
            return conversation
        if self._action == "drop":
            return Drop("personal data", ", ".join(sorted(set(kinds))))
        changed.update(f"masked {kind}" for kind in kinds)
        return replace(conversation, turns=turns, passages=passages, provenance=provenance)


def _mask(value: Any, kinds: list[str]) -> Any:
    """Return a JSON value with every string in it masked; what was found is added to `kinds`."""
    if isinstance(value, str):
        masked, found = mask(value)
        kinds += found
        return masked
    if isinstance(value, dict):
        return {key: _mask(item, kinds) for key, item in value.items()}
    if isinstance(value, list):
        return [_mask(item, kinds) for item in value]
    return value
