"""What a GGUF file says about itself, read without llama.cpp.

The format: magic, version, two counts, then typed key-value pairs, then one record for each
tensor, then the tensor data (github.com/ggml-org/ggml, docs/gguf.md). Only version 2 and later
(64-bit counts) are in use.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from models.errors import ModelFileInvalid

_MAGIC = b"GGUF"
_NUM_FORMATS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_NUM_SHOWN_ITEMS = 8
_MAX_NAME_BYTES = 1 << 16
_MAX_DIMENSIONS = 8
_SCALAR = str | int | float | bool


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """The head of a GGUF. Arrays are described ("array of 49152"), not kept."""

    version: int
    num_tensors: int
    metadata: Mapping[str, str | int | float | bool]
    num_vocab: int
    size_bytes: int

    def text(self, key: str) -> str:
        """The value of `key` as text, empty where it is missing."""
        return str(self.metadata.get(key, ""))

    def number(self, key: str) -> int:
        """The value of the architecture's `key` as a whole number, 0 where it is none."""
        value = self.metadata.get(f"{self.text('general.architecture')}.{key}")
        return int(value) if isinstance(value, int | float) else 0

    @property
    def width_key(self) -> int:
        """Numbers of one head's key, 0 where the header does not tell."""
        num_heads = self.number("attention.head_count")
        width = self.number("embedding_length") // num_heads if num_heads else 0
        return self.number("attention.key_length") or width

    @property
    def num_kv_values(self) -> int:
        """Numbers that the KV cache holds for each token; at least this many, if in doubt."""
        num_kv_heads = self.number("attention.head_count_kv") or 1
        width_value = self.number("attention.value_length") or self.width_key
        return self.number("block_count") * num_kv_heads * (self.width_key + width_value)


class _Truncated(Exception):
    """The file ends before the header does."""


class _Reader:
    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self.file = file
        self.size_bytes = size_bytes

    def take(self, num_bytes: int) -> bytes:
        # A damaged count must not make us allocate what the file cannot hold.
        if num_bytes > self.size_bytes - self.file.tell():
            raise _Truncated
        data = self.file.read(num_bytes)
        if len(data) < num_bytes:
            raise _Truncated
        return data

    def skip(self, num_bytes: int) -> None:
        if num_bytes > self.size_bytes - self.file.tell():
            raise _Truncated
        self.file.seek(num_bytes, 1)

    def number(self, form: str) -> int:
        value = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return int(value)

    def string(self, max_bytes: int | None = None) -> str:
        num_bytes = self.number("<Q")
        if max_bytes is not None and num_bytes > max_bytes:
            raise _Truncated
        return self.take(num_bytes).decode("utf-8", "replace")

    def scalar(self, kind: int) -> _SCALAR:
        if kind == _STRING:
            return self.string()
        form = _NUM_FORMATS.get(kind)
        if form is None:
            raise _Truncated
        value: _SCALAR = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def array(self) -> tuple[int, str]:
        """Skip an array; return its length and a description of it."""
        kind, length = self.number("<I"), self.number("<Q")
        if kind == _ARRAY:
            for _ in range(length):
                self.array()
            return length, f"array of {length}"
        if kind == _STRING:
            for _ in range(length):
                self.skip(self.number("<Q"))
            return length, f"array of {length}"
        if length <= _NUM_SHOWN_ITEMS:
            return length, ", ".join(str(self.scalar(kind)) for _ in range(length))
        form = _NUM_FORMATS.get(kind)
        if form is None:
            raise _Truncated
        self.skip(length * struct.calcsize(form))
        return length, f"array of {length}"


def read_header(path: str | Path) -> GgufHeader:
    """Return the header of the GGUF at `path`.

    Raises `ModelFileInvalid` for a missing path, a folder, an empty file, another format, a
    version that is not supported or a file that ends early.
    """
    path = Path(path)
    if path.is_dir():
        raise _invalid(path, "is a folder; give the path of a .gguf file in it")
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            return _parse(_Reader(file, size_bytes), path)
    except FileNotFoundError:
        raise _invalid(path, "does not exist; check the path") from None
    except _Truncated:
        raise _invalid(path, "is truncated or damaged; fetch it again") from None
    except OSError as error:
        raise _invalid(path, f"cannot be read: {error.strerror or error}") from None


def _parse(reader: _Reader, path: Path) -> GgufHeader:
    if not reader.size_bytes:
        raise _invalid(path, "is empty; fetch it again")
    magic = reader.file.read(4)
    if magic != _MAGIC:
        raise _invalid(path, "is not a GGUF file; convert the model to GGUF first")
    version = reader.number("<I")
    if version not in (2, 3):
        raise _invalid(path, f"is a GGUF of version {version}; versions 2 and 3 are supported")
    num_tensors, num_pairs = reader.number("<Q"), reader.number("<Q")
    metadata: dict[str, _SCALAR] = {}
    num_vocab = 0
    for _ in range(num_pairs):
        key, kind = reader.string(_MAX_NAME_BYTES), reader.number("<I")
        if kind != _ARRAY:
            metadata[key] = reader.scalar(kind)
            continue
        length, metadata[key] = reader.array()
        if key == "tokenizer.ggml.tokens":
            num_vocab = length
    data_bytes = _skip_tensor_records(reader, num_tensors)
    alignment = int(metadata.get("general.alignment", 32)) or 32
    data_start = -(-reader.file.tell() // alignment) * alignment
    if num_tensors and data_start + data_bytes >= reader.size_bytes:
        raise _Truncated
    return GgufHeader(version, num_tensors, metadata, num_vocab, reader.size_bytes)


def _skip_tensor_records(reader: _Reader, num_tensors: int) -> int:
    """Return where the data of the last tensor begins, in bytes from the first one's."""
    last_offset = 0
    for _ in range(num_tensors):
        reader.string(_MAX_NAME_BYTES)
        num_dimensions = reader.number("<I")
        if num_dimensions > _MAX_DIMENSIONS:
            raise _Truncated
        reader.skip(8 * num_dimensions + 4)
        last_offset = max(last_offset, reader.number("<Q"))
    return last_offset


def check_generative(header: GgufHeader, path: str | Path) -> None:
    """Raise `ModelFileInvalid` unless the file holds a model that can hold a conversation."""
    path = Path(path)
    kind = header.text("general.type")
    if kind and kind != "model":
        raise _invalid(path, f"holds a {kind}, not a model; give the model's own GGUF")
    if not header.text("general.architecture"):
        raise _invalid(path, "does not name its architecture; convert the model again")
    if not header.num_vocab or header.text("tokenizer.ggml.model") in {"", "no_vocab", "none"}:
        raise _invalid(path, "has no vocabulary; convert the model with its tokenizer")
    if not header.text("tokenizer.chat_template").strip():
        raise _invalid(path, "has no chat template; use an instruction-tuned model's GGUF")
    if not header.num_tensors:
        raise _invalid(path, "holds no weights; fetch the whole model")


def _invalid(path: Path, what: str) -> ModelFileInvalid:
    return ModelFileInvalid(f"{path} {what}.", param="model")
