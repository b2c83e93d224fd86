"""`mynah tune train` and `mynah tune export` as people run them, on tiny data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from models.engine import open_engine
from models.imitation.errors import GateRefused
from models.imitation.tuning.libraries import prepare_libraries
from models.imitation.tuning.masking import to_dialogue
from models.protocols import SamplingSettings
from models.registry import Registry
from tests.models.imitation.tuning.checkpoints import write_checkpoint
from tests.server.tune.tiny_runs import COMMON, CONVERSATIONS, SCRATCH, mynah, write_data

prepare_libraries("torch", "transformers", "peft")

ROOT = Path(__file__).parents[3]
NUM_STEPS = 80


@dataclass(frozen=True)
class Trained:
    """A run by the command, what it printed, and the data directory."""

    data_dir: Path
    data: Path
    run: Path
    arguments: tuple[object, ...]
    out: str
    err: str

    def losses(self) -> list[dict[str, float]]:
        return [json.loads(line) for line in (self.run / "loss.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-llama"
    return write_checkpoint(folder, "llama", "smollm", "chatml", scale=1.0)


def train(folder: Path, *options: object) -> Trained:
    data, run = write_data(folder), folder / "run"
    arguments = ("tune", "train", data, "--out", run, *options)
    code, out, err = mynah(folder / "data", *arguments)
    assert code == 0, err
    return Trained(folder / "data", data, run, arguments, out, err)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model that learnt eight answers by heart, exported and registered."""
    folder = tmp_path_factory.mktemp("scratch")
    return train(folder, *SCRATCH, "--max-steps", NUM_STEPS, "--no-packing")


@pytest.fixture(scope="module")
def exported(scratch: Trained) -> tuple[int, str, str]:
    return mynah(
        scratch.data_dir, "tune", "export", scratch.run, "--name", "parrot",
        "--type", "q8_0", "--type", "Q4_K_M", "--threads", "1",
    )  # fmt: skip


