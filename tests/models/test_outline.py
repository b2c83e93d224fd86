"""An outline: every sentence begins as it says, whatever the model would have begun."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.context import LoadedModel
from models.engine_settings import EngineSettings
from models.errors import SamplingInvalid
from models.protocols import SamplingSettings
from models.sampling import Sampler
from models.vocabulary import Vocabulary

OPENINGS = ("Boats pay", "Dogs must be on", "It costs")
# No character of the openings, so that a wish is never granted by what is forced anyway.
# How a model may end a sentence: the mark in one go or in pieces, the line, its turn.
ENDS = st.sampled_from([("[1]",), ("[", "24", "]"), ("\n",), None])
WORDS = st.lists(st.sampled_from(["+", "[?]", "5", "]"]), max_size=4)


@pytest.fixture(scope="module")
def vocabulary(tiny_gguf: Path) -> Iterator[Vocabulary]:
    model = LoadedModel(EngineSettings(path=tiny_gguf))
    yield model.vocabulary
    model.free()


class Speaker:
    """A model that says what it is told to, one token a time."""

    def __init__(self, vocabulary: Vocabulary, sampling: SamplingSettings) -> None:
        self._vocabulary = vocabulary
        self._sampler = Sampler(sampling, vocabulary)
        self.text = ""
        self.is_over = False

    def wish(self, token: int) -> bool:
        """Sample where `token` is the likeliest; whether it came."""
        logits = np.zeros(self._vocabulary.num_vocab, np.float32)
        logits[token] = 9.0
        got = self._sampler.sample(logits)
        assert got is not None
        self.is_over = self._vocabulary.is_eog(got)
        self.text += self._vocabulary.piece(got).decode()
        return got == token

    def say(self, text: str) -> None:
        """Keep wishing for each token of `text` until it comes."""
        for token in self._vocabulary.tokenize(text, parse_special=False):
            for _ in range(30):
                if self.wish(token):
                    break
            else:
                raise AssertionError(f"never free to say {text!r}: {self.text!r}")

    def end_turn(self, text: str) -> None:
        """Wish for the end of the turn once `text` is said."""
        eog = int(self._vocabulary.eog_ids[0])
        while self.text != text:
            self.wish(eog)
        self.wish(eog)


@given(st.lists(st.tuples(WORDS, ENDS), min_size=3, max_size=3))
@settings(max_examples=60, deadline=None)
def test_each_sentence_begins_as_outlined_and_the_rest_is_the_models(
    vocabulary: Vocabulary, sentences: list[tuple[list[str], tuple[str, ...] | None]]
) -> None:
    speaker = Speaker(vocabulary, SamplingSettings(outline=OPENINGS))
    expected = ""
    for opening, (words, end) in zip(OPENINGS, sentences, strict=True):
        joint = " " if expected and not expected.endswith("\n") else ""
        expected += joint + opening + "".join(words) + "".join(end or ())
        for part in (*words, *(end or ())):
            speaker.say(part)
        if end is None:
            speaker.end_turn(expected)
    if not speaker.is_over:
        speaker.wish(vocabulary.tokenize("+", parse_special=False)[0])
    assert speaker.is_over
    assert speaker.text.rstrip() == expected.rstrip()


def test_an_outline_goes_with_no_grammar_and_is_never_empty(vocabulary: Vocabulary) -> None:
    for sampling in (
        SamplingSettings(outline=("a",), grammar='root ::= "a"'),
        SamplingSettings(outline=("a", "")),
    ):
        with pytest.raises(SamplingInvalid):
            Sampler(sampling, vocabulary)
