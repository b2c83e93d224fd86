"""The grammar admits the chosen sentences and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.gbnf import quote_literal
from server.grounding.grammar import OPENERS, QuotedSentence, build_grammar


@given(st.text())
def test_a_literal_has_no_character_that_ends_it(text: str) -> None:
    literal = quote_literal(text)
    assert literal[0] == literal[-1] == '"'
    assert '"' not in literal[1:-1]
    assert "\n" not in literal
    assert literal.isascii()


def test_openers_state_nothing() -> None:
    assert "" in OPENERS
    assert not any(character.isdigit() for opener in OPENERS for character in opener)


def test_sentences_stand_in_order_with_their_citations() -> None:
    grammar = build_grammar([QuotedSentence("One", 2), QuotedSentence("Two", 1)])
    assert grammar.splitlines()[0] == (
        'root ::= opener "One \\U0000005B2\\U0000005D Two \\U0000005B1\\U0000005D"'
    )
