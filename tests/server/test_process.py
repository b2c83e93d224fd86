"""The command line as a process: start-up time, signals, pipes and exit codes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def run_process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server.cli", *arguments],
        text=True,
        capture_output=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        **options,
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from server.cli import run; run(['--help']);"
        "print(sorted({'numpy', 'pydantic', 'fastapi', 'torch', 'asyncio', 'rich', 'sqlite3'}"
        " & set(sys.modules)));"
        "print(sorted({name.partition('.')[0] for name, module in sys.modules.items()"
        " if 'site-packages' in (getattr(module, '__file__', None) or '')}"
        " - {'_distutils_hack'}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, cwd=ROOT, check=True
    )
    heavy, packages = result.stdout.splitlines()[-2:]
    assert heavy == "[]"
    # Typer and what it imports: whatever else is needed stands inside the commands.
    assert packages == "['annotated_doc', 'shellingham', 'typer']"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    process = subprocess.run(
        f"'{sys.executable}' -m server.cli --help | head -n 1",
        shell=True,
        text=True,
        capture_output=True,
        cwd=ROOT,
        check=True,
    )
    assert process.stderr == ""


@pytest.fixture
def serving(data_dir: Path, tiny_gguf: Path) -> Iterator[subprocess.Popen[str]]:
    arguments = ["--data-dir", str(data_dir), "serve", "--port", "0", "--model", str(tiny_gguf)]
    process = subprocess.Popen(
        [sys.executable, "-m", "server.cli", *arguments],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MYNAH_SHUTDOWN_TIMEOUT_S": "0"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_tells_its_address_answers_at_once_and_stops_with_0(
    serving: subprocess.Popen[str], number: signal.Signals
) -> None:
    assert serving.stdout is not None
    line = serving.stdout.readline()
    url = line.split()[3]
    assert url.startswith("http://127.0.0.1:")
    assert httpx2.get(f"{url}/healthz", timeout=20).status_code == 200
    assert httpx2.get(f"{url}/readyz", timeout=20).status_code in (200, 503)
    serving.send_signal(number)
    assert serving.wait(30) == 0


def test_a_model_that_does_not_load_stops_the_server(data_dir: Path, tiny_gguf: Path) -> None:
    damaged = data_dir.parent / "damaged.gguf"
    damaged.write_bytes(tiny_gguf.read_bytes()[:1000])
    result = run_process(
        "--data-dir", str(data_dir), "serve", "--port", "0", "--model", str(damaged)
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("mynah: ")
    assert "Traceback" not in result.stderr


def test_a_taken_port_is_named(data_dir: Path, tiny_gguf: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run_process(
            "--data-dir", str(data_dir), "serve", "--port", port, "--model", str(tiny_gguf)
        )
    assert result.returncode == 1
    assert result.stderr == (
        f"mynah: cannot listen on 127.0.0.1 port {port}: Address already in use;"
        " choose another with --port.\n"
    )
