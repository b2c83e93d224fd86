from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.imitation.conversations import Conversation, SourcePassage, Turn
from models.imitation.errors import CheckpointUnsupported
from models.imitation.tuning.block_attention import attention_mask
from models.imitation.tuning.checkpoint import load_model, read_checkpoint
from models.imitation.tuning.masking import IGNORED, Encoder, Example
from models.imitation.tuning.packing import collate, pack
from models.imitation.tuning.templates import choose_template, make_tokenizer
from models.imitation.tuning.trainer import picked_logits
from tests.models.imitation.tuning.checkpoints import write_checkpoint


@pytest.fixture(scope="module")
def model(base: Path) -> Any:
    return load_model(base, dtype=torch.float32).eval()


def example_of(ids: list[int], blocks: list[int] | None = None) -> Example:
    labels = [IGNORED, *ids[1:]]
    return Example(
        np.array(ids, np.int32),
        np.array(labels, np.int32),
        np.array(blocks or [0] * len(ids), np.int16),
    )


def logits_of(model: Any, rows: list[list[Example]]) -> torch.Tensor:
    batch = collate(rows)
    with torch.no_grad():
        return picked_logits(model, batch)[batch.weights > 0]


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(40, 90), st.integers(0, 9)
)
def test_packing_keeps_every_example_once_and_no_row_is_too_long(
    lengths: list[int], length: int, seed: int
) -> None:
    examples = [example_of([number] * size) for number, size in enumerate(lengths)]
    rows = pack(examples, length, random.Random(seed))
    assert sorted(e.ids[0] for row in rows for e in row) == list(range(len(examples)))
    assert all(sum(len(e.ids) for e in row) <= length for row in rows)
    assert rows == pack(examples, length, random.Random(seed))


def test_a_packed_conversation_is_computed_as_if_it_were_alone(model: Any) -> None:
    generator = random.Random(0)
    examples = [
        example_of([generator.randrange(5, 400) for _ in range(size)]) for size in (23, 9, 31)
    ]
    alone = torch.cat([logits_of(model, [[example]]) for example in examples])
    packed = logits_of(model, [examples])
    assert torch.allclose(alone, packed, atol=1e-5)
    other = example_of([7] * 9)
    changed = logits_of(model, [[examples[0], other, examples[2]]])
    assert torch.equal(packed[-30:], changed[-30:])
    assert not torch.allclose(packed[22:30], changed[22:30], atol=1e-2)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=24), st.integers(0, 24))
def test_passages_see_the_prefix_and_themselves_and_the_rest_sees_all(
    numbers: list[int], cut: int
) -> None:
    """The law of the mask, over any order of blocks and any cut between two examples."""
    blocks = torch.tensor([numbers])
    examples = torch.tensor([[int(i >= cut) for i in range(len(numbers))]])
    mask = attention_mask(examples, blocks)[0, 0]
    for row, mine in enumerate(numbers):
        for column, other in enumerate(numbers):
            is_same = (row >= cut) == (column >= cut)
            sees = column <= row and is_same and (0 in (mine, other) or mine == other)
            assert bool(mask[row, column]) is sees


@pytest.fixture(scope="module")
def grounded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Encoder, Any]:
    folder = tmp_path_factory.mktemp("documents")
    write_checkpoint(folder, "llama", "smollm", "documents", scale=2.0)
    checkpoint = read_checkpoint(folder)
    tokenizer = make_tokenizer(checkpoint, choose_template(checkpoint, None))
    model = load_model(folder, dtype=torch.float32).eval()
    return Encoder(tokenizer, 500, block_attention=True), model


def ask(*texts: str) -> Conversation:
    passages = tuple(SourcePassage(str(i), f"Title {i}", text) for i, text in enumerate(texts))
    return Conversation("q", (Turn("user", "When?"), Turn("assistant", "At nine.")), {}, passages)


def test_blocks_are_the_passages_with_their_scaffold(grounded: tuple[Encoder, Any]) -> None:
    encoder, _ = grounded
    (example,) = encoder.encode(ask("The office opens at nine.", "Trains leave.", "Keep it."))
    texts = {
        number: encoder.tokenizer.vocabulary.decode(example.ids[example.blocks == number].tolist())
        for number in range(4)
    }
    assert texts[1] == "[1]\nTitle 0\nThe office opens at nine."
    assert texts[2] == "[2]\nTitle 1\nTrains leave."
    assert texts[3] == "[3]\nTitle 2\nKeep it."
    assert texts[0] == "When?At nine."


def test_a_passage_depends_on_no_other_passage_and_the_answer_on_all(
    grounded: tuple[Encoder, Any],
) -> None:
    encoder, model = grounded
    (one,) = encoder.encode(ask("The office opens at 9.", "Trains are booked."))
    (two,) = encoder.encode(ask("The office opens at 5.", "Trains are booked."))
    assert len(one.ids) == len(two.ids)

    def states(example: Example) -> Any:
        batch = collate([[example]])
        with torch.no_grad():
            hidden = model.model(
                input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions
            ).last_hidden_state[0]
        return hidden[: len(example.ids)]

    first, second = states(one), states(two)
    is_second = torch.from_numpy(one.blocks == 2)
    assert torch.equal(first[is_second], second[is_second])
    is_answer = torch.from_numpy(one.labels != IGNORED)
    assert not torch.allclose(first[is_answer], second[is_answer], atol=1e-3)


def test_block_attention_needs_a_template_that_writes_documents(base: Path) -> None:
    checkpoint = read_checkpoint(base)
    tokenizer = make_tokenizer(checkpoint, choose_template(checkpoint, None))
    with pytest.raises(CheckpointUnsupported, match="documents"):
        Encoder(tokenizer, 100, block_attention=True)
