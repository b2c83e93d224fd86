"""Text leaves whole: characters, and up to a stop string."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.detokenizer import TextStream


def _cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, position = [], 0
    for size in [*sizes, len(data)]:
        pieces.append(data[position : position + size])
        position += size
    return pieces


SIZES = st.lists(st.integers(0, 3), max_size=40)


@given(st.text(max_size=30), SIZES)
def test_whole_characters_however_the_bytes_are_cut(text: str, sizes: list[int]) -> None:
    stream = TextStream()
    pieces = [stream.push(piece) for piece in _cut(text.encode(), sizes)]
    assert "".join(pieces) + stream.finish() == text
    assert "\ufffd" not in "".join(pieces) or "\ufffd" in text


@given(st.binary(max_size=30), SIZES)
def test_any_bytes_give_valid_text(data: bytes, sizes: list[int]) -> None:
    stream = TextStream(["ab"])
    text = "".join(stream.push(piece) for piece in _cut(data, sizes)) + stream.finish()
    assert text.encode().decode() == text


@given(
    st.text(alphabet="ab\né", max_size=30),
    st.lists(st.text(alphabet="ab\né", min_size=1, max_size=4), max_size=3),
    SIZES,
)
def test_text_ends_where_the_first_stop_string_is_complete(
    text: str, stops: list[str], sizes: list[int]
) -> None:
    stream = TextStream(stops)
    said = ""
    for piece in _cut(text.encode(), sizes):
        said += stream.push(piece)
        if stream.is_stopped:
            break
    said += stream.finish()
    assert text.startswith(said)
    assert not any(stop in said for stop in stops)
    assert stream.is_stopped == any(stop in text for stop in stops)
    if stream.is_stopped:
        assert any(text[len(said) :].startswith(stop) for stop in stops)
    else:
        assert said == text


def test_what_may_begin_a_stop_string_is_held_back() -> None:
    stream = TextStream(["</end>"])
    assert stream.push(b"so </e") == "so "
    assert stream.push(b"m>") == "</em>"
    assert stream.push(b" </en") == " "
    assert stream.push(b"d> and more") == ""
    assert stream.is_stopped


def test_an_incomplete_character_at_the_end_is_dropped() -> None:
    stream = TextStream()
    assert stream.push("né".encode()[:2]) == "n"
    assert stream.finish() == ""
