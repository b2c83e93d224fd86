"""A draft's sentences get the citations they deserve as they complete, however they arrive."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.attribution import make_hits
from server.grounding.drafting import DraftWriter, Unsupported

HITS = tuple(
    make_hits(
        [
            "Visitors wear a white badge. A lost badge costs 12 euros. Dogs stay outside.",
            "The pool opens at 06:30. It closes at 21:00 [3].\n\n| Lane | Depth |\n|---|---|\n"
            "| North | 2 m |\n| South | 3 m |\n",
        ]
    )
)
SENTENCES = st.lists(
    st.sampled_from(
        [
            *(
                "A lost badge costs 12 euros. ",
                "A lost badge costs 15 euros [1]. ",
                "You need:\n\n",
            ),
            *(
                "- a white badge for visitors [2]\n",
                "The pool opens at 06:30 [1, 9]. ",
                "# Pool\n\n",
            ),
            *(
                "| North | 2 m |\n",
                "\n```\npool open\n```\n",
                "Dogs do not stay outside.\n\n",
                "Hm. ",
            ),
        ]
    ),
    max_size=8,
).map("".join)


def write(pieces: list[str], unsupported: Unsupported = "flag") -> DraftWriter:
    writer = DraftWriter(HITS, unsupported=unsupported, refusal="I could not find this.")
    for piece in pieces:
        writer._take(piece, is_last=False)
    writer._take("", is_last=True)
    return writer


@settings(max_examples=150, deadline=None)
@given(SENTENCES, st.lists(st.integers(0, 300), max_size=10), st.sampled_from(["flag", "drop"]))
def test_pieces_do_not_change_what_is_written(
    draft: str, cuts: list[int], unsupported: Unsupported
) -> None:
    bounds = [0, *sorted(min(cut, len(draft)) for cut in cuts), len(draft)]
    split = write([draft[a:b] for a, b in pairwise(bounds)], unsupported)
    whole = write([draft], unsupported)
    assert split.text == whole.text
    assert split.sentences == whole.sentences
    assert split.citations == whole.citations


@settings(max_examples=150, deadline=None)
@given(SENTENCES)
def test_marks_spans_and_citations_agree(draft: str) -> None:
    writer = write([draft])
    listed = {citation.index for citation in writer.citations}
    for citation in writer.citations:
        passage = HITS[citation.index - 1].passage
        assert passage.text[citation.start : citation.end] == citation.quote
    for sentence in writer.sentences:
        assert 0 <= sentence.start < sentence.end <= len(writer.text)
        assert set(sentence.citations) <= listed
        behind = writer.text[sentence.end :]
        in_cell = writer.text[sentence.start] == "|"
        in_code = "pool open" in writer.text[sentence.start : sentence.end]
        if sentence.citations and not in_cell and not in_code:
            assert behind.startswith("".join(f" [{n}]" for n in sentence.citations))
    assert "[9]" not in writer.text
    assert "15 euros [" not in writer.text


def test_a_citation_arrives_with_its_sentence() -> None:
    writer = DraftWriter(HITS, unsupported="flag", refusal="No.")
    assert writer._take("A lost badge costs 12 euros. ", is_last=False) == []
    assert writer._take("The", is_last=False) == ["A lost badge costs 12 euros. [1]"]
    assert [citation.index for citation in writer.citations] == [1]


def test_marks_of_rows_stand_in_the_last_cell() -> None:
    assert write(["| North | 2 m |\n"]).text == "| North | 2 m [2] |\n"


def test_dropped_sentences_leave_the_rest() -> None:
    draft = "A lost badge costs 15 euros. Dogs stay outside."
    assert write([draft], "drop").text.strip() == "Dogs stay outside. [1]"
