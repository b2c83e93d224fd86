"""A finished run to registered files: what they compute, what is measured, what is told of them."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.engine import LlamaEngine, open_engine
from models.gguf import read_header
from models.imitation.conversations import Conversation, read_conversations, write_conversations
from models.imitation.errors import CheckpointUnsupported, ExportFailed, ModelUnknown, RunDamaged
from models.imitation.tuning.card import change_of
from models.imitation.tuning.checkpoint import hash_text
from models.imitation.tuning.export import ExportPlan, ExportReport, export
from models.imitation.tuning.masking import to_dialogue
from models.imitation.tuning.perplexity import Expectation, expect_answers, expect_texts, measure
from models.imitation.tuning.run import TrainPlan, TrainRun
from models.imitation.tuning.scratch import ScratchShape
from models.imitation.tuning.settings import TrainSettings
from models.imitation.tuning.templates import make_tokenizer
from models.quantizing import quantize
from models.registry import Registry
from models.registry_folder import hash_file
from tests.models.imitation.tuning.checkpoints import TEXTS, write_checkpoint

KINDS = ("f16", "q8_0", "q4_k_m")
SETTINGS = TrainSettings(lr=1e-2, max_steps=12, batch_rows=4, max_length=256, held_out=0.0)
STEPS = [
    "merging", "converting to f16", "comparing with the checkpoint", "measuring f16",
    "quantizing to q8_0", "measuring q8_0", "quantizing to q4_k_m", "measuring q4_k_m",
    "registering",
]  # fmt: skip


@dataclass
class Exported:
    """A run of LoRA, the model as it was when training ended, and its export."""

    run: TrainRun
    record: dict[str, Any]
    registry: Registry
    report: ExportReport
    notes: list[str] = field(default_factory=list)

    def file(self, kind: str) -> Path:
        return self.report.folder / f"parrot-{kind}.gguf"


def open_exactly(path: Path) -> LlamaEngine:
    return open_engine(path, num_slots=1, num_threads=1, kv_type="f32", flash_attention=False)


def expect(run: TrainRun, conversations: list[Conversation]) -> list[Expectation]:
    tokenizer = make_tokenizer(run.checkpoint, run.template)
    return expect_answers(tokenizer, [to_dialogue(c) for c in conversations])


@pytest.fixture(scope="module")
def licensed_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with a model card that names its licence."""
    folder = tmp_path_factory.mktemp("licensed") / "tiny-base"
    write_checkpoint(folder, "llama", "smollm", "chatml", scale=1.0)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# Tiny\n")
    return folder


@pytest.fixture(scope="module")
def exported(data: Path, licensed_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("exported")
    run = TrainRun(TrainPlan((data,), folder / "run", SETTINGS, base=licensed_base, device="cpu"))
    record = run.train()
    registry = Registry(folder / "models")
    notes: list[str] = []
    plan = ExportPlan(run.folder.path, "parrot", KINDS, registry=registry, num_threads=1)
    report = export(plan, notes.append)
    run.trainer.model.eval()
    return Exported(run, record, registry, report, notes)


def test_each_step_is_told_in_order(exported: Exported) -> None:
    assert exported.notes == STEPS
    assert [file.kind for file in exported.report.files] == list(KINDS)
    parity = exported.report.parity
    assert (parity.num_strings, parity.num_equal_strings) == (1000, 1000)
    assert parity.num_prompts == 50
    assert parity.num_equal_prompts >= 48


def test_the_file_computes_what_the_adapted_model_does(
    exported: Exported, conversations: list[Conversation]
) -> None:
    """Each answer's log-likelihood through the engine, against PyTorch with adapters unmerged."""
    run = exported.run
    expected = expect(run, conversations)
    vocabulary = make_tokenizer(run.checkpoint, run.template).vocabulary
    model = run.trainer.model

    def score(item: Expectation) -> float:
        answer = vocabulary.tokenize(item.text, parse_special=False)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*item.prompt.tokens, *answer]])).logits[0]
        logprobs = logits[item.prompt.num_tokens - 1 : -1].log_softmax(-1)
        return float(logprobs.gather(1, torch.tensor(answer)[:, None]).sum())

    adapted = [score(item) for item in expected]
    with model.disable_adapter():
        plain = [score(item) for item in expected]
    engine = open_exactly(exported.file("f16"))
    try:
        each = [measure(engine, [item]) for item in expected]
    finally:
        engine.close()
    served = [-math.log(one.value) * one.num_tokens for one in each]
    assert served == pytest.approx(adapted, rel=1e-3)
    # Adapters do something, so that leaving them out would have been seen.
    assert all(a > p + 0.1 for a, p in zip(adapted, plain, strict=True))
    tokens = sum(one.num_tokens for one in each)
    reference = exported.report.reference
    assert (reference.num_tokens, reference.num_too_long) == (tokens, 0)
    assert reference.value == pytest.approx(math.exp(-sum(adapted) / tokens), rel=1e-3)


