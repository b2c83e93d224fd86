from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.imitation import tokenizer as own
from models.imitation.conversations import Conversation, read_conversations
from models.imitation.errors import CheckpointUnsupported, RunDamaged, TrainingDataInvalid
from models.imitation.tuning.checkpoint import load_model, read_checkpoint
from models.imitation.tuning.curve import Point, read_points
from models.imitation.tuning.folder import RunFolder
from models.imitation.tuning.merge import merge
from models.imitation.tuning.run import TrainPlan, TrainRun, split
from models.imitation.tuning.scratch import ScratchShape
from models.imitation.tuning.settings import TrainSettings

LORA = TrainSettings(lr=5e-3, max_steps=6, batch_rows=2, max_length=64, held_out=0.0)
SHAPE = ScratchShape(
    vocab_size=320, width=32, num_layers=2, num_heads=2, num_kv_heads=1, hidden=48, context=256
)


def stop_at(step: int) -> object:
    """Presses Ctrl-C after a step."""

    def show(points: Sequence[Point], num_steps: int) -> None:
        if points[-1].step == step:
            raise KeyboardInterrupt

    return show


@pytest.fixture
def plan(data: Path, base: Path, tmp_path: Path) -> TrainPlan:
    return TrainPlan((data,), tmp_path / "run", LORA, base=base, device="cpu")


def losses(plan: TrainPlan) -> list[float]:
    return [point.loss for point in read_points(RunFolder(plan.out).losses)]


def test_a_run_leaves_weights_template_record_and_curve(plan: TrainPlan, base: Path) -> None:
    record = TrainRun(plan).train()
    folder = RunFolder(plan.out)
    assert json.loads(folder.record.read_text()) == record
    assert record["licences"] == ["Apache-2.0", "CC BY-NC 4.0"]
    assert record["teachers"] == ["teacher-1"]
    assert record["base"]["path"] == str(base)
    assert record["result"]["num_steps"] == 6
    template = (folder.weights / "chat_template.jinja").read_text()
    assert template == read_checkpoint(base).template
    assert (folder.weights / "tokenizer.json").read_text() == (base / "tokenizer.json").read_text()
    assert len(losses(plan)) == 6
    assert folder.picture.read_bytes().startswith(b"\x89PNG")
    assert len(list(read_conversations(folder.samples))) == 8
    assert TrainRun(plan).is_complete


def test_a_run_stopped_by_ctrl_c_goes_on_as_if_nothing_had_been(
    plan: TrainPlan, tmp_path: Path
) -> None:
    through = replace(plan, out=tmp_path / "through")
    TrainRun(through).train()
    with pytest.raises(KeyboardInterrupt):
        TrainRun(plan).train(stop_at(2))  # type: ignore[arg-type]
    resumed = TrainRun(plan)
    assert not resumed.is_complete
    assert resumed.trainer.step == 2
    resumed.train()
    assert losses(plan) == losses(through)
    one, other = (RunFolder(p.out).weights / "adapter_model.safetensors" for p in (plan, through))
    assert one.read_bytes() == other.read_bytes()


def test_a_folder_keeps_to_one_run(plan: TrainPlan) -> None:
    long = replace(LORA, max_length=256)
    plan = replace(plan, settings=long)
    TrainRun(plan)
    with pytest.raises(RunDamaged, match="another settings"):
        TrainRun(replace(plan, settings=replace(long, seed=1)))
    with pytest.raises(RunDamaged, match="another template"):
        TrainRun(replace(plan, template="vicuna"))
    with pytest.raises(RunDamaged, match="not finished"):
        merge(RunFolder(plan.out), RunFolder(plan.out).read(), device="cpu")
    with pytest.raises(RunDamaged, match="holds no run"):
        RunFolder(plan.out / "none").read()


def test_merged_adapters_compute_what_the_trained_model_did(plan: TrainPlan) -> None:
    run = TrainRun(plan)
    record = run.train()
    ids = torch.arange(20, 40)[None]
    run.trainer.model.eval()
    model, checkpoint = merge(run.folder, record, device="cpu")
    reread = load_model(run.folder.merged, dtype=torch.float32)
    with torch.no_grad():
        expected = run.trainer.model(input_ids=ids).logits
        assert torch.allclose(model(input_ids=ids).logits, expected, atol=1e-4)
        assert torch.allclose(reread(input_ids=ids).logits, expected, atol=1e-4)
    assert checkpoint.template == run.template


def test_a_base_that_changed_is_not_merged(plan: TrainPlan, tmp_path: Path, base: Path) -> None:
    copy = tmp_path / "base"
    copy.mkdir()
    for path in base.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    run = TrainRun(replace(plan, base=copy, settings=replace(LORA, max_steps=1)))
    record = run.train()
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    with pytest.raises(RunDamaged, match="was changed since"):
        merge(run.folder, record, device="cpu")


def test_a_model_from_scratch_has_its_own_vocabulary_and_takes_documents(
    data: Path, tmp_path: Path
) -> None:
    settings = replace(LORA, method="full", lr=1e-3, max_steps=2, block_attention=True)
    plan = TrainPlan((data,), tmp_path / "run", settings, scratch=SHAPE, device="cpu")
    run = TrainRun(plan)
    assert any(example.blocks.any() for row in run._rows for example in row)
    run.train()
    checkpoint = read_checkpoint(RunFolder(plan.out).weights)
    assert checkpoint.template == own.CHAT_TEMPLATE
    assert (checkpoint.bos, checkpoint.eos) == (own.BOS, own.END)
    assert checkpoint.config["vocab_size"] <= SHAPE.vocab_size
    again = TrainRun(replace(plan, out=tmp_path / "again"))
    assert again.record["base"] == run.record["base"]


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_what_is_held_out_depends_on_ids_alone(
    conversations: list[Conversation], share: float
) -> None:
    many = [replace(c, id=f"{c.id}-{i}") for i in range(100) for c in conversations]
    kept, held_out = split(many, share)
    assert sorted(c.id for c in kept + held_out) == sorted(c.id for c in many)
    # Four standard deviations of so many draws.
    spread = math.sqrt(len(many) * share * (1 - share))
    assert len(held_out) == pytest.approx(share * len(many), abs=4 * spread)
    assert split(list(reversed(many)), share)[1] == list(reversed(held_out))


def test_data_and_checkpoints_that_are_none_say_so(plan: TrainPlan, tmp_path: Path) -> None:
    with pytest.raises(TrainingDataInvalid, match=r"none\.jsonl cannot be read"):
        TrainRun(replace(plan, data=(tmp_path / "none.jsonl",)))
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(TrainingDataInvalid, match="no conversation"):
        TrainRun(replace(plan, data=(tmp_path / "empty.jsonl",)))
    with pytest.raises(CheckpointUnsupported, match=r"no config\.json"):
        TrainRun(replace(plan, base=tmp_path))
    with pytest.raises(CheckpointUnsupported, match="--from-scratch"):
        TrainRun(replace(plan, base=None))
