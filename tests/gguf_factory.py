"""Tiny random-weight GGUFs: a real vocabulary and chat template, a few hundred kilobytes.

Their text is noise, but the same noise each time; everything around it is as in a large model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np

NUM_CTX_TRAIN = 1024
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
_WIDTH, _NUM_LAYERS, _NUM_HEADS, _NUM_KV_HEADS, _WIDTH_FF = 64, 2, 4, 2, 128
_NUM_MERGES = 240
_SAMPLE = (
    "The handbook says that each parent receives sixteen weeks of leave, and that the office "
    "opens at nine in the morning. Passages and documents are given to the system, the user asks "
    "a question and the assistant answers it with the sentence that stands in the document. "
    "If nothing in the documents answers the question, it could not find this in the documents. "
)


@dataclass(frozen=True)
class ChatFormat:
    """Control tokens and template of one family of models."""

    template: str
    control: tuple[str, ...]
    bos: str | None
    eos: str
    adds_bos: bool = False


_LOOP = "{%- for message in messages -%}"
CHAT_FORMATS: dict[str, ChatFormat] = {
    "chatml": ChatFormat(
        template=_LOOP
        + "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' -}}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}",
        control=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        bos=None,
        eos="<|im_end|>",
    ),
    "llama3": ChatFormat(
        template="{{- bos_token -}}"
        + _LOOP
        + "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' -}}"
        "{{- message['content'] | trim + '<|eot_id|>' -}}{%- endfor -%}"
        "{%- if add_generation_prompt -%}"
        "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}",
        control=(
            "<|begin_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
            "<|end_of_text|>",
        ),
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        adds_bos=True,
    ),
    # Refuses system messages and turns that do not alternate.
    "mistral": ChatFormat(
        template="{{- bos_token -}}"
        + _LOOP
        + "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
        "{{- raise_exception('roles must alternate user/assistant') -}}{%- endif -%}"
        "{%- if message['role'] == 'user' -%}{{- '[INST] ' + message['content'] + ' [/INST]' -}}"
        "{%- elif message['role'] == 'assistant' -%}{{- message['content'] + eos_token -}}"
        "{%- else -%}{{- raise_exception('only user and assistant roles') -}}{%- endif -%}"
        "{%- endfor -%}",
        control=("<s>", "</s>", "[INST]", "[/INST]"),
        bos="<s>",
        eos="</s>",
        adds_bos=True,
    ),
    # Drops system messages without a word.
    "gemma": ChatFormat(
        template="{{- bos_token -}}" + _LOOP + "{%- if message['role'] != 'system' -%}"
        "{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}"
        "{{- '<start_of_turn>' ~ role ~ '\n' ~ (message['content'] | trim) -}}"
        "{{- '<end_of_turn>\n' -}}{%- endif -%}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<start_of_turn>model\n' -}}{%- endif -%}",
        control=("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        bos="<bos>",
        eos="<end_of_turn>",
        adds_bos=True,
    ),
    # The bundled model's kind: passages go through the template's `documents`.
    "documents": ChatFormat(
        template="<|bos|>{%- for document in (documents or []) -%}"
        "{{- '<|document|>[' ~ loop.index ~ ']\n' ~ document['title'] ~ '\n' -}}"
        "{{- document['text'] -}}{%- endfor -%}"
        + _LOOP
        + "{{- '<|' ~ message['role'] ~ '|>' -}}{{- message['content'] ~ '<|end|>' -}}"
        "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}",
        control=("<|bos|>", "<|document|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        bos="<|bos|>",
        eos="<|end|>",
    ),
}


def _byte_characters() -> list[str]:
    """The printable stand-ins of the 256 bytes in GPT-2's vocabulary, by byte."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in shown else chr(next(spare)) for byte in range(256)]


def _learn_merges(text: str, num_merges: int) -> list[tuple[str, str]]:
    characters = _byte_characters()
    words = Counter(
        tuple(characters[byte] for byte in word.encode())
        for word in [" " + word for word in text.split()]
    )
    merges: list[tuple[str, str]] = []
    for _ in range(num_merges):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = Counter({_merge(word, best): count for word, count in words.items()})
    return merges