def test_perplexity_is_told_for_every_type_against_f16(exported: Exported) -> None:
    rows = exported.report.to_json()["files"]
    f16, q8_0, q4_k_m = (row["perplexity"]["value"] for row in rows)
    assert f16 == exported.report.reference.value
    assert 1.0 < f16 < exported.run.record["base"]["num_vocab"]
    assert [row["change"] for row in rows] == pytest.approx([0.0, q8_0 / f16 - 1, q4_k_m / f16 - 1])
    assert f16 != q8_0 != q4_k_m
    assert abs(q8_0 / f16 - 1) < 0.01
    assert abs(q4_k_m / f16 - 1) < 0.05
    assert len({row["perplexity"]["num_tokens"] for row in rows}) == 1
    sizes = [row["size_bytes"] for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    json.dumps(exported.report.to_json(), allow_nan=False)


def test_a_coarser_type_loses_more(
    exported: Exported, conversations: list[Conversation], tmp_path: Path
) -> None:
    expected = expect(exported.run, conversations)
    losses = {}
    for kind in ("q8_0", "q2_k"):
        quantize(exported.file("f16"), tmp_path / kind, kind, num_threads=1)
        engine = open_exactly(tmp_path / kind)
        try:
            found = measure(engine, expected)
        finally:
            engine.close()
        losses[kind] = abs(found.value / exported.report.reference.value - 1)
    assert losses["q2_k"] > losses["q8_0"]


def test_plain_texts_may_be_measured_on(exported: Exported, tmp_path: Path) -> None:
    text = "\n".join(TEXTS) * 4
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    plan = ExportPlan(
        exported.run.folder.path, "other", ("f16",), out=tmp_path / "out",
        texts=(tmp_path / "text.txt",), num_threads=1,
    )  # fmt: skip
    report = export(plan)
    tokenizer = make_tokenizer(exported.run.checkpoint, exported.run.template)
    pieces = expect_texts(tokenizer, [text])
    assert "".join(piece.text for piece in pieces) == text
    # A thousand characters of Latin and other text are more tokens than a context of 512 holds.
    assert report.reference.num_tokens > 0
    assert report.reference.num_too_long < len(pieces)
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [
        "README.md", "other-f16.gguf",
    ]  # fmt: skip


def test_the_card_tells_data_licences_and_figures(exported: Exported) -> None:
    card = (exported.report.folder / "README.md").read_text(encoding="utf-8")
    record, report = exported.record, exported.report
    head = card.split("---")[1].strip().splitlines()
    assert head == ["base_model: tiny-base", "license: other", "library_name: gguf"]
    for wanted in (
        "# parrot",
        "Licences of data and base: Apache-2.0; CC BY-NC 4.0; mit.",
        "**Non-commercial",
        "| Base | tiny-base (llama) |",
        f"| Base, SHA-256 | `{record['base']['sha256']}` |",
        "| Data | answers.jsonl |",
        f"| Data, SHA-256 | `{record['data']['sha256']}` |",
        "| Conversations, answers | 8, 8 |",
        "| Teachers | teacher-1 |",
        "| Trained | LoRA, rank 8, alpha 16;",
        "| Steps, seed | 12, 0 |",
        f"| Loss at the end | {record['result']['loss']:.4f} ",
        "| Loss held out | not measured |",
        f"| Chat template, SHA-256 | `{hash_text(exported.run.template)}` |",
        f"Perplexity of f16: {report.reference.value:.4f}, over {report.reference.num_tokens} ",
        f"In q4_k_m, {report.files[2].num_fallbacks} tensors have rows",
        "- 1000 of 1000 strings have the same token ids.",
        f"- {report.parity.num_equal_prompts} of 50 prompts",
        "## Limits",
    ):
        assert wanted in card
    for file in report.files:
        assert (
            f"| {file.kind} | {file.file} | {file.size_bytes:,} | {file.perplexity.value:.4f} |"
            f" {change_of(file, report.reference):+.2%} | `{file.sha256}` |"
        ) in card
    assert str(exported.run.folder.path) not in card


def test_every_file_is_registered_with_what_it_was_made_from(exported: Exported) -> None:
    entries = {entry.name: entry for entry in exported.registry.list() if entry.origin == "tuned"}
    assert list(entries) == [f"parrot-{kind}" for kind in KINDS]
    for file in exported.report.files:
        entry = entries[f"parrot-{file.kind}"]
        assert file.entry == entry.name
        assert entry.sha256 == file.sha256 == hash_file(entry.path) == hash_file(
            exported.report.folder / file.file
        )  # fmt: skip
        assert (entry.base, entry.kind, entry.is_tuned) == ("tiny-base", file.kind, True)
        assert entry.data_sha256 == exported.record["data"]["sha256"]
        assert entry.template_sha256 == hash_text(exported.run.template)
        assert entry.licences == ("Apache-2.0", "CC BY-NC 4.0", "mit")
        assert entry.is_non_commercial
        assert entry.details["teachers"] == ["teacher-1"]
        assert entry.details["base_sha256"] == exported.record["base"]["sha256"]
        assert entry.details["perplexity"] == file.perplexity.value
        assert entry.details["parity"]["num_equal_strings"] == 1000
        header = read_header(entry.path)
        assert header.text("mynah.data_sha256") == entry.data_sha256
        assert header.text("mynah.licences") == "Apache-2.0; CC BY-NC 4.0; mit"


def test_a_model_from_scratch_of_free_data_has_no_base_and_no_flag(
    conversations: list[Conversation], tmp_path: Path
) -> None:
    """Nor does a model happen to be called `scratch`: what it came from is nothing."""
    write_conversations(tmp_path / "free.jsonl", conversations[1:])
    shape = ScratchShape(320, 32, 2, 2, 1, 48, 256)
    settings = replace(SETTINGS, method="full", block_attention=True)
    plan = TrainPlan((tmp_path / "free.jsonl",), tmp_path / "run", settings, scratch=shape)
    TrainRun(plan).train()
    registry = Registry(tmp_path / "models")
    report = export(
        ExportPlan(tmp_path / "run", "own", ("q8_0",), registry=registry, num_threads=1)
    )
    entry = registry.get("own-q8_0")
    assert (entry.base, entry.licences, entry.is_non_commercial) == (None, ("Apache-2.0",), False)
    assert (report.licences, report.is_non_commercial) == (("Apache-2.0",), False)
    card = (report.folder / "README.md").read_text()
    assert "Non-commercial" not in card
    assert "license: Apache-2.0" in card
    assert "| Block attention over passages | yes |" in card
    # f16 was only on the way.
    assert [path.name for path in sorted(report.folder.iterdir())] == ["README.md", "own-q8_0.gguf"]


def test_below_the_bar_nothing_is_registered(data: Path, tmp_path: Path) -> None:
    """Noise of widened weights is near a tie at one step or another of most texts."""
    base = write_checkpoint(tmp_path / "noise", "llama", "llama3", "llama3", scale=6.0)
    settings = replace(SETTINGS, lr=1e-9, max_steps=1)
    TrainRun(TrainPlan((data,), tmp_path / "run", settings, base=base, device="cpu")).train()
    registry = Registry(tmp_path / "models")
    plan = ExportPlan(tmp_path / "run", "noise", ("q8_0",), registry=registry, num_threads=1)
    with pytest.raises(ExportFailed, match="prompts otherwise than the checkpoint: '"):
        export(plan)
    assert [entry.name for entry in registry.list()] == ["bundled"]
    assert not list((tmp_path / "run/export").glob("*q8_0*"))


def test_what_cannot_be_exported_is_said_before_anything_is_registered(
    exported: Exported, licensed_base: Path, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(exported.run.folder.path, run, ignore=shutil.ignore_patterns("export"))
    registry = Registry(tmp_path / "models")
    plan = ExportPlan(run, "copy", ("q8_0",), registry=registry, num_threads=1)
    with pytest.raises(ExportFailed, match=r"no type 'q3'; use some of .*q4_k_m"):
        export(replace(plan, kinds=("q8_0", "q3")))
    with pytest.raises(ModelUnknown, match="a model 'parrot-q8_0' already"):
        export(replace(plan, name="parrot", registry=exported.registry))
    with pytest.raises(RunDamaged, match="holds no run"):
        export(replace(plan, run=licensed_base))
    samples = list(read_conversations(run / "samples.jsonl"))
    long = replace(samples[0], turns=(replace(samples[0].turns[0], content="why " * 900),
                                      samples[0].turns[1]))  # fmt: skip
    write_conversations(run / "samples.jsonl", [long])
    with pytest.raises(ExportFailed, match=r"none of the 1 texts .* --texts"):
        export(plan)
    (run / "samples.jsonl").unlink()
    with pytest.raises(ExportFailed, match=r"samples\.jsonl cannot be read"):
        export(plan)
    assert [entry.name for entry in registry.list()] == ["bundled"]


def test_a_run_of_another_family_is_refused_with_the_way_out(data: Path, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "neox", "gpt_neox", "gpt2", "chatml", scale=1.0)
    settings = replace(SETTINGS, method="full", max_steps=1)
    TrainRun(TrainPlan((data,), tmp_path / "run", settings, base=base, device="cpu")).train()
    registry = Registry(tmp_path / "models")
    with pytest.raises(CheckpointUnsupported, match=r"'gpt_neox'.*convert_hf_to_gguf\.py"):
        export(ExportPlan(tmp_path / "run", "neox", ("q8_0",), registry=registry))
    assert [entry.name for entry in registry.list()] == ["bundled"]
    assert not list((tmp_path / "run/export").glob("*.gguf"))
