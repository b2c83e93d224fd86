"""The bundled model and its reader from their data, in one command that can be run again.

`python -m models.imitation.recipe --data DATA --guard FILE... --out FOLDER`
"""

# ruff: noqa: T201 - a command line program prints.

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

# As many as the shipped file was trained for, in two runs over other tasks: 3,300 steps and 2,000
# on from there (runs 6 and 8 of models/imitation/LOG.md). Here it is one run over all of them.
STEPS = 5300
EPOCHS = 3
KIND = "q8_0"
FILE_NAME = "mynah.gguf"
READER_NAME = "mynah-reader.safetensors"


def main() -> int:
    """Run every step whose result is missing; the exit code of the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with qa/ and corpus/")
    parser.add_argument("--guard", type=Path, nargs="*", default=[], help="files never to train on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = options.out / "tokenizer.json"
    data = options.out / "data"
    target = options.out / FILE_NAME
    training = {"rows": data / "rows", "tokenizer": tokenizer, "out": options.out / "run"}
    steps: tuple[tuple[str, Path | None, dict[str, object]], ...] = (
        (
            "tokenizer",
            tokenizer,
            {
                "corpus": options.data / "corpus/shard-00.jsonl.xz",
                "qa": options.data / "qa/qa-00.jsonl.xz",
                "out": tokenizer,
            },
        ),
        (
            "dataset",
            data / "rows" / "kinds.npy",
            {"data": options.data, "tokenizer": tokenizer, "out": data, "epochs": options.epochs}
            | ({"guard": options.guard} if options.guard else {}),
        ),
        ("training", None, training | {"steps": options.steps}),  # resumes by itself
        (
            "reading",
            options.out / READER_NAME,
            {"ranked": data / "ranked.pkl", "out": options.out},
        ),
        (
            "export",
            None,
            {
                "checkpoint": options.out / "run" / "last.pt",
                "tokenizer": tokenizer,
                "type": KIND,
                "out": target,
            },
        ),
    )
    for name, result, arguments in steps:
        if result is not None and result.exists():
            print(f"{name}: {result} is there", flush=True)
            continue
        print(f"{name} ...", flush=True)
        command = [sys.executable, "-m", f"models.imitation.{name}"]
        for option, value in arguments.items():
            values = value if isinstance(value, list) else [value]
            command += [f"--{option}", *map(str, values)]
        code = subprocess.run(command, check=False).returncode  # noqa: S603 - our own modules
        if code != 0:
            print(f"{name} ended with {code}; run the same command again to go on.", flush=True)
            return code
    print(f"{target}\n{options.out / READER_NAME}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
