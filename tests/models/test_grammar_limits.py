"""A client's grammar: what would hold everybody up is refused, what is plain is not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.engine_settings import EngineSettings
from models.errors import GrammarInvalid
from models.grammar import Grammar
from models.grammar_limits import check_client_grammar
from models.loaded_model import LoadedModel
from models.structured.schema import grammar_of_any_object
from models.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def vocabulary(tiny_gguf: Path) -> Iterator[Vocabulary]:
    model = LoadedModel(EngineSettings(path=tiny_gguf))
    yield model.vocabulary
    model.free()


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ('root ::= ("a"?){10}', "a group, which may be empty"),
        ('root ::= (("a"?){10}){10} "b"', "may be empty"),
        ('root ::= x{3} "b"\nx ::= y?\ny ::= [b]', "'x', which may be empty"),
        ('root ::= ("a" | ""){2,}', "may be empty"),
        ("root ::= [a]?{9}", "may be empty"),
        ("root ::= x+\nx ::= y y\ny ::= [a]{0,3}", "may be empty"),
        ("root ::= r r r r r r r\nr ::= [a]{0,1600}", "spells out to 11200"),
        ('root ::= "' + "long" * 20 + '"{200}', "spells out"),
        ("root ::= a0\n" + "\n".join(f"a{i} ::= a{i + 1} a{i + 1}" for i in range(40)), "spells"),
        ("root ::= [a]\n" + "\n".join(f"a{i} ::= [b]" for i in range(3000)), "2000 rules"),
        ("# " + "a" * 70_000, "bytes"),
    ],
)
def test_what_would_hold_everybody_up_is_refused(grammar: str, reason: str) -> None:
    with pytest.raises(GrammarInvalid, match=reason) as caught:
        check_client_grammar(grammar)
    assert caught.value.param == "grammar"
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= "yes" | "no"',
        'root ::= item{2,4} "." # a comment with ("a"?){9}\nitem ::= [a-zé]+ [0-9]? " "',
        'root ::= "say \\"(a?){9}\\"" [(?){9}]*',
        "root ::= " + '"' + "a" * 50_000 + '"',
        "root ::= x\nx ::= [a] x | [b]",
        grammar_of_any_object(),
    ],
)
def test_plain_grammars_pass_and_parse(vocabulary: Vocabulary, grammar: str) -> None:
    check_client_grammar(grammar)
    Grammar(grammar, vocabulary).free()


@given(st.text(st.sampled_from('()[]{}?*+|"\\ abr:=\n01,#.!<>-'), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever it holds, reading it ends."""
    reason = None
    try:
        check_client_grammar("root ::= " + text)
    except GrammarInvalid as error:
        reason = error.message
    assert reason is None or reason.startswith("The grammar ")


@pytest.mark.slow
def test_ways_that_grow_are_stopped_while_they_run(vocabulary: Vocabulary) -> None:
    grammar = "root ::= x{0,20}\nx ::= y{1,20}\ny ::= [a]{1,20}"
    check_client_grammar(grammar)
    follower = Grammar(grammar, vocabulary)
    (a,) = vocabulary.tokenize("a", parse_special=False)
    every = np.arange(vocabulary.num_vocab, dtype=np.int32)

    def follow() -> None:
        for _ in range(300):
            follower.allows(every)
            follower.accept(a)

    began = time.thread_time()
    with pytest.raises(GrammarInvalid, match="too many ways"):
        follow()
    # The budget, and the last call that it could not foresee.
    assert time.thread_time() - began < 10
    follower.free()
