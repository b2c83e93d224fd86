"""Start of the command line: `mynah --help` beside the bare interpreter and the import of Typer.

`python -m bench.startup [--repeats 10]`
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import typer": ["-c", "import typer"],
    "mynah --help": ["-m", "server.cli", "--help"],
}


def measure(arguments: list[str], folder: str) -> tuple[float, float]:
    """Wall and processor time of one process, in seconds; byte code is kept in `folder`."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], cwd=_ROOT, env=environment, check=True, capture_output=True
    )
    wall_s, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Print a table: median of each command, and the ratio to the bare interpreter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for arguments in _COMMANDS.values():  # The first start compiles.
            measure(arguments, folder)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in _COMMANDS}
        for _ in range(options.repeats):
            for name, arguments in _COMMANDS.items():
                times[name].append(measure(arguments, folder))
    bare_s = statistics.median(cpu_s for _, cpu_s in times["python -c pass"])
    print(f"{'':<16}{'wall ms':>9}{'cpu ms':>9}{'ratio':>7}")
    for name, pairs in times.items():
        wall_s, cpu_s = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{name:<16}{wall_s * 1000:>9.0f}{cpu_s * 1000:>9.0f}{cpu_s / bare_s:>7.1f}")


if __name__ == "__main__":
    main()
