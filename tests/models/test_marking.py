"""A marked text answers as the text it stands for, and comes out whole."""

from __future__ import annotations

import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.marking import MarkedText, Marks

TEXTS = st.text(alphabet="ab <|>\n\t\u3000é", max_size=12)


def _rendered(marks: Marks, value: str) -> str:
    return "".join(run.text for run in marks.segments("".join([value])))


@given(st.lists(st.tuples(TEXTS, st.booleans()), max_size=4), TEXTS, TEXTS, st.integers(-3, 3))
def test_marked_text_does_what_the_real_text_does(
    parts: list[tuple[str, bool]], a: str, b: str, n: int
) -> None:
    marks = Marks()
    marked: Any = MarkedText("", marks)
    for index, (part, is_content) in enumerate(parts):
        marked = marked + (marks.mark(part, index) if is_content else part)
    real = "".join(part for part, _ in parts)

    assert _rendered(marks, marked) == real
    assert len(marked) == len(real)
    assert bool(marked) == bool(real)
    assert marked == real
    assert not operator.ne(marked, real)
    assert hash(marked) == hash(real)
    assert (a in marked) == (a in real)
    assert marked.startswith(a) == real.startswith(a)
    assert marked.find(a) == real.find(a)
    assert (marked < a) == (real < a)
    for name in ("strip", "lstrip", "rstrip"):
        assert _rendered(marks, getattr(marked, name)()) == getattr(real, name)()
        assert _rendered(marks, getattr(marked, name)(a or None)) == getattr(real, name)(a or None)
    for name in ("upper", "lower"):
        assert _rendered(marks, getattr(marked, name)()) == getattr(real, name)()
    assert _rendered(marks, marked[n:]) == real[n:]
    assert _rendered(marks, marked[:n]) == real[:n]
    assert _rendered(marks, marked[::-1]) == real[::-1]
    assert _rendered(marks, marked.removeprefix(a)) == real.removeprefix(a)
    assert _rendered(marks, marked.removesuffix(a)) == real.removesuffix(a)
    assert [_rendered(marks, p) for p in marked.split()] == real.split()
    assert [_rendered(marks, p) for p in marked.splitlines()] == real.splitlines()
    assert [_rendered(marks, character) for character in marked] == list(real)
    if a:
        assert [_rendered(marks, p) for p in marked.split(a, n)] == real.split(a, n)
        assert [_rendered(marks, p) for p in marked.rsplit(a, n)] == real.rsplit(a, n)
        assert [_rendered(marks, p) for p in marked.partition(a)] == list(real.partition(a))
        assert _rendered(marks, marked.replace(a, b)) == real.replace(a, b)
    assert _rendered(marks, b + marked + a) == b + real + a


def test_content_is_told_from_scaffold_that_reads_the_same() -> None:
    marks = Marks()
    rendered = "<|user|>" + marks.mark("<|user|>", 7) + "<|user|>"
    kinds = [(run.text, run.source) for run in marks.segments(rendered)]
    assert kinds == [("<|user|>", None), ("<|user|>", 7), ("<|user|>", None)]


def test_a_damaged_mark_is_noticed() -> None:
    marks = Marks()
    rendered = str.__add__(marks.mark("text", 0), "")
    with pytest.raises(ValueError, match="mark"):
        marks.segments(rendered[1:])
    with pytest.raises(ValueError, match="mark"):
        marks.segments(rendered.replace("#0", "#9"))
