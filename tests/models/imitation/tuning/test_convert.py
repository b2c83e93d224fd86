from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.engine import LlamaEngine, open_engine
from models.gguf import read_header
from models.imitation.conversations import Conversation, Turn
from models.imitation.errors import CheckpointUnsupported, ExportFailed
from models.imitation.tuning.block_attention import KEY
from models.imitation.tuning.checkpoint import Checkpoint, load_model, read_checkpoint
from models.imitation.tuning.convert import ModelFacts, check_family, convert, interleave
from models.imitation.tuning.masking import Encoder, to_dialogue
from models.imitation.tuning.packing import collate
from models.imitation.tuning.parity import (
    GREEDY_BAR,
    NUM_PROMPTS,
    NUM_STRINGS,
    Parity,
    compare_greedy,
    compare_strings,
    greedy_ids,
    make_prompts,
)
from models.imitation.tuning.settings import TrainSettings
from models.imitation.tuning.strings import parity_strings
from models.imitation.tuning.templates import choose_template, find_turn_end, make_tokenizer
from models.imitation.tuning.trainer import Trainer
from models.protocols import Prompt, SamplingSettings
from tests.models.imitation.tuning.checkpoints import TEXTS, write_checkpoint

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
# family, tokenizer, chat, configuration
CASES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "llama": ("llama", "llama3", "llama3", {"rope_parameters": LLAMA3_ROPE}),
    "llama-biases": ("llama", "gpt2", "chatml", {"attention_bias": True, "mlp_bias": True}),
    "smollm": ("llama", "smollm", "documents", {"tie_word_embeddings": True}),
    "mistral": ("mistral", "spm", "mistral", {"head_dim": 32, "sliding_window": 256}),
    "mistral-metaspace": ("mistral", "metaspace", "zephyr", {}),
    "qwen2": ("qwen2", "qwen2", "chatml", {}),
}
STRINGS = parity_strings(NUM_STRINGS, TEXTS)


