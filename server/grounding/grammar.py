"""Sentences to the GBNF grammar that lets a model say nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.gbnf import quote_literal

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
