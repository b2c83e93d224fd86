"""A small untrained Llama with its own vocabulary, as the checkpoint that a run starts from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.imitation import tokenizer as tokenizers
from models.imitation.conversations import Conversation
from models.imitation.errors import TrainingFailed
from models.imitation.tuning.checkpoint import TEMPLATE_FILE
from models.imitation.tuning.libraries import prepare_libraries


@dataclass(frozen=True, slots=True)
class ScratchShape:
    """Sizes of the decoder; `vocab_size` is what the tokenizer has at most.

    The base of RoPE is high, so that half of a head's dimensions turn by less than a radian over a
    thousand ids and can compare content at any distance.
    """

    vocab_size: int = 8192
    width: int = 384
    num_layers: int = 8
    num_heads: int = 6
    num_kv_heads: int = 2
    hidden: int = 1024
    context: int = 2048
    rope_base: float = 500_000.0

    def __post_init__(self) -> None:
        """Raises `TrainingFailed` for sizes that do not fit each other."""
        if self.width % self.num_heads or (self.width // self.num_heads) % 2:
            raise TrainingFailed(
                f"a width of {self.width} gives {self.num_heads} heads no even size; choose another"
                " --width or --heads.",
                param="width",
            )
        if self.num_heads % self.num_kv_heads:
            raise TrainingFailed(
                f"{self.num_heads} heads cannot share {self.num_kv_heads} key heads.", param="heads"
            )
        least = 256 + len(tokenizers.CONTROL_TOKENS)
        if self.vocab_size < least:
            raise TrainingFailed(
                f"a vocabulary of {self.vocab_size} is too small: {least} at least.", param="vocab"
            )


def texts_of(conversations: Iterable[Conversation]) -> Iterator[str]:
    """Yield what a vocabulary is learnt from: every turn and every passage."""
    for conversation in conversations:
        for passage in conversation.passages:
            yield f"{passage.title}\n{passage.text}"
        for turn in conversation.turns:
            yield turn.content


def make_checkpoint(folder: Path, texts: Iterable[str], shape: ScratchShape, seed: int) -> None:
    """Write an untrained checkpoint to `folder`: weights, tokenizer, chat template.

    The tokenizer is a byte-level BPE with single digits (llama.cpp's `smollm`), the template writes
    passages by the `documents` variable. Equal texts, shape and seed give equal files.
    """
    prepare_libraries("torch", "transformers", "tokenizers")
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    trained = tokenizers.train(texts, shape.vocab_size)
    names: dict[str, Any] = {
        "bos_token": tokenizers.BOS,
        "eos_token": tokenizers.END,
        "pad_token": tokenizers.PAD,
    }
    ids = {key: tokenizers.control_id(trained, name) for key, name in names.items()}
    config = LlamaConfig(
        vocab_size=trained.get_vocab_size(),
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        max_position_embeddings=shape.context,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_base},
        tie_word_embeddings=True,
        bos_token_id=ids["bos_token"],
        eos_token_id=ids["eos_token"],
        pad_token_id=ids["pad_token"],
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    _start_small(model, shape)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(folder))
    make_tokenizer: Any = PreTrainedTokenizerFast
    tokenizer = make_tokenizer(tokenizer_object=trained, **names)
    tokenizer.save_pretrained(str(folder))
    (folder / TEMPLATE_FILE).write_text(tokenizers.CHAT_TEMPLATE, encoding="utf-8")


def _start_small(model: Any, shape: ScratchShape) -> None:
    """Scale what writes into the residual stream down by its depth (Radford et al. 2019, 2.3)."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.div_(math.sqrt(2 * shape.num_layers))
