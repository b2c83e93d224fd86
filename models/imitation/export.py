"""A trained decoder as a GGUF file that llama.cpp runs: weights, tokenizer, template, metadata.

`python -m models.imitation.export --checkpoint RUN/last.pt --tokenizer T --out model.gguf`
"""

# ruff: noqa: T201 - a command line program prints.

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.imitation import tokenizer as tokenizers
from models.imitation.tokenizer import BOS, CHAT_TEMPLATE, CONTROL_TOKENS, END, PAD
from models.text.excerpts import EXCERPTS, PASSAGES_KEY

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from models.imitation.architecture import Decoder, Shape

TYPES = ("q8_0", "f16", "f32")

BLOCK_NAMES = {
    "attention_norm.weight": "attn_norm.weight",
    "attention.q.weight": "attn_q.weight",
    "attention.k.weight": "attn_k.weight",
    "attention.v.weight": "attn_v.weight",
    "attention.o.weight": "attn_output.weight",
    "mlp_norm.weight": "ffn_norm.weight",
    "gate.weight": "ffn_gate.weight",
    "up.weight": "ffn_up.weight",
    "down.weight": "ffn_down.weight",
}


@dataclass(frozen=True)
class Card:
    """What the file says about itself."""

    name: str = "mynah"
    description: str = "Answers from given passages, cites them, and says when they hold no answer."
    license: str = "apache-2.0"
    version: str = "1"
    sources: tuple[tuple[str, str], ...] = field(default=())  # (name, licence) of training data
    has_block_attention: bool = False


def tensors(decoder: Decoder) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield GGUF tensor names and float32 arrays; the output matrix is the embedding (tied)."""
    for name, value in decoder.state_dict().items():
        array = value.detach().cpu().float().numpy()
        if name == "embedding.weight":
            yield "token_embd.weight", array
        elif name == "norm.weight":
            yield "output_norm.weight", array
        else:
            _, block, rest = name.split(".", 2)
            yield f"blk.{block}.{BLOCK_NAMES[rest]}", array


def merges(tokenizer: Tokenizer) -> list[str]:
    """Return the BPE merges as `left right` lines, in order of priority."""
    found = json.loads(tokenizer.to_str())["model"]["merges"]
    return [pair if isinstance(pair, str) else " ".join(pair) for pair in found]


def write(
    path: Path, decoder: Decoder, tokenizer: Tokenizer, card: Card, kind: str = "q8_0"
) -> None:
    """Write the GGUF at `path`, aside and then renamed.

    `kind` is one of `TYPES`; vectors stay float32. Raises ValueError for another kind, or where a
    matrix has rows that Q8_0's blocks of 32 do not divide.
    """
    import gguf

    if kind not in TYPES:
        raise ValueError(f"type {kind!r} is not one of {', '.join(TYPES)}")
    aside = path.with_suffix(".part")
    writer = gguf.GGUFWriter(str(aside), "llama")
    add_metadata(writer, decoder.shape, tokenizer, card, kind)
    for name, array in tensors(decoder):
        if array.ndim == 1 or kind == "f32":
            writer.add_tensor(name, array)
        elif kind == "f16":
            writer.add_tensor(name, array.astype(np.float16))
        else:
            quantized = gguf.quants.quantize(array, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    aside.replace(path)


def add_metadata(writer: object, shape: Shape, tokenizer: Tokenizer, card: Card, kind: str) -> None:
    """Write what the file is, the sizes of the decoder and the tokenizer to a GGUFWriter."""
    import gguf

    assert isinstance(writer, gguf.GGUFWriter)
    writer.add_name(card.name)
    writer.add_description(card.description)
    writer.add_license(card.license)
    writer.add_version(card.version)
    writer.add_languages(["en"])
    writer.add_array(
        "general.datasets", [f"{name} ({text})" for name, text in card.sources] or ["-"]
    )
    file_types = {
        "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
        "f16": gguf.LlamaFileType.MOSTLY_F16,
        "f32": gguf.LlamaFileType.ALL_F32,
    }
    writer.add_file_type(file_types[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.num_layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.num_heads)
    writer.add_head_count_kv(shape.num_kv_heads)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_vocab_size(shape.vocab_size)
    vocabulary = tokenizer.get_vocab()
    names = sorted(vocabulary, key=lambda name: vocabulary[name])
    if [vocabulary[name] for name in names] != list(range(shape.vocab_size)):
        raise ValueError(f"the tokenizer has {len(names)} tokens, the decoder {shape.vocab_size}")
    control = frozenset(CONTROL_TOKENS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(names)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if name in control else gguf.TokenType.NORMAL for name in names]
    )
    writer.add_token_merges(merges(tokenizer))
    writer.add_bos_token_id(vocabulary[BOS])
    writer.add_eos_token_id(vocabulary[END])
    writer.add_pad_token_id(vocabulary[PAD])
    # The template writes it; added twice it would shift every position.
    writer.add_add_bos_token(False)
    # The grounder shows this model what it was trained on: excerpts of passages.
    writer.add_string(PASSAGES_KEY, EXCERPTS)
    writer.add_bool("mynah.block_attention", card.has_block_attention)
    writer.add_chat_template(CHAT_TEMPLATE)


def load_sources(path: Path) -> tuple[tuple[str, str], ...]:
    """Return (name, licence) pairs from a JSON object of them."""
    found: Mapping[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return tuple((name, str(text)) for name, text in found.items())


def main() -> None:
    """Run the command line."""
    from models.imitation.training import load_decoder

    parser = argparse.ArgumentParser(description="Write a checkpoint as GGUF.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--sources", type=Path, help="JSON object: source name -> licence")
    parser.add_argument("--type", choices=TYPES, default="q8_0")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    card = Card(sources=load_sources(options.sources) if options.sources else ())
    tokenizer = tokenizers.load(options.tokenizer)
    write(options.out, load_decoder(options.checkpoint), tokenizer, card, options.type)
    print(f"{options.out.stat().st_size:,} bytes -> {options.out}")


if __name__ == "__main__":
    main()
