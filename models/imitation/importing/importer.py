"""Conversations from files of four formats; every row is kept, or dropped for a counted reason."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from models.imitation.conversations import Conversation, Turn
from models.imitation.errors import TrainingDataInvalid
from models.imitation.importing import alpaca, openai_messages, sharegpt
from models.imitation.importing.counting import CountTokens, estimate_tokens
from models.imitation.importing.files import Row, read_rows
from models.imitation.importing.report import MALFORMED, Drop, Malformed, Report
from models.imitation.importing.splitting import Oversized, split

Format = Literal["sharegpt", "alpaca", "openai", "mynah"]
# Called with the row that is left out; None where it could not be read.
OnDrop = Callable[[Drop, str, int, Mapping[str, Any] | None], None]
OnRow = Callable[[Report], None]

PEOPLE = "people"
UNKNOWN = "unknown"
_BODY_KEYS = frozenset(
    ("id", "conversations", "items", "messages", "instruction", "input", "output")
)
# Vicuna's rule for ShareGPT; a short answer is a good one elsewhere.
_SHAREGPT_MIN_CHARS = 16


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What the user said of the files.

    `source`, `license` and `teacher` None: what the row says, or else the file and `unknown`;
    "people" means that no model wrote the answers. `max_tokens` None splits nothing.
    """

    format: Format | Literal["auto"] = "auto"
    markup: sharegpt.Markup = "auto"
    source: str | None = None
    license: str | None = None
    teacher: str | None = None
    brand_words: tuple[str, ...] = ()
    min_chars: int | None = None
    max_tokens: int | None = None
    count_tokens: CountTokens = estimate_tokens
    oversized: Oversized = "truncate"
    is_strict: bool = False


@dataclass(slots=True)
class _Seen:
    """What kept rows had: ids, openings and whole conversations, as digests."""

    ids: set[str] = field(default_factory=set)
    texts: set[bytes] = field(default_factory=set)


def import_files(
    paths: Sequence[Path],
    options: ImportOptions,
    report: Report,
    on_drop: OnDrop | None = None,
    on_row: OnRow | None = None,
) -> Iterator[Conversation]:
    """Yield the conversations of `paths` in order; `report` is complete after the last one.

    Raises `TrainingDataInvalid` for a file that cannot be read or whose format cannot be told,
    and for the first malformed row where `is_strict` is set.
    """
    seen = _Seen()
    for path in paths:
        format_ = detect_format(path) if options.format == "auto" else options.format
        for row in read_rows(path):
            changed: Counter[str] = Counter()
            result = row if isinstance(row, Malformed) else _convert(row, format_, options, changed)
            if isinstance(result, Conversation):
                result = _check(result, format_, options, seen)
            if isinstance(result, Conversation):
                pieces = _split(result, options, report)
                if pieces:
                    report.keep()
                    report.changed.update(changed)
                    report.num_written += len(pieces)
                    _remember(result, format_, seen)
                    yield from pieces
                else:
                    result = Drop("oversized", "no exchange fits")
            if isinstance(result, Malformed):
                if options.is_strict:
                    raise TrainingDataInvalid(f"{result}.")
                report.malformed.append(result)
                result = Drop(MALFORMED, result.error)
            if isinstance(result, Drop):
                report.drop(result.reason)
                if on_drop is not None:
                    value = row.value if isinstance(row, Row) else None
                    on_drop(result, row.file, row.number, value)
            if on_row is not None:
                on_row(report)


def detect_format(path: Path) -> Format:
    """Return the format of the first row that can be read; raises `TrainingDataInvalid`."""
    for row in read_rows(path):
        if isinstance(row, Malformed):
            continue
        if "conversations" in row.value or "items" in row.value:
            return "sharegpt"
        if "instruction" in row.value:
            return "alpaca"
        if "messages" in row.value:
            return "mynah" if "provenance" in row.value else "openai"
        break
    raise TrainingDataInvalid(
        f"{path} is of no format that is known: its first row has none of `conversations`,"
        " `instruction` and `messages`. Give --format."
    )


