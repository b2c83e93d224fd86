"""A text is cut at the same places whether it comes whole or in pieces."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.text.sentences import Sentence, SentenceStream, segment

PARTS = st.sampled_from(
    [
        *"aB1 .!?\n|-*#>`'\"()[]:;,é。「」“”…\r\f",
        *("Dr. ", "e.g. ", "No. 5", "U.S. ", " etc. ", "[1]", " [2, 3]", "...", "The ", "Ito "),
        *("```\n", "~~~", "\n\n", "\r\n", "- ", "1. ", "# ", "| a | b |\n", "|---|\n", "===", "> "),
        *("p.m. ", "J. ", "`x. Y`", "(see 4. It", "https://a.b/c?d. ", "config.yaml ", "です。"),
        *("<|im_end|>", "<br>", "</s>", " < 5", "<"),
    ]
)
TEXTS = st.lists(PARTS, max_size=40).map("".join)


def cut_in_pieces(text: str, cuts: list[int], *, at_marks: bool) -> list[Sentence]:
    stream = SentenceStream(at_marks=at_marks)
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    found = [sentence for a, b in pairwise(bounds) for sentence in stream.feed(text[a:b])]
    return [*found, *stream.finish()]


@settings(max_examples=400, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 200), max_size=12), st.booleans())
@example("Done.\n[1] Next", [5, 6, 7, 8, 9], True)
@example("A (b. C) d. E", [5, 6, 7, 8], False)
def test_chunks_do_not_change_the_cuts(text: str, cuts: list[int], at_marks: bool) -> None:
    whole = SentenceStream(at_marks=at_marks)
    assert cut_in_pieces(text, cuts, at_marks=at_marks) == [*whole.feed(text), *whole.finish()]


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_single_characters_do_not_change_the_cuts(text: str) -> None:
    assert cut_in_pieces(text, list(range(len(text))), at_marks=False) == segment(text)


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_sentences_are_ordered_disjoint_slices_and_only_markup_is_left_out(text: str) -> None:
    position = 0
    for sentence in segment(text):
        _only_markup(text[position : sentence.start])
        assert position <= sentence.start < sentence.end
        readable = " ".join(text[sentence.start : sentence.end].split())
        assert sentence.text in (readable, readable.strip("| "))
        position = sentence.end
    _only_markup(text[position:])


def _only_markup(gap: str) -> None:
    """Letters and digits may stand outside of sentences in list markers and behind fences only."""
    for line in re.split(r"[\n\r\f]", gap):
        plain = re.sub(r"^\s*(?:```|~~~).*$", "", line)
        plain = re.sub(r"^[\s>]*\(?(?:\d{1,3}|[a-zA-Z])[.)]\s+(?:\[[ xX]\]\s+)?", "", plain)
        plain = re.sub(r"^[\s>]*[-*+]\s+\[[ xX]\]\s+", "", plain)
        assert not any(character.isalnum() for character in plain), gap


@given(st.text(alphabet="abc .,AB!?", max_size=80))
def test_a_sentence_comes_as_soon_as_the_next_has_begun(text: str) -> None:
    stream = SentenceStream()
    assert list(stream.feed("The badge is white. ")) == []
    assert [s.text for s in stream.feed("It")] == ["The badge is white."]
    list(stream.feed(text))
