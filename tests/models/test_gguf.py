"""Every way in which a model file can be wrong has its one line."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from models.engine import open_engine
from models.errors import ModelError, ModelFileInvalid
from models.gguf import check_generative, read_header
from tests.gguf_factory import write_tiny_gguf


def _refusal(path: Path) -> str:
    with pytest.raises(ModelFileInvalid) as caught:
        open_engine(path)
    assert "\n" not in caught.value.message
    assert caught.value.param == "model"
    return caught.value.message


def test_header_tells_what_the_writer_wrote(tiny_gguf: Path) -> None:
    header = read_header(tiny_gguf)
    assert header.text("general.architecture") == "llama"
    assert header.text("general.name") == "tiny"
    assert header.metadata["llama.block_count"] == 2
    assert header.num_vocab == 417
    assert header.metadata["tokenizer.ggml.tokens"] == "array of 417"
    assert header.size_bytes == tiny_gguf.stat().st_size
    check_generative(header, tiny_gguf)


def test_missing_path(tmp_path: Path) -> None:
    assert "does not exist" in _refusal(tmp_path / "none.gguf")


def test_folder(tmp_path: Path) -> None:
    assert "is a folder" in _refusal(tmp_path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 a zip file", "is not a GGUF file"),
        (b"GG", "is not a GGUF file"),
        (b"GGUF", "is truncated"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "does not name its architecture"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60), "is truncated"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 62) + bytes(64), "is truncated"),
    ],
)
def test_damaged_head(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    assert reason in _refusal(path)


@pytest.mark.parametrize("share", [0.001, 0.02, 0.3, 0.9])
def test_truncated_file(tmp_path: Path, tiny_gguf: Path, share: float) -> None:
    path = tmp_path / "model.gguf"
    data = tiny_gguf.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    message = _refusal(path)
    assert "truncated" in message or "cannot be loaded" in message


def test_file_cut_inside_its_last_tensor_gives_llama_cpps_reason(
    tmp_path: Path, tiny_gguf: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_gguf.read_bytes()[:-64])
    assert "not within the file bounds" in _refusal(path)
    assert capfd.readouterr().err == ""


def test_no_chat_template(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf", has_template=False)
    assert "no chat template" in _refusal(path)


def test_template_that_does_not_parse(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf", template="{% for message in %}")
    assert "chat template does not parse" in _refusal(path)


def test_no_vocabulary(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf", vocabulary="none")
    assert "no vocabulary" in _refusal(path)


def test_unknown_architecture(tmp_path: Path, tiny_gguf: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_gguf.read_bytes().replace(b"llama", b"lxxma"))
    assert "unknown model architecture" in _refusal(path)


def test_context_that_cannot_be_had_names_its_size(tiny_gguf: Path) -> None:
    with pytest.raises(ModelError, match="context of 2000000000 tokens"):
        open_engine(tiny_gguf, num_ctx=2_000_000_000)