def _convert(
    row: Row, format_: Format, options: ImportOptions, changed: Counter[str]
) -> Conversation | Drop | Malformed:
    try:
        if format_ == "mynah":
            return _with_provenance(Conversation.from_json(row.value), options)
        if format_ == "sharegpt":
            turns = sharegpt.read_turns(row.value, options.markup, changed)
        elif format_ == "alpaca":
            turns = alpaca.read_turns(row.value)
        else:
            turns = openai_messages.read_turns(row.value)
    except TrainingDataInvalid as error:
        return row.malformed(error.message.rstrip("."))
    if isinstance(turns, Drop):
        return turns
    given = row.value.get("id")
    id_ = str(given) if isinstance(given, str | int) and given != "" else _digest(turns).hex()[:16]
    return Conversation(id_, turns, _provenance(row, format_, options))


def _provenance(row: Row, format_: Format, options: ImportOptions) -> dict[str, Any]:
    said = {
        key: row.value[key] if isinstance(row.value.get(key), str) else UNKNOWN
        for key in ("source", "license", "teacher")
    }
    if said["source"] == UNKNOWN:
        said["source"] = row.file
    provenance: dict[str, Any] = {
        **said,
        **_said_by_user(options),
        "format": format_,
        "file": row.file,
        row.unit: row.number,
    }
    rest = {key: value for key, value in row.value.items() if key not in _BODY_KEYS}
    if format_ == "openai":
        rest = {key: value for key, value in row.value.items() if key != "messages"}
    if rest:
        provenance["row"] = rest
    return provenance


def _said_by_user(options: ImportOptions) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if options.source is not None:
        said["source"] = options.source
    if options.license is not None:
        said["license"] = options.license
    if options.teacher is not None:
        said["teacher"] = None if options.teacher == PEOPLE else options.teacher
    return said


def _with_provenance(conversation: Conversation, options: ImportOptions) -> Conversation:
    return replace(conversation, provenance={**conversation.provenance, **_said_by_user(options)})


def _check(
    conversation: Conversation, format_: Format, options: ImportOptions, seen: _Seen
) -> Conversation | Drop:
    texts = [turn.content for turn in conversation.turns]
    least = options.min_chars
    if least is None:
        least = _SHAREGPT_MIN_CHARS if format_ == "sharegpt" else 0
    if sum(map(len, texts)) < least:
        return Drop("too short", f"fewer than {least} characters")
    word = find_word("\n".join(texts), options.brand_words)
    if word is not None:
        return Drop("brand word", word)
    if format_ == "sharegpt" and conversation.id in seen.ids:
        return Drop("duplicate id", conversation.id)
    if _digest(_opening(conversation, format_)) in seen.texts:
        return Drop("duplicate", conversation.id)
    return conversation


def _remember(conversation: Conversation, format_: Format, seen: _Seen) -> None:
    seen.texts.add(_digest(_opening(conversation, format_)))
    if format_ == "sharegpt":
        seen.ids.add(conversation.id)


def _opening(conversation: Conversation, format_: Format) -> Sequence[Turn]:
    """Return what makes two rows the same one: a shared chat may have been continued later."""
    if format_ != "sharegpt":
        return conversation.turns
    return [turn for turn in conversation.turns if turn.role != "system"][:2]


def _digest(turns: Sequence[Turn]) -> bytes:
    rows = [[turn.role, turn.content, dict(turn.extra)] for turn in turns]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).digest()


def _split(
    conversation: Conversation, options: ImportOptions, report: Report
) -> tuple[Conversation, ...]:
    if options.max_tokens is None:
        return (conversation,)
    parts = split(conversation, options.max_tokens, options.count_tokens, options.oversized)
    report.changed["exchanges"] += parts.num_exchanges
    report.changed["exchanges truncated"] += parts.num_truncated
    report.changed["exchanges dropped"] += parts.num_dropped
    return parts.pieces


def find_word(text: str, words: Sequence[str]) -> str | None:
    """Return the first of `words` that stands in `text`, in any case, letters on neither side."""
    for word in words:
        if re.search(rf"(?<!\w){re.escape(word)}(?![^\W\d_])", text, re.IGNORECASE):
            return word
    return None
