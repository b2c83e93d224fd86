"""Copies of a GGUF that say one thing more."""

from __future__ import annotations

from pathlib import Path

import gguf


def copy_with_key(source: Path, target: Path, key: str, value: int | str) -> Path:
    """Write the model of `source` with one more pair of metadata to `target` and return it."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            kind = field.types[0]
            inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, inner)
    if isinstance(value, int):
        writer.add_uint16(key, value)
    else:
        writer.add_string(key, value)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