def _merge(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    i = 0
    while i < len(word):
        if word[i : i + 2] == pair:
            merged.append(word[i] + word[i + 1])
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return tuple(merged)


def write_tiny_gguf(
    path: Path,
    *,
    chat: str = "documents",
    vocabulary: Literal["bpe", "spm", "none"] = "bpe",
    control_as: Literal["control", "user_defined"] = "control",
    weights: Literal["F32", "Q8_0"] = "F32",
    has_template: bool = True,
    template: str | None = None,
    num_ctx_train: int = NUM_CTX_TRAIN,
    num_heads: int = _NUM_HEADS,
    metadata: Mapping[str, bool | str] | None = None,
    seed: int = 0,
) -> Path:
    """Write a two-layer Llama with random weights to `path` and return it.

    A KV cache of q8_0 needs heads of 32 numbers: `num_heads` 2.
    """
    form = CHAT_FORMATS[chat]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(num_ctx_train)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_NUM_LAYERS)
    writer.add_feed_forward_length(_WIDTH_FF)
    writer.add_head_count(num_heads)
    writer.add_head_count_kv(_NUM_KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // num_heads)
    writer.add_rope_freq_base(10000.0)
    for key, value in (metadata or {}).items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        else:
            writer.add_string(key, value)
    if has_template:
        writer.add_chat_template(template if template is not None else form.template)
    kind = _CONTROL if control_as == "control" else _USER_DEFINED
    if vocabulary == "bpe":
        num_vocab = _write_bpe(writer, form, kind)
    elif vocabulary == "spm":
        num_vocab = _write_spm(writer, form, kind)
    else:
        num_vocab = 320
        writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(num_vocab)
    _write_weights(writer, num_vocab, weights, num_heads, np.random.default_rng(seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_bpe(writer: Any, form: ChatFormat, kind: int) -> int:
    merges = _learn_merges(_SAMPLE, _NUM_MERGES)
    pieces = dict.fromkeys([*_byte_characters(), *(a + b for a, b in merges)])
    tokens = [*form.control, *pieces]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([kind] * len(form.control) + [_NORMAL] * len(pieces))
    writer.add_token_merges([f"{a} {b}" for a, b in merges])
    _write_special_ids(writer, form, tokens)
    return len(tokens)


def _write_spm(writer: Any, form: ChatFormat, kind: int) -> int:
    """SentencePiece's kind: scores instead of merges, a space put before every text."""
    words = dict.fromkeys("▁" + word for word in _SAMPLE.split())
    # Halves of control tokens: with them a plain merge can arrive at the control token itself.
    halves = [text[:2] for text in form.control] + [text[2:] for text in form.control]
    characters = [chr(code) for code in range(33, 127)]
    parts = [word[:end] for word in words for end in range(1, len(word) + 1)]
    extra = dict.fromkeys(["▁", *characters, *parts, *halves])
    pieces = [piece for piece in extra if piece and piece not in form.control]
    tokens = ["<unk>", *form.control, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(
        [0.0] * (len(tokens) - len(pieces)) + [-1.0 * i for i in range(len(pieces))]
    )
    writer.add_token_types(
        [_UNKNOWN, *[kind] * len(form.control), *[_BYTE] * 256, *[_NORMAL] * len(pieces)]
    )
    writer.add_unk_token_id(0)
    _write_special_ids(writer, form, tokens)
    return len(tokens)


def _write_special_ids(writer: Any, form: ChatFormat, tokens: list[str]) -> None:
    if form.bos is not None:
        writer.add_bos_token_id(tokens.index(form.bos))
    writer.add_eos_token_id(tokens.index(form.eos))
    writer.add_add_bos_token(form.adds_bos)


def _write_weights(
    writer: Any, num_vocab: int, weights: str, num_heads: int, rng: np.random.Generator
) -> None:
    def add(name: str, num_rows: int, num_columns: int, scale: float = 1.0) -> None:
        matrix = rng.standard_normal((num_rows, num_columns), dtype=np.float32)
        matrix *= scale / np.sqrt(num_columns)
        if weights == "F32":
            writer.add_tensor(name, matrix)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(matrix, kind), raw_dtype=kind)

    def add_ones(names: Iterable[str]) -> None:
        for name in names:
            writer.add_tensor(name, np.ones(_WIDTH, np.float32))

    width_kv = _WIDTH // num_heads * _NUM_KV_HEADS
    add("token_embd.weight", num_vocab, _WIDTH, scale=8.0)
    # Large scores keep the best two tokens apart, so that rounding does not change greedy texts.
    add("output.weight", num_vocab, _WIDTH, scale=4.0)
    add_ones(["output_norm.weight"])
    for layer in range(_NUM_LAYERS):
        block = f"blk.{layer}."
        add_ones([block + "attn_norm.weight", block + "ffn_norm.weight"])
        add(block + "attn_q.weight", _WIDTH, _WIDTH, scale=3.0)
        add(block + "attn_k.weight", width_kv, _WIDTH, scale=3.0)
        add(block + "attn_v.weight", width_kv, _WIDTH, scale=3.0)
        add(block + "attn_output.weight", _WIDTH, _WIDTH, scale=3.0)
        add(block + "ffn_gate.weight", _WIDTH_FF, _WIDTH, scale=2.0)
        add(block + "ffn_up.weight", _WIDTH_FF, _WIDTH, scale=2.0)
        add(block + "ffn_down.weight", _WIDTH, _WIDTH_FF, scale=2.0)
