"""Plain words: marks and targets go, every word that a reader sees stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.text.plain import read_plain
from models.text.ranking import ScoredPassage, rank_sentences
from tests.fakes import HashingEmbedder

WRAPS = (
    "{}",
    "[{}](https://example.org/a_(b)/c-d.html#leave)",
    '[{}](../pay/index.md "Pay and pension")',
    "[{}](<a file.md>)",
    "[{}][pay]",
    "![{}](chart.png)",
    "[![{}](chart.png)](https://example.org)",
    "**{}**",
    "**[{}](x.md)**",
    "<a href=\"https://example.org/?a=1&b=2\" title='x > y'>{}</a>",
    "<br>{}",
)
WORD = st.text("abcdefgh0123456789", min_size=1, max_size=8)


@given(st.lists(st.tuples(WORD, WORD, st.sampled_from(WRAPS)), min_size=1, max_size=8))
def test_the_words_that_are_seen_are_left_in_order(
    drawn: list[tuple[str, str, str]],
) -> None:
    marked = " ".join(f"{word} {wrap.format(label)}" for word, label, wrap in drawn)
    assert read_plain(marked) == " ".join(f"{word} {label}" for word, label, _ in drawn)


@pytest.mark.parametrize(
    "text",
    [
        "Badges cost 12 euros (see below).",
        "Write a[1] before b [2], as <your-name> does.",
        "[Leave] (up to six weeks) is paid.",
        "4 < 5 and List<String> 2 ** 3 ** x",
        "",
    ],
)
def test_what_is_no_link_stays_as_it_is(text: str) -> None:
    assert read_plain(text) == text


@given(st.text("[]()<>!*a \"'", max_size=80))
def test_whatever_stands_there_nothing_is_added(text: str) -> None:
    assert len(read_plain(text)) <= len(text)


def test_a_sentence_is_ranked_by_its_words_and_given_as_it_stands() -> None:
    plain = "Each parent takes parental leave. The canteen opens at nine."
    marked = plain.replace("parental leave", "[parental leave](https://example.org/people/x.html)")
    encode = HashingEmbedder().encode
    question = "When is parental leave taken?"
    found, same = (
        rank_sentences(question, [ScoredPassage(text, "[Leave](leave.md)", 0.5)], encode)
        for text in (marked, plain)
    )
    assert [item.signals for item in found] == [item.signals for item in same]
    assert "](https://" in found[0].sentence.text
    assert found[0].context == "Leave"