class Converted:
    """A checkpoint, its model and its GGUF."""

    def __init__(self, folder: Path, model: Any | None = None) -> None:
        self.checkpoint: Checkpoint = read_checkpoint(folder)
        self.model = model or load_model(folder, dtype=torch.float32)
        self.model.eval()
        source = choose_template(self.checkpoint, None)
        self.tokenizer = make_tokenizer(self.checkpoint, source)
        self.gguf = folder / "model-f16.gguf"
        end_id = find_turn_end(self.tokenizer).ids[-1]
        convert(self.model, self.checkpoint, self.gguf, ModelFacts("tiny", source, end_id))

    def open(self) -> LlamaEngine:
        return open_engine(
            self.gguf, num_slots=1, num_threads=1, kv_type="f32", flash_attention=False
        )

    def count_equal(
        self, conversations: list[Conversation], *, decided: float = 0.0
    ) -> tuple[int, int, str]:
        """Prompts, those with equal greedy text, and the first difference.

        With `decided`, only prompts at whose every step the likeliest logit leads by so much.
        """
        _, _, eog_ids = compare_strings(self.checkpoint, self.gguf, STRINGS[:1])
        dialogues = [to_dialogue(c) for c in conversations]
        fillers = [text for text in STRINGS if len(text) < 100]
        prompts = make_prompts(self.tokenizer, dialogues, fillers, 200)
        if decided:
            some = prompts[: NUM_PROMPTS // 2]
            prompts = [pair for pair in some if self.lead(pair[0], eog_ids) > decided]
        engine = self.open()
        try:
            equal, difference = compare_greedy(self.model, engine, self.tokenizer, prompts, eog_ids)
        finally:
            engine.close()
        return len(prompts), equal, difference

    def lead(self, prompt: Prompt, eog_ids: list[int]) -> float:
        """The least lead of the likeliest logit over the steps of the greedy text."""
        ids = [*prompt.tokens, *greedy_ids(self.model, prompt.tokens, eog_ids)]
        with torch.no_grad():
            logits = self.model(input_ids=torch.tensor([ids])).logits[0, prompt.num_tokens - 1 :]
        best, second = logits.topk(2).values.unbind(-1)
        return float((best - second).min())


@pytest.fixture(scope="module", params=list(CASES))
def converted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Converted:
    family, kind, form, config = CASES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    return Converted(write_checkpoint(folder, family, kind, form, scale=6.0, **config))


def test_a_thousand_strings_have_equal_ids(converted: Converted) -> None:
    equal, difference, _ = compare_strings(converted.checkpoint, converted.gguf, STRINGS)
    assert (equal, difference) == (NUM_STRINGS, "")


def test_random_weights_give_equal_greedy_texts(
    converted: Converted, conversations: list[Conversation]
) -> None:
    """Noise comes near a tie now and then, which rounding to 16 bits tips; nothing else may."""
    num_prompts, equal, difference = converted.count_equal(conversations, decided=0.004)
    assert num_prompts >= 5
    assert equal == num_prompts, difference


def test_the_engine_reads_chats_as_training_did(
    converted: Converted, conversations: list[Conversation]
) -> None:
    engine = converted.open()
    try:
        for conversation in conversations:
            dialogue = to_dialogue(conversation)
            served = engine.prepare(dialogue.messages[:1], dialogue.documents)
            (example,) = Encoder(converted.tokenizer, 500).encode(conversation)
            assert tuple(example.ids[: served.num_tokens].tolist()) == served.tokens
    finally:
        engine.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_briefly_trained_models_give_equal_greedy_texts(
    name: str, tmp_path: Path, conversations: list[Conversation]
) -> None:
    family, kind, form, config = CASES[name]
    write_checkpoint(tmp_path, family, kind, form, scale=1.0, **config)
    checkpoint = read_checkpoint(tmp_path)
    encoder = Encoder(make_tokenizer(checkpoint, choose_template(checkpoint, None)), 200)
    rows = [[example] for example in encoder.encode_all(conversations)]
    model = load_model(tmp_path, dtype=torch.float32)
    trainer = Trainer(model, rows, TrainSettings(method="full", lr=5e-3, max_steps=80))
    for _ in range(trainer.num_steps):
        last = trainer.advance()
    assert last.loss < 0.5
    model.save_pretrained(str(tmp_path))
    trained = Converted(tmp_path, model)
    num_prompts, equal, difference = trained.count_equal(conversations)
    assert num_prompts == NUM_PROMPTS
    assert equal >= GREEDY_BAR * num_prompts, difference
    engine = trained.open()
    try:
        dialogue = to_dialogue(conversations[0])
        prompt = engine.prepare(dialogue.messages[:1], dialogue.documents)
        deltas = list(engine.generate(prompt, SamplingSettings(max_tokens=40)))
    finally:
        engine.close()
    # It learnt to stop where the turn ends, and the GGUF knows that end.
    assert deltas[-1].finish_reason == "stop"
    assert "".join(delta.text for delta in deltas).strip() == dialogue.messages[1].content


def test_a_changed_weight_is_found(tmp_path: Path, conversations: list[Conversation]) -> None:
    """The guard of the comparison itself: a wrong order of rows must not pass."""
    converted = Converted(write_checkpoint(tmp_path, "llama", "smollm", "chatml", scale=6.0))
    with torch.no_grad():
        query = converted.model.model.layers[0].self_attn.q_proj.weight
        query.copy_(torch.from_numpy(interleave(query.numpy(), 4)))
    num_prompts, equal, difference = converted.count_equal(conversations)
    assert equal < GREEDY_BAR * num_prompts
    with pytest.raises(ExportFailed, match="prompts otherwise"):
        Parity(1, 1, num_prompts, equal, difference).check()
    with pytest.raises(ExportFailed, match="3 of 1000 strings"):
        Parity(1000, 997, 50, 50, "x").check()
    Parity(1000, 1000, 50, 48).check()


def test_rows_half_a_head_apart_come_to_stand_together() -> None:
    rows = np.arange(16, dtype=np.float32)[:, None]
    assert interleave(rows, 2)[:, 0].tolist() == [
        0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15
    ]  # fmt: skip


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "mistral", "spm", "mistral", sliding_window=256)
    checkpoint = read_checkpoint(folder)
    facts = ModelFacts(
        "parrot", "template", 1, ("MIT", "CC BY-NC 4.0"), True, {"mynah.base": "tiny"}
    )
    model = load_model(folder, dtype=torch.float32)
    convert(model, checkpoint, tmp_path / "x.gguf", facts)
    header = read_header(tmp_path / "x.gguf")
    assert header.metadata[KEY] is True
    assert header.text("general.name") == "parrot"
    assert header.text("mynah.licences") == "MIT; CC BY-NC 4.0"
    assert header.text("mynah.base") == "tiny"
    assert header.text("tokenizer.chat_template") == "template"
    assert header.metadata["tokenizer.ggml.eot_token_id"] == 1
    assert header.metadata["tokenizer.ggml.add_bos_token"] is True
    # Behind the window the checkpoint would see less than llama.cpp lets it.
    assert header.number("context_length") == 256
    with torch.no_grad():
        model.lm_head.weight[0, 0] = 1e6
    with pytest.raises(ExportFailed, match="16-bit"):
        convert(model, checkpoint, tmp_path / "y.gguf", facts)
    assert not list(tmp_path.glob("y.gguf*"))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"model_type": "gpt_neox"}, "'gpt_neox'"),
        ({"hidden_act": "gelu"}, "'gelu'"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "'yarn'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic'"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "sliding windows"),
        ({"partial_rotary_factor": 0.5}, "a part of each head"),
    ],
)
def test_other_families_are_refused_with_the_name_of_the_converter(
    base: Path, tmp_path: Path, change: dict[str, Any], what: str
) -> None:
    for path in base.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((base / "config.json").read_text())
    if "rope_scaling" in change:
        config.pop("rope_parameters")
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CheckpointUnsupported, match=what) as caught:
        check_family(read_checkpoint(tmp_path))
    assert "convert_hf_to_gguf.py" in caught.value.message