def test_a_model_from_scratch_learns_and_leaves_its_curve(scratch: Trained) -> None:
    points = scratch.losses()
    assert [point["step"] for point in points] == list(range(1, NUM_STEPS + 1))
    assert points[-1]["loss"] < 0.1 < 3 < points[0]["loss"]
    assert (scratch.run / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert scratch.out.splitlines() == [
        f"Trained {NUM_STEPS} steps: loss {points[-1]['loss']:.4f}.",
        f"Next: mynah tune export {scratch.run} --name NAME --type q8_0",
    ]
    lines = scratch.err.splitlines()
    assert lines[0].startswith("8 conversations, 8 answers in 8 rows; ")
    assert f"on cpu in fp32, {NUM_STEPS} steps" in lines[0]
    assert lines[-1].startswith(f"step {NUM_STEPS}/{NUM_STEPS}  loss ")
    assert {"model", "run.json", "samples.jsonl"} <= {path.name for path in scratch.run.iterdir()}
    assert (scratch.run / "model" / "chat_template.jinja").is_file()


def test_the_same_command_again_trains_nothing(scratch: Trained) -> None:
    weights = scratch.run / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    code, out, err = mynah(scratch.data_dir, *scratch.arguments)
    assert (code, out, err) == (0, scratch.out, "")
    assert weights.stat().st_mtime_ns == before
    code, out, _ = mynah(scratch.data_dir, *scratch.arguments, "--json")
    assert json.loads(out) == json.loads((scratch.run / "run.json").read_text())
    code, _, err = mynah(scratch.data_dir, *scratch.arguments, "--seed", 5)
    assert (code, err.count("\n")) == (1, 1)
    # Another seed is another new model too.
    assert "holds a run with another base and settings" in err


def test_the_export_tells_what_it_measured(
    exported: tuple[int, str, str], scratch: Trained
) -> None:
    code, out, err = exported
    assert code == 0, err
    steps = ["merging", "converting to f16", "comparing with the checkpoint", "measuring f16"]
    assert err.splitlines()[:4] == [f"{step} ..." for step in steps]
    lines = out.splitlines()
    assert lines[0].startswith("Equal to the checkpoint: 1000 of 1000 strings, ")
    assert lines[1].split() == [
        "TYPE", "BYTES", "PERPLEXITY", "AGAINST", "F16", "REGISTERED", "FILE"
    ]  # fmt: skip
    rows = [line.split() for line in lines[2:4]]
    assert [(row[0], *row[-2:]) for row in rows] == [
        ("q8_0", "parrot-q8_0", "parrot-q8_0.gguf"),
        ("q4_k_m", "parrot-q4_k_m", "parrot-q4_k_m.gguf"),
    ]
    for row in rows:
        assert 1.0 < float(row[2]) < 2.0
        assert row[3][0] in "+-"
        assert row[3][-1] == "%"
    assert lines[-2] == "Non-commercial: CC-BY-NC-4.0."
    assert lines[-1] == f"Files and card: {scratch.run / 'export'}"
    assert (scratch.run / "export" / "README.md").read_text().count("parrot-q8_0.gguf") == 1


def test_the_list_of_models_shows_them_with_their_flag(
    exported: tuple[int, str, str], scratch: Trained
) -> None:
    code, out, _ = mynah(scratch.data_dir, "models", "list")
    assert code == 0
    found = {line.split()[0]: line for line in out.splitlines()}
    for kind in ("q8_0", "q4_k_m"):
        line = found[f"parrot-{kind}"]
        assert f" {kind} " in line
        assert " tuned " in line
        assert "(NON-COMMERCIAL)" in line
        assert line.endswith("needed")
    with pytest.raises(GateRefused, match="without a report"):
        Registry(scratch.data_dir / "models").use("parrot-q8_0")


@pytest.mark.parametrize("kind", ["q8_0", "q4_k_m"])
def test_the_registered_file_answers_through_the_engine(
    exported: tuple[int, str, str], scratch: Trained, kind: str
) -> None:
    entry = Registry(scratch.data_dir / "models").verify(f"parrot-{kind}")
    engine = open_engine(entry.path, num_slots=1, num_threads=1)
    num_equal = 0
    try:
        for conversation in CONVERSATIONS:
            question, answer = (dialogue := to_dialogue(conversation)).messages
            prompt = engine.prepare([question], dialogue.documents)
            deltas = list(engine.generate(prompt, SamplingSettings(max_tokens=60)))
            assert deltas[-1].finish_reason == "stop"
            num_equal += "".join(delta.text for delta in deltas) == answer.content
    finally:
        engine.close()
    assert num_equal >= (len(CONVERSATIONS) if kind == "q8_0" else len(CONVERSATIONS) - 2)


def test_a_checkpoint_is_tuned_with_adapters_and_keeps_its_name(base: Path, tmp_path: Path) -> None:
    tuned = train(tmp_path, "--base", base, *COMMON, "--lr", "1e-2", "--max-steps", 12)
    points = tuned.losses()
    assert points[-1]["loss"] < points[0]["loss"]
    assert (tuned.run / "model" / "adapter_model.safetensors").is_file()
    code, out, err = mynah(
        tuned.data_dir, "tune", "export", tuned.run, "--name", "adapted", "--type", "q8_0",
        "--type", "q4_k_m", "--json",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads(out)
    assert [row["entry"] for row in report["files"]] == ["adapted-q8_0", "adapted-q4_k_m"]
    assert (report["licences"], report["is_non_commercial"]) == (["CC-BY-NC-4.0"], True)
    rows = json.loads(mynah(tuned.data_dir, "models", "list", "--json")[1])
    (entry,) = (row for row in rows if row["name"] == "adapted-q8_0")
    assert (entry["base"], entry["origin"], entry["gate"]) == ("tiny-llama", "tuned", "needed")
    assert entry["sha256"] == report["files"][0]["sha256"]
    # Once more under this name: refused before anything is computed.
    code, _, err = mynah(tuned.data_dir, "tune", "export", tuned.run, "--name", "adapted")
    assert (code, err.count("\n")) == (1, 1)
    assert "mynah models remove adapted-q8_0" in err
    code, out, _ = mynah(
        tuned.data_dir, "tune", "export", tuned.run, "--name", "loose", "--no-register",
        "--out", tmp_path / "loose",
    )  # fmt: skip
    assert code == 0
    assert out.splitlines()[2].split()[-2:] == ["-", "loose-q8_0.gguf"]
    assert (tmp_path / "loose" / "loose-q8_0.gguf").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("start", ["scratch", "lora"])
def test_a_run_that_is_interrupted_goes_on_to_the_same_losses(
    start: str, base: Path, tmp_path: Path
) -> None:
    chosen = SCRATCH if start == "scratch" else ("--base", str(base), *COMMON)
    num_steps = 60 if start == "scratch" else 20
    options = (*chosen, "--max-steps", num_steps)
    through = train(tmp_path, *options, "--json")
    run = tmp_path / "stopped"
    arguments = ["tune", "train", through.data, "--out", run, *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "server.cli", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    curve = run / "loss.jsonl"
    while process.poll() is None and not (curve.is_file() and curve.read_text().count("\n") >= 5):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    step = len(curve.read_text().splitlines())
    assert err.splitlines()[-1] == (
        f"mynah: stopped at step {step} of {num_steps}; the same command goes on"
    )
    assert 5 <= step < num_steps
    assert (run / "loss.png").is_file()
    code, _, err = mynah(tmp_path / "data", "tune", "export", run, "--name", "early")
    assert code == 1
    assert "is not finished" in err
    code, _, err = mynah(tmp_path / "data", *arguments)
    assert code == 0, err
    assert f"going on at step {step}" in err
    found = [json.loads(line)["loss"] for line in curve.read_text().splitlines()]
    assert found == [point["loss"] for point in through.losses()]
    name = "model.safetensors" if start == "scratch" else "adapter_model.safetensors"
    one, other = (folder / "model" / name for folder in (run, through.run))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("good.jsonl",), 2, "either --base DIR or --from-scratch"),
        (("good.jsonl", "--base", ".", "--from-scratch"), 2, "either --base DIR or"),
        (("good.jsonl", "--from-scratch", "--method", "lora"), 2, "leave --method lora out"),
        (("good.jsonl", "--base", "none"), 1, "none is no Hugging Face checkpoint"),
        (("good.jsonl", "--base", "broken"), 1, "config.json is no JSON"),
        (("none.jsonl", "--from-scratch"), 1, "none.jsonl cannot be read"),
        (("bad.jsonl", "--from-scratch"), 1, "bad.jsonl, line 2"),
        (("odd.jsonl", "--from-scratch"), 1, "odd.jsonl, line 1: not a message: role 'parrot'"),
        (("empty.jsonl", "--from-scratch"), 1, "no conversation can be trained on"),
        (("good.jsonl", "--from-scratch", "--lr", "99"), 1, "lr is 99; it must be from"),
        (("good.jsonl", "--from-scratch", "--heads", "5"), 1, "--width or --heads"),
        (("good.jsonl", "--from-scratch", "--vocab", "20"), 1, "20 is too small"),
        (("good.jsonl", "--from-scratch", "--template", "none"), 1, "none"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path).rename("good.jsonl")
    good = Path("good.jsonl").read_text().splitlines()[0]
    Path("bad.jsonl").write_text(f"{good}\n{{\n")
    Path("odd.jsonl").write_text(good.replace('"assistant"', '"parrot"') + "\n")
    Path("empty.jsonl").write_text("\n")
    Path("broken").mkdir()
    Path("broken/config.json").write_text("{")
    found, out, err = mynah(tmp_path / "data", "tune", "train", *options, "--out", "run")
    assert (found, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1
    assert err.startswith("mynah: ")


def test_another_family_is_warned_of_and_refused_by_the_export(tmp_path: Path) -> None:
    neox = write_checkpoint(tmp_path / "neox", "gpt_neox", "gpt2", "chatml", scale=1.0)
    run = train(tmp_path, "--base", neox, "--method", "full", *COMMON, "--max-steps", 1)
    assert run.err.startswith("mynah: it can be trained, but not exported: ")
    code, out, err = mynah(run.data_dir, "tune", "export", run.run, "--name", "neox")
    assert (code, out) == (1, "")
    assert err.splitlines()[0] == "merging ..."
    assert len(err.splitlines()) == 2
    assert "'gpt_neox'" in err
    assert "convert_hf_to_gguf.py" in err
    assert not (run.data_dir / "models").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("none", "--name", "a"), "holds no run"),
        (("none", "--name", "a b"), "cannot name a model"),
        (("none", "--name", "bundled"), "take another name"),
        (("none", "--name", "a", "--type", "q3"), "there is no type 'q3'; use some of"),
    ],
)
def test_an_export_that_cannot_be_says_so(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    code, out, err = mynah(tmp_path / "data", "tune", "export", *options)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert said in err
    assert list(tmp_path.iterdir()) == []
