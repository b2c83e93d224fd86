from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ModelFileInvalid
from models.imitation.conversations import Conversation, Turn
from models.imitation.errors import TrainingDataInvalid
from models.imitation.importing.counting import estimate_tokens, open_counter
from models.imitation.importing.splitting import (
    TURN_OVERHEAD_TOKENS,
    Oversized,
    Split,
    split,
)
from tests.gguf_factory import write_tiny_gguf


def count_words(text: str) -> int:
    return len(text.split())


def chat(*sizes: tuple[int, int], system: int = 0) -> Conversation:
    """A conversation whose questions and answers have so many words, all of them different."""
    turns = [Turn("system", " ".join(f"s{i}" for i in range(system)))] if system else []
    for number, (asked, answered) in enumerate(sizes):
        turns.append(Turn("user", " ".join(f"q{number}.{i}" for i in range(asked))))
        turns.append(Turn("assistant", " ".join(f"a{number}.{i}" for i in range(answered))))
    return Conversation("c", tuple(turns), {"source": "test"})


def cut(conversation: Conversation, max_tokens: int, oversized: Oversized = "truncate") -> Split:
    return split(conversation, max_tokens, count_words, oversized)


def cost(conversation: Conversation) -> int:
    return sum(count_words(turn.content) + TURN_OVERHEAD_TOKENS for turn in conversation.turns)


def questions(parts: Split) -> list[str]:
    return [t.content for piece in parts.pieces for t in piece.turns if t.role == "user"]


def test_the_last_pair_survives_as_a_piece_of_its_own_when_it_overflows() -> None:
    """FastChat's splitter returned without the final pair when it did not fit any more."""
    conversation = chat((10, 10), (10, 10), (10, 10))
    parts = cut(conversation, 64)
    assert [piece.turns for piece in parts.pieces] == [
        conversation.turns[:4],
        conversation.turns[4:],
    ]
    assert [piece.id for piece in parts.pieces] == ["c/1", "c/2"]
    assert (parts.num_exchanges, parts.num_truncated, parts.num_dropped) == (3, 0, 0)


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 60)), min_size=1, max_size=8),
    st.integers(16, 120),
    st.sampled_from(["truncate", "drop"]),
    st.integers(0, 5),
)
@settings(deadline=None)
def test_every_pair_is_in_one_piece_or_counted_and_every_piece_fits(
    sizes: list[tuple[int, int]], max_tokens: int, oversized: Oversized, system: int
) -> None:
    conversation = chat(*sizes, system=system)
    parts = cut(conversation, max_tokens, oversized)
    kept = questions(parts)
    asked = [turn.content for turn in conversation.turns if turn.role == "user"]
    assert kept == [question for question in asked if question in kept]
    assert len(kept) + parts.num_dropped == parts.num_exchanges == len(sizes)
    assert all(cost(piece) <= max_tokens for piece in parts.pieces)
    answers = {t.content for t in conversation.turns if t.role == "assistant"}
    found = [t.content for piece in parts.pieces for t in piece.turns if t.role == "assistant"]
    assert sum(answer not in answers for answer in found) == parts.num_truncated
    assert all(any(whole.startswith(answer) for whole in answers) for answer in found)
    for piece in parts.pieces:
        assert [turn.role for turn in piece.turns][:1] == (["system"] if system else ["user"])
    fits = [
        sum(size) + (2 + bool(system)) * TURN_OVERHEAD_TOKENS + system <= max_tokens
        for size in sizes
    ]
    if all(fits):
        assert parts.num_dropped == parts.num_truncated == 0
    if oversized == "drop":
        assert parts.num_dropped == fits.count(False)


def test_what_fits_stays_as_it_is() -> None:
    conversation = chat((5, 5), (5, 5))
    assert cut(conversation, 100).pieces == (conversation,)


def test_an_oversized_answer_ends_at_a_sentence_and_says_so() -> None:
    answer = "One two three. Four five six. Seven eight nine ten eleven."
    conversation = Conversation("c", (Turn("user", "q"), Turn("assistant", answer)), {})
    parts = cut(conversation, 21)
    assert parts.pieces[0].turns[1].content == "One two three. Four five six."
    assert parts.pieces[0].provenance["truncated"] is True
    assert (parts.num_truncated, parts.num_dropped) == (1, 0)
    assert cut(conversation, 21, "drop").num_dropped == 1
    assert cut(conversation, 13).num_dropped == 1


def test_a_cut_never_leaves_a_code_block_open() -> None:
    answer = "Do this.\n```\na\nb\nc\n```\nDone."
    conversation = Conversation("c", (Turn("user", "q"), Turn("assistant", answer)), {})
    assert cut(conversation, 17).pieces[0].turns[1].content == "Do this."


def test_pairs_around_a_dropped_one_are_not_joined() -> None:
    parts = cut(chat((2, 2), (50, 2), (2, 2)), 60)
    assert [len(piece.turns) for piece in parts.pieces] == [2, 2]
    assert parts.num_dropped == 1


def test_tool_calls_count_and_stay_with_their_question() -> None:
    calls = [{"function": {"name": "f", "arguments": "a b c d e f g h"}}]
    turns = (
        Turn("user", "q"),
        Turn("assistant", "", {"tool_calls": calls}),
        Turn("tool", "7"),
        Turn("assistant", "seven"),
    )
    conversation = Conversation("c", (*turns, *turns), {})
    parts = cut(conversation, 50)
    assert [piece.turns for piece in parts.pieces] == [turns, turns]
    assert cut(conversation, 36).num_dropped == 2


@pytest.mark.parametrize("suffix", ["", "tokenizer.json"])
def test_tokens_are_counted_by_a_tokenizer_file_or_its_folder(
    tokenizer_path: Path, suffix: str
) -> None:
    from tokenizers import Tokenizer

    path = tokenizer_path if suffix else tokenizer_path.parent
    with open_counter(path) as count:
        text = "Each parent receives 16 weeks."
        expected = Tokenizer.from_file(str(tokenizer_path)).encode(text, add_special_tokens=False)
        assert count(text) == len(expected.ids) > 3


def test_tokens_are_counted_by_a_gguf(tmp_path: Path) -> None:
    with open_counter(write_tiny_gguf(tmp_path / "m.gguf")) as count:
        assert count("") == 0
        assert 5 < count("each parent receives leave") < 27
        # Control tokens in data are text.
        assert count("<|bos|>") > 1


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ModelFileInvalid, match=r"x\.gguf"), open_counter(tmp_path / "x.gguf"):
        pass
    with pytest.raises(TrainingDataInvalid, match=r"x\.json"), open_counter(tmp_path / "x.json"):
        pass


def test_the_estimate_is_near_a_token_a_word_and_a_token_a_sign_of_chinese() -> None:
    assert estimate_tokens("The handbook says: sixteen weeks of leave.") == 13
    assert estimate_tokens("育児休業は十六週です。") == 11
    assert estimate_tokens("") == 0
