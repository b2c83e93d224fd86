"""Imports run `server → ingest → index → models`, downwards only, and nothing heavy at import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("models", "index", "ingest", "server")
MAX_LINES = 300


def source_files() -> list[Path]:
    return [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.lineno, node.module


def test_imports_run_downwards_only() -> None:
    upward = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in source_files()
        for line, name in imported_modules(path)
        if name.split(".")[0] in LAYERS
        and LAYERS.index(name.split(".")[0]) > LAYERS.index(path.relative_to(ROOT).parts[0])
    ]
    assert upward == []


def test_only_the_server_sees_settings() -> None:
    assert [
        f"{path.relative_to(ROOT)}:{line}"
        for path in source_files()
        if path.relative_to(ROOT).parts[0] != "server"
        for line, name in imported_modules(path)
        if name == "server.config"
    ] == []


def test_no_file_is_crowded() -> None:
    crowded = {
        str(path.relative_to(ROOT)): lines
        for path in source_files()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert crowded == {}


@pytest.mark.parametrize("module", ["server.cli", "server.app", "index.retriever"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    heavy = {"torch", "faiss", "llama_cpp", "sentence_transformers", "transformers", "pypdfium2"}
    code = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_no_other_distribution_ships_our_top_level_names() -> None:
    owners = packages_distributions()
    assert {name: owners[name] for name in LAYERS if owners.get(name, ["mynah"]) != ["mynah"]} == {}