@pytest.mark.parametrize(
    "part",
    [
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}},
        {"normalizer": {"type": "Lowercase"}},
        {"model": {"type": "WordLevel", "vocab": {"<|im_end|>": 0}, "unk_token": "<|im_end|>"}},
    ],
)
def test_other_tokenizers_are_refused_with_the_name_of_the_converter(
    base: Path, tmp_path: Path, part: dict[str, Any]
) -> None:
    data = {**json.loads((base / "tokenizer.json").read_text()), **part}
    for path in base.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    model = load_model(tmp_path, dtype=torch.float32)
    with pytest.raises(CheckpointUnsupported, match=r"convert_hf_to_gguf\.py"):
        convert(model, read_checkpoint(tmp_path), tmp_path / "x.gguf", ModelFacts("x", "", 0))
    assert not (tmp_path / "x.gguf").exists()


def test_padding_of_the_embedding_has_no_text(tmp_path: Path) -> None:
    converted = Converted(write_checkpoint(tmp_path, "llama", "smollm", "chatml"))
    num_rows = converted.model.config.vocab_size
    header = read_header(converted.gguf)
    assert header.num_vocab == num_rows == converted.tokenizer.vocabulary.num_vocab + 3


def test_other_architectures_can_be_trained_though_not_exported(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "gpt_neox", "gpt2", "chatml", scale=1.0)
    checkpoint = read_checkpoint(tmp_path)
    encoder = Encoder(make_tokenizer(checkpoint, choose_template(checkpoint, None)), 100)
    talk = Conversation("a", (Turn("user", "When?"), Turn("assistant", "At nine.")), {})
    rows = [encoder.encode(talk)]
    model = load_model(tmp_path, dtype=torch.float32)
    trainer = Trainer(model, rows, TrainSettings(method="full", lr=1e-2, max_steps=5))
    losses = [trainer.advance().loss for _ in range(5)]
    assert losses[-1] < losses[0]
    assert collate(rows).mask.shape[1] == 1
    with pytest.raises(CheckpointUnsupported, match=r"'gpt_neox'.*convert_hf_to_gguf\.py"):
        check_family(checkpoint)
