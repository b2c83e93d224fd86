from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.text.words import WantedStems, find_topic_words, find_words, match_stem, stem

WORDS = st.lists(
    st.sampled_from(["pay", "leave", "ation", "ment", "s", "ing", "er", "é", "4", "the", "b"]),
    min_size=1,
    max_size=4,
).map("".join)


@settings(deadline=None)
@given(st.text("aBcé4²ﬁ_'’ -–.“\n\u0301员İ", max_size=30))
@example("rock'n'roll 'tis o'clock's James’ x''y")
def test_words_are_runs_of_letters_and_digits_without_a_possessive_ending(text: str) -> None:
    folded = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in folded if not unicodedata.combining(c))
    assert find_words(text) == re.findall(r"(\w+)(?:['’]\w+)?", plain)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("relocations", "reloc"),
        ("stations", "station"),
        ("nations", "nation"),
        ("parties", "part"),
        ("ties", "ties"),
        ("bases", "bas"),
        ("yearly", "year"),
        ("b2ments", "b2ments"),
    ],
)
def test_a_stem_lacks_the_longest_ending_that_leaves_three_letters(
    word: str, expected: str
) -> None:
    assert stem(word) == expected


@settings(deadline=None)
@given(st.lists(WORDS, max_size=6), st.lists(WORDS, max_size=12))
def test_wanted_stems_are_found_wherever_a_topic_word_matches(
    asked: list[str], words: list[str]
) -> None:
    wanted = [stem(word) for word in find_words(" ".join(asked))]
    given_words = find_words(" ".join(words))
    known = WantedStems(wanted)
    found = known.find(given_words)
    own = set(find_topic_words(" ".join(words)))
    assert found.keys() == {s for s in own if any(match_stem(w, s) for w in wanted)}
    assert known.match(found) == {w for w in wanted if any(match_stem(w, s) for s in own)}
    for own_stem, places in found.items():
        assert places == sorted(places)
        assert {stem(given_words[place]) for place in places} == {own_stem}
