"""Fixtures that every folder may use."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.engine import LlamaEngine
from models.engine_settings import EngineSettings
from tests.gguf_factory import write_tiny_gguf


def pytest_configure() -> None:
    """Let Ctrl-C be tried: what a shell starts in the background ignores it, children too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure() -> None:
    """Close what llama-cpp-python leaves open, or every run ends with its warnings."""
    utils = sys.modules.get("llama_cpp._utils")
    if utils is not None:
        utils.outnull_file.close()
        utils.errnull_file.close()


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random-weight GGUF with the `documents` chat format: real engine, meaningless text."""
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="session")
def wide_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with heads of 32 numbers, as a KV cache of q8_0 needs them."""
    return write_tiny_gguf(tmp_path_factory.mktemp("wide") / "wide.gguf", num_heads=2)


@pytest.fixture(scope="session")
def tiny_engine(tiny_gguf: Path) -> Iterator[LlamaEngine]:
    """One engine over `tiny_gguf` for tests that leave it idle."""
    engine = LlamaEngine(EngineSettings(path=tiny_gguf, num_threads=1))
    yield engine
    engine.close()
