"""Text as it is written in a GBNF grammar."""

from __future__ import annotations


def quote_literal(text: str) -> str:
    """`text` as a GBNF literal.

    Everything but plain ASCII letters, digits and blanks is written as a code point, so that no
    character of a document or a request can end the literal.
    """
    written = [
        c if c.isascii() and (c.isalnum() or c == " ") else quote_point(ord(c)) for c in text
    ]
    return '"' + "".join(written) + '"'


def quote_point(code: int) -> str:
    """A character by its code point, for literals and classes."""
    return f"\\U{code:08X}"
