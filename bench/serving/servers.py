"""The servers under measurement, each a process of its own on the same GGUF with the same threads.

llama-server is built outside this repository from the source archive of the installed binding:

    pip download --no-binary :all: --no-deps llama-cpp-python==0.3.36
    tar xzf llama_cpp_python-0.3.36.tar.gz && cd llama_cpp_python-0.3.36
    cmake -S vendor/llama.cpp -B build -DCMAKE_BUILD_TYPE=Release -DLLAMA_CURL=OFF \
        -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF
    cmake --build build --target llama-server

`python -m llama_cpp.server` needs two more packages, sse-starlette and starlette-context; they may
lie outside the environment (`--peer-path`).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

_START_S = 300.0
MYNAH, LLAMA_SERVER, LLAMA_CPP_SERVER = "mynah", "llama-server", "llama_cpp.server"


@dataclass(frozen=True, slots=True)
class Setup:
    """What every server is started with. `context_tokens` is what one request may take."""

    model: Path
    num_threads: int
    num_slots: int
    context_tokens: int


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. `has_documents`: it takes passages apart from the messages."""

    name: str
    url: str
    model: str
    pid: int
    has_documents: bool = False

    @property
    def rss_bytes(self) -> int:
        """Memory that its process holds in RAM."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    @property
    def cpu_s(self) -> float:
        """Processor time it has had, to a hundredth; other work on the machine does not count.

        That of threads that have ended is in it: one server has a new one for every answer.
        """
        # utime and stime; the program's name before them may hold spaces (proc(5)).
        stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


class ServerFailed(Exception):
    """A server did not start; its last lines stand in the message."""


@contextmanager
def serve_mynah(
    setup: Setup,
    *,
    has_documents: bool | None = None,
    settings: Mapping[str, str] | None = None,
    data_dir: Path | None = None,
) -> Iterator[Server]:
    """`mynah serve`, without `data_dir` over an empty one; `settings` by their names.

    `has_documents` None: if it can.
    """
    values = {
        "num_threads": str(setup.num_threads),
        "num_slots": str(setup.num_slots),
        "context_tokens": str(setup.context_tokens),
        "max_waiting": "256",
        "log_level": "warning",
        **(settings or {}),
    }
    variables = {f"MYNAH_{name.upper()}": value for name, value in values.items()}
    with tempfile.TemporaryDirectory(prefix="mynah-bench-") as folder:
        command = [sys.executable, "-m", "server.cli", "--data-dir", str(data_dir or folder)]
        command += ["serve", "--port", "0", "--model", str(setup.model)]
        with _running(command, variables) as process:
            url = process.wait_for_line("Mynah listens on ").split()[3]
            _wait_until_ready(f"{url}/readyz", process)
            takes_documents = takes_documents_field() if has_documents is None else has_documents
            yield Server(MYNAH, url, "mynah-raw", process.pid, takes_documents)


@contextmanager
def serve_llama_server(setup: Setup, program: Path) -> Iterator[Server]:
    """llama.cpp's own server, one KV cache for all of its slots, the rest as it comes."""
    port = _free_port()
    command = [str(program), "--model", str(setup.model), "--port", str(port)]
    command += ["--threads", str(setup.num_threads), "--threads-batch", str(setup.num_threads)]
    command += ["--parallel", str(setup.num_slots)]
    command += ["--ctx-size", str(setup.context_tokens * setup.num_slots)]
    with _running(command, {}) as process:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(f"{url}/health", process)
        yield Server(LLAMA_SERVER, url, "m", process.pid)


@contextmanager
def serve_llama_cpp(setup: Setup, peer_path: Sequence[str]) -> Iterator[Server]:
    """The Python server, told not to cut off the request that runs when the next one comes."""
    port = _free_port()
    command = [sys.executable, "-W", "ignore", "-m", "llama_cpp.server", "--port", str(port)]
    command += ["--model", str(setup.model), "--n_ctx", str(setup.context_tokens)]
    command += ["--n_threads", str(setup.num_threads)]
    command += ["--n_threads_batch", str(setup.num_threads), "--interrupt_requests", "false"]
    variables = {"PYTHONPATH": os.pathsep.join([*peer_path, os.environ.get("PYTHONPATH", "")])}
    with _running(command, variables) as process:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(f"{url}/v1/models", process)
        yield Server(LLAMA_CPP_SERVER, url, "m", process.pid)


def stop_servers_when_told() -> None:
    """Turn SIGTERM into the end of the program, so that no server outlives its measurement."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def takes_documents_field() -> bool:
    """Whether this version's chat requests may carry passages apart from the messages."""
    from server.schemas.chat import ChatRequest

    return "documents" in ChatRequest.model_fields


class _Process:
    """A server's process whose output is read, so that a full pipe never stops it."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        self.lines: list[str] = []
        self._popen = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **variables},
        )
        self.pid = self._popen.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def wait_for_line(self, start: str) -> str:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            for line in list(self.lines):
                if line.startswith(start):
                    return line
            self.check()
            time.sleep(0.05)
        raise ServerFailed(f"no line {start!r} came: {self.tail()}")

    def check(self) -> None:
        """Raise `ServerFailed` if the process has ended."""
        if not self.is_running:
            raise ServerFailed(f"exit code {self._popen.returncode}: {self.tail()}")

    def tail(self) -> str:
        return "".join(self.lines[-12:])

    def stop(self) -> None:
        self._popen.terminate()
        try:
            self._popen.wait(20)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._reader.join(5)
        if self._popen.stdout is not None:
            self._popen.stdout.close()

    def _read(self) -> None:
        for line in self._popen.stdout or ():
            self.lines.append(line)
            # Enough to tell why it ended.
            del self.lines[:-200]


@contextmanager
def _running(command: Sequence[str], variables: Mapping[str, str]) -> Iterator[_Process]:
    process = _Process(command, variables)
    try:
        yield process
    finally:
        process.stop()


def _wait_until_ready(url: str, process: _Process) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        process.check()
        try:
            if httpx.get(url, timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise ServerFailed(f"{url} did not become ready: {process.tail()}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
