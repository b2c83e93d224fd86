from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.imitation.errors import TrainingDataInvalid
from models.imitation.packs import CITATION, read_pack, read_packs
from models.imitation.sources import Passage
from models.imitation.tasks import (
    Piece,
    Task,
    conversation_tasks,
    cut_answer,
    locate_lines,
    with_passages,
)
from models.imitation.tokenizer import REFUSAL

PACK = """# Two Rivers Club

## Passages

### p1: fees.pdf > Fees
Adults pay 40 a year. Children pay 10.

### p2: hours.md > Hours
The hall opens at nine.

## Conversations

#### c1
Q: what do kids pay
A: Children pay 10. [p1]
Q: and when can they come?
A: The hall opens at nine. [p2] Adults pay 40 a year. [p1]

#### c2
Q: Is there a bar?
A: I could not find this in the documents.
"""


class TestPacks:
    def test_conversations_keep_their_turns_and_all_passages(self, tmp_path: Path) -> None:
        path = tmp_path / "two-rivers.md"
        path.write_text(PACK)
        first, second = read_pack(path)
        assert [turn.role for turn in first.turns] == ["user", "assistant"] * 2
        assert [p.title for p in first.passages] == ["fees.pdf > Fees", "hours.md > Hours"]
        assert second.turns[1].content == REFUSAL
        assert first.provenance["teacher"] is None

    @pytest.mark.parametrize(
        ("old", "new"),
        [("[p2]", "[p7]"), ("## Passages", "## Texts"), ("A: Children", "Q: Children")],
    )
    def test_a_broken_pack_is_named(self, tmp_path: Path, old: str, new: str) -> None:
        path = tmp_path / "broken.md"
        path.write_text(PACK.replace(old, new, 1))
        with pytest.raises(TrainingDataInvalid, match="broken"):
            read_pack(path)

    def test_the_written_conversations_are_as_many_and_as_varied_as_promised(self) -> None:
        conversations = list(read_packs())
        assert len(conversations) >= 1500
        answers = [t.content for c in conversations for t in c.turns if t.role == "assistant"]
        refused = sum(answer.startswith(REFUSAL) for answer in answers) / len(answers)
        assert 0.25 <= refused <= 0.35
        assert sum(len(c.turns) > 2 for c in conversations) > 0.4 * len(conversations)
        questions = [c.turns[0].content.casefold() for c in conversations]
        assert len(set(questions)) > 0.97 * len(questions)
        # No template: hardly two questions begin with the same four words.
        openings = [" ".join(question.split()[:4]) for question in questions]
        assert len(set(openings)) > 0.8 * len(openings)


class TestConversationTasks:
    def test_each_answer_is_a_task_with_the_turns_before_it(self, tmp_path: Path) -> None:
        path = tmp_path / "two-rivers.md"
        path.write_text(PACK)
        one, two = conversation_tasks(read_pack(path)[0])
        assert one.history == ()
        assert two.history == (("user", "what do kids pay"), ("assistant", "Children pay 10."))
        assert two.pieces == (
            Piece("The hall opens at nine.", 1),
            Piece("Adults pay 40 a year.", 0),
        )
        assert two.query == "what do kids pay and when can they come?"

    @given(st.lists(st.tuples(st.text("ab c."), st.sampled_from(["p1", "p2"])), max_size=5))
    def test_pieces_rejoin_to_the_answer(self, parts: list[tuple[str, str]]) -> None:
        answer = " ".join(f"{text} [{name}]" for text, name in parts)
        pieces = list(cut_answer(answer, {"p1": 0, "p2": 1}))
        said = "".join(piece.text for piece in pieces)
        assert said.split() == CITATION.sub("", answer).split() or "".join(said.split()) == "".join(
            CITATION.sub("", answer).split()
        )
        assert [piece.passage for piece in pieces] == [int(n == "p2") for _, n in parts]


class TestWithPassages:
    def test_gold_passages_stay_and_pieces_point_to_them(self) -> None:
        texts = [f"Rule {i} says {i}." for i in range(6)]
        passages = tuple(Passage(f"{i}.md", text) for i, text in enumerate(texts))
        task = Task("t", "g", passages, (), "Rule 4?", (Piece(texts[4], 4),), True)
        for seed in range(20):
            shown = with_passages(task, [Passage("x.md", "No.")], random.Random(seed), 3)
            assert len(shown.passages) == 3
            piece = shown.pieces[0]
            assert shown.passages[piece.passage].text == piece.text


class TestLocateLines:
    def test_a_rephrased_answer_finds_its_sentence(self) -> None:
        text = "Boats over nine metres pay 31.50 a night. Payment is due on arrival."
        task = Task("t", "g", (Passage("f", text),), (), "?", (Piece("Due on arrival.", 0),), True)
        assert locate_lines(task) == {(0, text.index("Payment"))}

    def test_a_summary_finds_every_sentence_that_it_holds(self) -> None:
        text = "Doors open at nine. Lights go off at ten. Dogs stay outside the hall."
        piece = Piece("Doors open at nine and lights go off at ten.", 0)
        task = Task("t", "g", (Passage("f", text),), (), "?", (piece,), True)
        assert locate_lines(task) == {(0, 0), (0, text.index("Lights"))}
