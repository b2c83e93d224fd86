"""An outline: every sentence begins as it says, whatever the model would have begun."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.engine_settings import EngineSettings
from models.errors import SamplingInvalid
from models.loaded_model import LoadedModel
from models.protocols import SamplingSettings
from models.sampling import Sampler
from models.vocabulary import Vocabulary

OPENINGS = ("Boats pay", "Dogs must be on", "It costs")
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

        self._hear(self._sampler.take_forced())

    def _hear(self, tokens: list[int]) -> None:
        for token in tokens:
            self.is_over = self._vocabulary.is_eog(token)
            self.text += self._vocabulary.piece(token).decode()

    def wish(self, token: int) -> None:
        """Sample where `token` is the likeliest, then take what is forced."""
        logits = np.zeros(self._vocabulary.num_vocab, np.float32)
        logits[token] = 9.0
        got = self._sampler.sample(logits)
        self._hear([] if got is None else [got])
        self._hear(self._sampler.take_forced())

    def say(self, text: str) -> None:
        """Wish for each token of `text`."""
        for token in self._vocabulary.tokenize(text, parse_special=False):
            self.wish(token)

    def end_turn(self) -> None:
        """Wish for the end of the turn."""
        self.wish(int(self._vocabulary.eog_ids[0]))


@given(st.lists(st.tuples(WORDS, ENDS), min_size=3, max_size=3))
@settings(max_examples=60, deadline=None)
def test_each_sentence_begins_as_outlined_and_the_rest_is_the_models(
    vocabulary: Vocabulary, sentences: list[tuple[list[str], tuple[str, ...] | None]]
) -> None:
    speaker = Speaker(vocabulary, SamplingSettings(outline=OPENINGS))
    expected = ""
    for opening, (words, end) in zip(OPENINGS, sentences, strict=True):
        expected += ("" if not expected or expected.endswith("\n") else " ") + opening
        assert speaker.text == expected
        assert not speaker.is_over
        expected += "".join(words) + "".join(end or ())
        for part in (*words, *(end or ())):
            speaker.say(part)
        if end is None:
            speaker.end_turn()
    assert speaker.is_over
    assert speaker.text == expected


def test_an_outline_goes_with_no_grammar_and_is_never_empty(vocabulary: Vocabulary) -> None:
    for sampling in (
        SamplingSettings(outline=("a",), grammar='root ::= "a"'),
        SamplingSettings(outline=("a", "")),
    ):
        with pytest.raises(SamplingInvalid):
            Sampler(sampling, vocabulary)
