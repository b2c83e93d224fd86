from __future__ import annotations

import asyncio
from pathlib import Path

import gguf
import llama_cpp.llama_cpp as low_level
import pytest

from models.engine import LlamaEngine
from models.engine_settings import EngineSettings
from models.errors import ModelFileInvalid
from models.gguf import read_header
from models.imitation.errors import ExportFailed
from models.protocols import Message, SamplingSettings
from models.quantizing import KINDS, kind_of, quantize
from tests.gguf_factory import write_tiny_gguf

_NAMES = {"f32": "ALL_F32"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_tiny_gguf(tmp_path / "source.gguf")


def answer(path: Path) -> str:
    async def say() -> str:
        sampling = SamplingSettings(max_tokens=12, temperature=0.0)
        generation = engine.generate(engine.prepare([Message("user", "Hello?")]), sampling)
        return "".join([delta.text async for delta in generation])

    engine = LlamaEngine(EngineSettings(path=path, num_threads=1))
    try:
        return asyncio.run(say())
    finally:
        engine.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_those_of_the_installed_llama_cpp(kind: str) -> None:
    name = _NAMES.get(kind, f"MOSTLY_{kind.upper()}")
    assert KINDS[kind] == getattr(low_level, f"LLAMA_FTYPE_{name}")
    assert kind_of(KINDS[kind]) == kind
    assert kind_of(None) == kind_of(999) == "unknown"


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_gives_a_file_that_says_its_type(
    source: Path, tmp_path: Path, kind: str
) -> None:
    target = tmp_path / f"{kind}.gguf"
    done = quantize(source, target, kind, num_threads=1)
    header = read_header(target)
    assert kind_of(header.metadata["general.file_type"]) == kind
    assert (done.kind, done.num_tensors, done.size_bytes) == (
        kind,
        header.num_tensors,
        target.stat().st_size,
    )
    if kind != "f32":
        assert done.size_bytes < source.stat().st_size
    assert not done.is_requantized
    assert {path.name for path in tmp_path.iterdir()} == {"source.gguf", target.name}


def test_the_quantized_model_answers_and_keeps_its_metadata(source: Path, tmp_path: Path) -> None:
    for kind in ("f32", "q8_0", "q4_k_m"):
        quantize(source, tmp_path / f"{kind}.gguf", kind)
    assert answer(tmp_path / "f32.gguf") == answer(source)
    assert answer(tmp_path / "q4_k_m.gguf")
    before, after = (dict(read_header(p).metadata) for p in (source, tmp_path / "q8_0.gguf"))
    added = {"general.file_type", "general.quantization_version"}
    assert {k: v for k, v in after.items() if k not in added} == before


def test_tensors_whose_rows_do_not_fit_the_block_are_counted(source: Path, tmp_path: Path) -> None:
    done = quantize(source, tmp_path / "k.gguf", "q4_k_m")
    kinds = [t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "k.gguf").tensors]
    assert not any(kind.endswith("_K") for kind in kinds)
    # Every matrix but the output's, for which q8_0 is llama.cpp's own choice and no fallback.
    assert done.num_fallbacks == sum(kind != "F32" for kind in kinds) - 1
    assert quantize(source, tmp_path / "q.gguf", "q8_0").num_fallbacks == 0


def test_what_was_quantized_before_is_told(source: Path, tmp_path: Path) -> None:
    once = tmp_path / "once.gguf"
    assert not quantize(source, once, "f16").is_requantized
    assert not quantize(once, tmp_path / "twice.gguf", "q8_0").is_requantized
    assert quantize(tmp_path / "twice.gguf", once, "q4_0").is_requantized


def test_progress_counts_the_tensors(source: Path, tmp_path: Path) -> None:
    shows: list[tuple[int, int]] = []
    done = quantize(source, tmp_path / "k.gguf", "q8_0", show=lambda i, num: shows.append((i, num)))
    assert shows == [(i + 1, done.num_tensors) for i in range(done.num_tensors)]


def test_a_failure_of_the_display_is_not_lost(source: Path, tmp_path: Path) -> None:
    def fail(i: int, num: int) -> None:
        raise BrokenPipeError(f"{i} of {num}")

    with pytest.raises(ExportFailed, match="1 of 21"):
        quantize(source, tmp_path / "k.gguf", "q8_0", show=fail)
    assert [path.name for path in tmp_path.iterdir()] == ["source.gguf"]


def test_an_unknown_type_names_the_known_ones(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match=r"'q4'; use one of f32, .*q4_k_m"):
        quantize(source, tmp_path / "x.gguf", "q4")


def test_what_cannot_be_quantized_leaves_nothing(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    target.write_bytes(b"before")
    whole = source.read_bytes()
    damaged = tmp_path / "damaged.gguf"
    for content, error, message in (
        (b"no GGUF at all", ModelFileInvalid, "not a GGUF"),
        (whole[: len(whole) // 8], ModelFileInvalid, "truncated or damaged"),
        (whole[:-1000], ExportFailed, "corrupted or incomplete"),
    ):
        damaged.write_bytes(content)
        with pytest.raises(error, match=message) as caught:
            quantize(damaged, target, "q8_0")
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelFileInvalid, match="does not exist"):
        quantize(tmp_path / "none.gguf", target, "q8_0")
    with pytest.raises(ExportFailed, match="No such file or directory"):
        quantize(source, tmp_path / "none" / "x.gguf", "q8_0")
    with pytest.raises(ExportFailed, match="the source itself"):
        quantize(source, source, "q8_0")
    assert target.read_bytes() == b"before"
    assert source.read_bytes() == whole
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"source.gguf", "out.gguf", "damaged.gguf"}
