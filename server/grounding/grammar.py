"""Sentences to the GBNF grammar that lets a model say nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Phrases that state no fact, so that any of them may open any answer.
OPENERS = ("", "According to the documents: ", "From the documents: ")


@dataclass(frozen=True, slots=True)
class QuotedSentence:
    """A sentence as it will stand in the answer, and the number of its citation."""

    text: str
    citation: int

    @property
    def cited_text(self) -> str:
        """The sentence followed by its citation mark."""
        return f"{self.text} [{self.citation}]"


def build_grammar(sentences: Sequence[QuotedSentence]) -> str:
    """GBNF that accepts an opener of the model's choice and then exactly `sentences`, in order."""
    body = " ".join(sentence.cited_text for sentence in sentences)
    openers = " | ".join(quote_literal(opener) for opener in OPENERS)
    return f"root ::= opener {quote_literal(body)}\nopener ::= {openers}\n"


def quote_literal(text: str) -> str:
    """`text` as a GBNF literal.

    Everything but plain ASCII letters, digits and blanks is written as a code point, so that no
    character of a document can end the literal.
    """
    written = [c if c.isascii() and (c.isalnum() or c == " ") else f"\\U{ord(c):08X}" for c in text]
    return '"' + "".join(written) + '"'
