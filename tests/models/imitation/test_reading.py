"""What the reader is trained on, and that training goes on where it stopped."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.imitation.embeddings import word_encoder
from models.imitation.reading import NUM_SENTENCES, Asked, Line, measure_loss, stream, train
from models.reader import BUNDLED_READER, SentenceReader

LINES = st.builds(Line, st.just([2129, 2116]), st.booleans(), st.integers(0, 3))
TASKS = st.builds(
    Asked, st.just("qa"), st.just([2129]), st.lists(LINES, min_size=1, max_size=9), st.booleans()
)


@given(st.lists(TASKS, min_size=1, max_size=5), st.integers(0, 99))
def test_what_is_compared_is_of_the_task(tasks: list[Asked], seed: int) -> None:
    usable = [t for t in tasks if t.is_refusal or any(line.is_gold for line in t.lines)]
    # A task whose every sentence stands in a passage with an answer may be left out for ever.
    usable = [t for t in usable if any(not line.is_gold for line in t.lines)]
    if not usable:
        return
    for task, lines, num_gold in itertools.islice(stream(tasks, random.Random(seed)), 20):
        assert 1 <= len(lines) <= NUM_SENTENCES
        assert all(line in task.lines for line in lines)
        assert [line.is_gold for line in lines] == [True] * num_gold + [False] * (
            len(lines) - num_gold
        )
        if not num_gold and any(line.is_gold for line in task.lines):
            lost = {line.passage for line in task.lines if line.is_gold}
            assert not lost & {line.passage for line in lines}


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=6), st.integers(0, 6))
def test_the_loss_is_that_of_a_chance(odds: list[float], num_gold: int) -> None:
    num_gold = min(num_gold, len(odds))
    values = torch.tensor(odds)
    loss = measure_loss(values, num_gold)
    assert loss >= -1e-6
    # What speaks more for the right ones, or less for any where none is right, costs less.
    better = values.clone()
    better[: num_gold or len(odds)] += 1.0 if num_gold else -1.0
    assert measure_loss(better, num_gold) <= loss + 1e-6


@pytest.mark.slow
def test_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    lines = [Line([2385, 3134], True, 0), Line([7281, 6000], False, 1)]
    tasks = [Asked("qa", [2129, 2116, 3134], lines, False)] * 4
    train(tasks, tmp_path, 100)
    saved = torch.load(tmp_path / "last.pt")
    assert saved["step"] == 100
    # A mark that no training would leave: the same seed from the start would give equal weights.
    saved["network"]["scale"] = torch.tensor(3.25)
    torch.save(saved, tmp_path / "last.pt")
    assert train(tasks, tmp_path, 100).scale.item() == 3.25
    assert 3.0 < train(tasks, tmp_path, 101).scale.item() < 3.5


def test_training_goes_on_from_given_weights(tmp_path: Path) -> None:
    network = train([], tmp_path, 0, start_from=BUNDLED_READER)
    trained = {name for name, value in network.named_parameters() if value.requires_grad}
    assert trained
    assert not any(name.startswith("encoder.embeddings.") for name in trained)
    network.save(tmp_path / "same.safetensors")
    texts = ["The garage is locked at nine.", "Drivers close the garage with care."]
    question = "When is the garage locked?"
    same = SentenceReader(tmp_path / "same.safetensors").read(question, texts)
    assert same == pytest.approx(SentenceReader().read(question, texts), abs=1e-4)


def test_a_mean_of_words_is_nearest_to_the_text_with_the_same_words() -> None:
    texts = ["parental leave of ten weeks", "ten weeks of parental leave", "the printer is blue"]
    vectors = word_encoder()([*texts, ""])
    assert vectors.shape == (4, 384)
    assert (vectors[:3] ** 2).sum(1) == pytest.approx(1.0, abs=1e-5)
    assert vectors[0] @ vectors[1] == pytest.approx(1.0, abs=1e-5)
    assert vectors[0] @ vectors[2] < 0.5
    assert not vectors[3].any()
