"""Hits collapsed and spread over documents, as laws over any list of hits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from index.diversity import SpreadRules, spread
from index.duplicates import collapse
from index.types import Document, Hit, Passage

POLICY = (
    "Every employee receives {days} days of paid leave in a year, which are booked in the calendar"
    " two weeks ahead and approved by the manager within three working days of the request."
)


def make_document(name: str) -> Document:
    return Document(name, "docs", name, "text/plain", "0", 1, 1, 0, None, (), {})


def make_hits(found: list[tuple[str, str]], headings: tuple[str, ...] = ("Part",)) -> list[Hit]:
    """Hits of (document, text) with falling scores."""
    return [
        Hit(
            Passage(id_, name, id_, 0, len(text), headings, None, 1, text),
            make_document(name),
            1.0 / (1 + id_ / 10),
            id_ + 1,
            None,
            None,
        )
        for id_, (name, text) in enumerate(found)
    ]


TEXTS = st.sampled_from(
    ["See the wiki.", POLICY.format(days=25), POLICY.format(days=28), "", "Other words stand here."]
)
FOUND = st.lists(st.tuples(st.sampled_from("abcd"), TEXTS), max_size=20)


@given(found=FOUND)
def test_collapsing_twice_is_collapsing_once(found: list[tuple[str, str]]) -> None:
    once = collapse(make_hits(found))
    assert collapse(once) == once


@given(
    num_words=st.integers(4, 60),
    changed=st.sets(st.integers(0, 59), max_size=3),
    added=st.integers(0, 4),
)
def test_what_collapses_shares_nine_tenths_of_its_runs_of_four_words(
    num_words: int, changed: set[int], added: int
) -> None:
    first = [f"w{'abcdefg'[at % 7]}{'klmn'[at % 4]}" for at in range(num_words)]
    second = ["other" if at in changed else word for at, word in enumerate(first)] + ["x"] * added
    runs = [
        {tuple(words[at : at + 4]) for at in range(len(words) - 3)} for words in (first, second)
    ]
    hits = make_hits([("a", " ".join(first)), ("b", " ".join(second))])
    resemblance = len(runs[0] & runs[1]) / len(runs[0] | runs[1])
    assert (len(collapse(hits)) == 1) == (resemblance >= 0.9)


@given(found=FOUND)
def test_collapsing_keeps_the_best_and_names_every_document(found: list[tuple[str, str]]) -> None:
    hits = make_hits(found)
    kept = collapse(hits)
    assert [hit.rank for hit in kept] == list(range(1, len(kept) + 1))
    assert [hit.passage.id for hit in kept[:1]] == [hit.passage.id for hit in hits[:1]]
    assert {hit.passage.text for hit in kept} == {hit.passage.text for hit in hits}
    named = {name for hit in kept for name in (hit.document.id, *(d.id for d in hit.copies))}
    assert named == {name for name, _ in found}
    assert all(hit.document not in hit.copies for hit in kept)


def test_copies_are_collapsed_but_not_versions_with_another_number() -> None:
    kept = collapse(
        make_hits(
            [
                ("a", POLICY.format(days=25)),
                ("b", POLICY.format(days=25).replace("manager", "lead")[:-1] + ", please."),
                ("old", POLICY.format(days=25).upper()),
                ("c", POLICY.format(days=28)),
            ]
        )
    )
    assert [hit.document.id for hit in kept] == ["a", "b", "c"]
    assert [document.id for document in kept[0].copies] == ["old"]


def test_a_short_text_is_the_same_only_under_the_same_heading() -> None:
    first = make_hits([("a", "See the wiki.")], ("Pay",))
    second = make_hits([("b", "See the wiki.")], ("Leave",))
    assert len(collapse([*first, *second])) == 2
    assert len(collapse([*first, *make_hits([("b", "See the wiki.")], ("Pay",))])) == 1


@given(
    found=FOUND,
    num_free=st.integers(1, 5),
    discount=st.floats(0.01, 1.0),
)
def test_spreading_keeps_all_hits_the_best_first_and_each_documents_order(
    found: list[tuple[str, str]], num_free: int, discount: float
) -> None:
    hits = make_hits(found)
    spread_out = spread(hits, SpreadRules(num_free, discount))
    assert {hit.passage.id for hit in spread_out} == {hit.passage.id for hit in hits}
    assert spread_out[:1] == hits[:1]
    assert [hit.score for hit in spread_out] == sorted((h.score for h in spread_out), reverse=True)
    for name in "abcd":
        own = [hit.passage.id for hit in spread_out if hit.document.id == name]
        assert own == sorted(own)


def test_a_document_with_many_hits_makes_room_for_another() -> None:
    hits = make_hits([*[("a", f"text {n}") for n in range(5)], ("b", "text 9")])
    names = [hit.document.id for hit in spread(hits, SpreadRules(2, 0.5))]
    assert names.index("b") == 2
    assert spread(hits, SpreadRules(2, 1.0)) == hits
