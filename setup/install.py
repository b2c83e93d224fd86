"""Everything that `make demo` and `make test` need, into `.venv`; standard library only.

llama-cpp-python is compiled from source while pip installs the rest. Both run at once because
one waits for the compiler and the other for the network. A stamp file with the hash of what was
asked for makes every later run return at once.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
WHEELS = VENV / "wheels"
INPUTS = ("pyproject.toml", "constraints.txt", "setup/llama.cmake", "setup/install.py")
# Only what the Python package loads: no multimodal part, programs, tests, server or web page.
CMAKE_ARGS = (
    "-DLLAVA_BUILD=OFF",
    "-DLLAMA_BUILD_TOOLS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_OPENSSL=OFF",
    f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={ROOT / 'setup' / 'llama.cmake'}",
)
_STEP = re.compile(r"\[(\d+)/(\d+)\]")


def main() -> int:
    """Exit code 0 once the environment stands; 1 with one line that says what failed."""
    stamp = VENV / ".mynah-ready"
    wanted = fingerprint()
    if stamp.is_file() and stamp.read_text() == wanted:
        return 0
    if sys.version_info < (3, 11):  # noqa: UP036 - run by whatever `python3` is
        return fail(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}.")
    if shutil.which("c++") is None and shutil.which("g++") is None and "CXX" not in os.environ:
        return fail("a C++ compiler is needed (Debian and Ubuntu: apt-get install g++).")
    started_s = time.monotonic()
    say(f"setting up {VENV.name} (once; llama.cpp is compiled, so this takes a few minutes)")
    if not (VENV / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    build = Build()
    build.start()
    try:
        install("-r", write_requirements(), "hatchling", "editables")
        say(f"{time.monotonic() - started_s:.0f} s: packages installed, waiting for llama.cpp")
        wheel = build.finish()
        # First with what it needs; then by force, for a wheel of the same version with other flags.
        install(str(wheel))
        install("--no-deps", "--force-reinstall", str(wheel))
        install("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    except subprocess.CalledProcessError as error:
        build.stop()
        return fail(f"pip failed ({' '.join(map(str, error.cmd[-3:]))}); its output is above.")
    except BuildFailed as error:
        return fail(str(error))
    stamp.write_text(wanted)
    say(f"ready after {time.monotonic() - started_s:.0f} s")
    return 0


def fingerprint() -> str:
    """Hash of everything that decides what is installed."""
    digest = hashlib.sha256(sys.version.encode())
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def write_requirements() -> str:
    """Path of a requirements file: the project's own list, without llama-cpp-python."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = [*project["dependencies"], *extras["tune"], *extras["dev"]]
    path = VENV / "requirements.txt"
    path.write_text("\n".join(n for n in names if not n.startswith("llama-cpp-python")) + "\n")
    return str(path)


def install(*arguments: str) -> None:
    """Install with pip under the committed constraints; raises `CalledProcessError`."""
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    command += ["--disable-pip-version-check", "--constraint", str(ROOT / "constraints.txt")]
    # Compiling thousands of modules that are never imported would take a minute of two cores.
    command += ["--no-compile"]
    subprocess.run([*command, *arguments], check=True)


class BuildFailed(Exception):
    """The compile failed; the message names the log and quotes its end."""


class Build:
    """pip building the llama-cpp-python wheel in the background, with a line of progress."""

    def __init__(self) -> None:
        self._log = VENV / "llama-build.log"
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def start(self) -> None:
        """Begin, unless an earlier set-up left the wheel of the same version and flags."""
        if self._find_wheel() is not None:
            return
        shutil.rmtree(WHEELS, ignore_errors=True)
        pinned = re.search(
            r"^llama[-_]cpp[-_]python==\S+", (ROOT / "constraints.txt").read_text(), re.M | re.I
        )
        if pinned is None:
            raise BuildFailed("constraints.txt does not pin llama-cpp-python.")
        environment = dict(os.environ)
        environment["CMAKE_ARGS"] = " ".join([*CMAKE_ARGS, os.environ.get("CMAKE_ARGS", "")])
        environment["SKBUILD_BUILD_TARGETS"] = "llama"
        self._process = subprocess.Popen(
            [
                str(VENV / "bin" / "python"), "-m", "pip", "wheel", "--verbose", "--no-deps",
                "--disable-pip-version-check", "--no-binary", "llama-cpp-python",
                "--wheel-dir", str(self._wheel_dir), pinned.group(),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )  # fmt: skip
        self._thread.start()

    def finish(self) -> Path:
        """The wheel; raises `BuildFailed`."""
        if self._process is not None:
            code = self._process.wait()
            self._thread.join()
            if code != 0:
                tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
                raise BuildFailed(f"{tail}\nllama.cpp did not compile; the log is {self._log}")
        wheel = self._find_wheel()
        if wheel is None:
            raise BuildFailed(f"pip left no wheel; the log is {self._log}")
        return wheel

    def stop(self) -> None:
        """End a running build."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    @property
    def _wheel_dir(self) -> Path:
        flags = " ".join([*CMAKE_ARGS, os.environ.get("CMAKE_ARGS", "")])
        for name in ("constraints.txt", "setup/llama.cmake"):
            text = (ROOT / name).read_text()
            pins = [line for line in text.splitlines() if "llama" in line.lower()]
            flags += "\n".join(pins)
        return WHEELS / hashlib.sha256(flags.encode()).hexdigest()[:16]

    def _find_wheel(self) -> Path | None:
        return next(iter(self._wheel_dir.glob("llama_cpp_python-*.whl")), None)

    def _follow(self) -> None:
        """Copy pip's output to the log and tell the compiler's steps as they pass."""
        if self._process is None or self._process.stdout is None:
            return
        told = -1
        with self._log.open("w") as log:
            for line in self._process.stdout:
                log.write(line)
                step = _STEP.match(line.strip())
                if step is None:
                    continue
                tenth = 10 * int(step.group(1)) // int(step.group(2))
                if tenth != told:
                    told = tenth
                    say(f"compiling llama.cpp: {step.group(1)} of {step.group(2)} files")


def say(line: str) -> None:
    """Print one line of progress at once."""
    print(f"[setup] {line}", flush=True)


def fail(reason: str) -> int:
    """Print why set-up stopped; the exit code for `main`."""
    print(f"[setup] {reason}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
