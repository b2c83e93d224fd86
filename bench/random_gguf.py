"""Write a GGUF of random weights: as fast as a real model of its shape, and free to pass around.

    python -m bench.random_gguf --vocabulary ggml-vocab-llama-spm.gguf --shape 60m  rand60.gguf
    python -m bench.random_gguf --vocabulary ggml-vocab-llama-spm.gguf --shape 1.1b rand1b.gguf

The vocabulary (Llama's, 32,000 tokens) comes from the source archive of llama-cpp-python, where it
lies in vendor/llama.cpp/models.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

# Turns as TinyLlama marks them; documents between the system's text and the conversation.
_TEMPLATE = (
    "{%- for message in messages -%}{%- if message['role'] == 'system' -%}"
    "{{- '<|system|>\n' + message['content'] + eos_token + '\n' -}}{%- endif -%}{%- endfor -%}"
    "{%- if documents -%}{{- '<|documents|>\n' -}}{%- for document in documents -%}"
    "{{- '[' ~ loop.index ~ '] ' -}}{{- document['text'] ~ '\n\n' -}}{%- endfor -%}{%- endif -%}"
    "{%- for message in messages -%}{%- if message['role'] != 'system' -%}"
    "{{- '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' -}}"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>\n' -}}{%- endif -%}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What makes a Llama of its size; `width_ff` is that of the feed-forward part."""

    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    width_ff: int

    @property
    def width_head(self) -> int:
        """Numbers of one head."""
        return self.width // self.num_heads


SHAPES = {
    "60m": Shape(width=512, num_layers=8, num_heads=8, num_kv_heads=4, width_ff=1408),
    # TinyLlama-1.1B's (huggingface.co/TinyLlama).
    "1.1b": Shape(width=2048, num_layers=22, num_heads=32, num_kv_heads=4, width_ff=5632),
}


def write_random_gguf(
    path: Path, vocabulary: Path, shape: Shape, *, kind: str = "Q8_0", num_ctx: int = 8192
) -> None:
    """Write the model to `path`, its matrices in the number format `kind`."""
    writer = gguf.GGUFWriter(path, "llama", use_temp_file=True)
    writer.add_name(path.stem)
    writer.add_context_length(num_ctx)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.num_layers)
    writer.add_feed_forward_length(shape.width_ff)
    writer.add_head_count(shape.num_heads)
    writer.add_head_count_kv(shape.num_kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.width_head)
    writer.add_rope_freq_base(10000.0)
    writer.add_chat_template(_TEMPLATE)
    num_vocab = _copy_vocabulary(writer, vocabulary)
    writer.add_vocab_size(num_vocab)
    _write_weights(writer, shape, num_vocab, gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _copy_vocabulary(writer: Any, vocabulary: Path) -> int:
    """Take over every field of the tokenizer but a chat template; return the number of tokens."""
    num_vocab = 0
    for name, field in gguf.GGUFReader(vocabulary).fields.items():
        if not name.startswith("tokenizer.") or name == "tokenizer.chat_template":
            continue
        value = field.contents()
        kind = field.types[0]
        if kind is gguf.GGUFValueType.ARRAY:
            writer.add_array(name, value)
        else:
            writer.add_key_value(name, value, kind)
        if name == "tokenizer.ggml.tokens":
            num_vocab = len(value)
    return num_vocab


def _write_weights(writer: Any, shape: Shape, num_vocab: int, kind: Any) -> None:
    rng = np.random.default_rng(0)

    def add(name: str, num_rows: int, num_columns: int, scale: float = 1.0) -> None:
        matrix = rng.standard_normal((num_rows, num_columns), dtype=np.float32)
        matrix *= scale / np.sqrt(num_columns)
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(matrix, kind), raw_dtype=kind)

    def add_ones(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(shape.width, np.float32))

    width, width_kv = shape.width, shape.num_kv_heads * shape.width_head
    add("token_embd", num_vocab, width, scale=np.sqrt(width))
    add("output", num_vocab, width)
    add_ones("output_norm")
    for layer in range(shape.num_layers):
        block = f"blk.{layer}."
        add_ones(block + "attn_norm")
        add_ones(block + "ffn_norm")
        add(block + "attn_q", width, width)
        add(block + "attn_k", width_kv, width)
        add(block + "attn_v", width_kv, width)
        add(block + "attn_output", width, width)
        add(block + "ffn_gate", shape.width_ff, width)
        add(block + "ffn_up", shape.width_ff, width)
        add(block + "ffn_down", width, shape.width_ff)


def main() -> None:
    """Write the file named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--vocabulary", type=Path, required=True, help="GGUF with the tokenizer")
    parser.add_argument("--shape", choices=tuple(SHAPES), default="60m")
    parser.add_argument("--type", default="Q8_0", help="number format that gguf can write")
    arguments = parser.parse_args()
    write_random_gguf(
        arguments.path, arguments.vocabulary, SHAPES[arguments.shape], kind=arguments.type
    )
    print(f"{arguments.path}: {arguments.path.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
