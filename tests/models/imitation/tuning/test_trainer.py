from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.imitation.conversations import Conversation
from models.imitation.errors import RunDamaged, TrainingFailed
from models.imitation.tuning.checkpoint import load_model, read_checkpoint
from models.imitation.tuning.lora import add_adapters
from models.imitation.tuning.masking import Encoder, Example
from models.imitation.tuning.settings import TrainSettings, learning_rate
from models.imitation.tuning.templates import choose_template, make_tokenizer
from models.imitation.tuning.trainer import Trainer

FULL = TrainSettings(method="full", lr=1e-2, max_steps=60, batch_rows=8, warmup=0.1)
LORA = TrainSettings(lr=5e-3, max_steps=8, batch_rows=2, accumulate=2, dropout=0.2)
Make = Callable[[TrainSettings], Trainer]


@pytest.fixture(scope="module")
def examples(base: Path, conversations: list[Conversation]) -> list[Example]:
    checkpoint = read_checkpoint(base)
    tokenizer = make_tokenizer(checkpoint, choose_template(checkpoint, None))
    return list(Encoder(tokenizer, 200).encode_all(conversations))


@pytest.fixture
def make(base: Path, examples: list[Example]) -> Make:
    def make_trainer(settings: TrainSettings) -> Trainer:
        model = load_model(base, dtype=torch.float32)
        if settings.method == "lora":
            model = add_adapters(model, settings)
        rows = [[example] for example in examples]
        return Trainer(model, rows, settings, held_out=rows[:2])

    return make_trainer


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}


def test_eight_examples_are_learnt_by_heart(make: Make) -> None:
    trainer = make(FULL)
    losses = [trainer.advance().loss for _ in range(trainer.num_steps)]
    assert losses[0] > 3.0
    assert losses[-1] < 0.1
    held_out = trainer.evaluate()
    assert held_out is not None
    assert held_out < 0.1


@pytest.mark.parametrize("settings", [LORA, replace(FULL, max_steps=4)], ids=["lora", "full"])
def test_equal_seeds_give_equal_losses_and_others_do_not(
    make: Make, settings: TrainSettings
) -> None:
    one, two = make(settings), make(settings)
    first = [one.advance().loss for _ in range(3)]
    assert first == [two.advance().loss for _ in range(3)]
    other = make(replace(settings, seed=1, batch_rows=2))
    assert first != [other.advance().loss for _ in range(3)]


@pytest.mark.parametrize("settings", [LORA, replace(FULL, max_steps=8)], ids=["lora", "full"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    make: Make, settings: TrainSettings, tmp_path: Path
) -> None:
    through = make(settings)
    expected = [through.advance() for _ in range(8)]
    stopped = make(settings)
    for _ in range(3):
        stopped.advance()
    stopped.save(tmp_path / "checkpoint.pt")
    resumed = make(settings)
    resumed.load(tmp_path / "checkpoint.pt")
    assert [resumed.advance() for _ in range(5)] == expected[3:]
    for name, parameter in weights(through).items():
        assert torch.equal(parameter, weights(resumed)[name])


def test_adapters_alone_are_trained_and_start_without_effect(make: Make) -> None:
    trainer, plain = make(LORA), make(replace(FULL, max_steps=1))
    assert trainer.evaluate() == pytest.approx(plain.evaluate(), abs=1e-6)
    assert all("lora_" in name for name in weights(trainer))
    frozen = {n: p.clone() for n, p in trainer.model.named_parameters() if not p.requires_grad}
    trainer.advance()
    for name, parameter in trainer.model.named_parameters():
        if name in frozen:
            assert torch.equal(parameter, frozen[name])


def test_accumulated_batches_step_as_one_large_batch(make: Make) -> None:
    whole = make(replace(FULL, batch_rows=8, accumulate=1))
    parts = make(replace(FULL, batch_rows=2, accumulate=4))
    one, other = whole.advance(), parts.advance()
    assert one.loss == pytest.approx(other.loss, rel=1e-5)
    assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-3)


def test_every_row_is_taken_once_an_epoch_in_an_order_of_its_own(
    make: Make, examples: list[Example]
) -> None:
    trainer = make(replace(FULL, batch_rows=3))
    taken = [row[0].ids.tobytes() for step in range(8) for row in trainer._step_rows(step)]
    every = sorted(example.ids.tobytes() for example in examples)
    epochs = [taken[start : start + 8] for start in (0, 8, 16)]
    assert all(sorted(epoch) == every for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_bf16_and_less_memory_train_too(make: Make) -> None:
    trainer = make(replace(FULL, precision="bf16", gradient_checkpointing=True, max_steps=12))
    losses = [trainer.advance().loss for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]
    assert all(parameter.dtype == torch.float32 for parameter in weights(trainer).values())


def test_weighted_text_lowers_the_loss_of_questions(make: Make) -> None:
    """Without a weight only answers are learnt; the picks must then differ."""
    plain, weighted = make(FULL), make(replace(FULL, text_weight=0.5))
    (one,), (other,) = plain._batches(0), weighted._batches(0)
    assert set(one.weights.flatten().tolist()) == {0.0, 1.0}
    assert set(other.weights.flatten().tolist()) == {0.0, 0.5, 1.0}
    assert (other.weights == 1).sum() == (one.weights == 1).sum()


def test_a_loss_that_is_no_number_stops_the_run(make: Make) -> None:
    trainer = make(replace(FULL, lr=0.5))
    with torch.no_grad():
        next(iter(weights(trainer).values())).fill_(math.nan)
    with pytest.raises(TrainingFailed, match=r"lower --lr than 0\.5"):
        trainer.advance()


def test_a_damaged_checkpoint_says_so(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"nothing")
    with pytest.raises(RunDamaged, match="delete it"):
        make(LORA).load(path)
    make(LORA).save(path)
    with pytest.raises(RunDamaged, match="other parameters"):
        make(replace(FULL, max_steps=1)).load(path)


@pytest.mark.parametrize("num_steps", [1, 7, 100])
def test_the_rate_rises_to_its_top_and_falls_to_nothing(num_steps: int) -> None:
    settings = TrainSettings(lr=1.0, warmup=0.1)
    rates = [learning_rate(step, num_steps, settings) for step in range(num_steps)]
    top = rates.index(max(rates))
    assert max(rates) == 1.0
    assert top <= math.ceil(0.1 * num_steps)
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert all(0.0 < rate <= 1.0 for rate in rates)


@pytest.mark.parametrize(
    "wrong", [{"lr": 0.0}, {"epochs": -1.0}, {"batch_rows": 0}, {"held_out": 0.9}, {"rank": 0}]
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(TrainingFailed, match=next(iter(wrong))):
        TrainSettings(**wrong)
