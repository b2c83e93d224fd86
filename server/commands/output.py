"""What commands print: lines for people, or one JSON value."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.grounding.types import AnswerEnd, Citation


def write(text: str = "") -> None:
    """One line on standard output."""
    sys.stdout.write(f"{text}\n")


def write_error(message: str) -> None:
    """One line on standard error, after the name of the program."""
    sys.stderr.write(f"mynah: {printable(' '.join(message.split()))}\n")


def write_json(value: object) -> None:
    """One JSON value on standard output."""
    write(json.dumps(value, ensure_ascii=False, indent=2))


def printable(text: str) -> str:
    """`text` with control characters escaped: a document must not steer the terminal."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )


def readable(text: str) -> str:
    """`text` with bytes that are not UTF-8 (which Python hides in surrogates) replaced."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def write_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows in columns as wide as their widest cell; numbers stand to the right."""
    cells = [[printable(str(cell)).replace("\n", " ") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(headings), *cells]) for i in range(len(headings))]
    is_number = [bool(rows) and isinstance(rows[0][i], int) for i in range(len(headings))]
    for row in [list(headings), *cells]:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_number, strict=True)
        ]
        write("  ".join(padded).rstrip())


def write_citations(citations: Sequence[Citation]) -> None:
    """File, page and quoted sentence of each citation."""
    for citation in citations:
        page = f", page {citation.page}" if citation.page is not None else ""
        quote = " ".join(citation.quote.split())
        write(printable(f'[{citation.index}] {citation.path}{page}: "{quote}"'))


def answer_json(end: AnswerEnd) -> dict[str, object]:
    """An answer as `ask --json` prints it."""
    usage = end.usage
    return {
        "answer": end.text,
        "finish_reason": end.finish_reason,
        "usage": {
            "prompt_tokens": usage.num_prompt_tokens,
            "cached_tokens": usage.num_cached_tokens,
            "completion_tokens": usage.num_completion_tokens,
        },
        "grounding": end.report.to_json(),
    }
