from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from models.download import download_gguf
from models.errors import ModelFileInvalid
from models.imitation.errors import DownloadFailed, RegistryDamaged
from models.registry import Registry
from models.registry_entries import find_bundled
from server import cli
from server.assembly import find_model, load_services, resolve_mode
from server.commands.transfers import to_size
from server.config import load_settings
from server.errors import ModelMissing
from tests.gguf_factory import write_tiny_gguf
from tests.models.file_server import FileServer, Hosted, serve_files
from tests.models.gguf_copies import copy_with_key
from tests.models.tuning_reports import write_report

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def registry(data_dir: Path) -> Registry:
    return Registry(data_dir / "models")


@pytest.fixture
def mynah(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process; exit code, output, errors."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.run(["--data-dir", str(data_dir), *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve_files() as server:
        yield server


_RUN_APART = """
import contextlib, io, json, sys
from server import cli
for command in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        with contextlib.redirect_stderr(io.StringIO()) as err:
            code = cli.run(command)
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""


def run_apart(
    data_dir: Path, *commands: list[str], **environment: str
) -> list[tuple[int, str, str]]:
    """Commands in a process of their own: Hugging Face's settings are read once a process."""
    lines = [["--data-dir", str(data_dir), *command] for command in commands]
    done = subprocess.run(
        [sys.executable, "-c", _RUN_APART, json.dumps(lines)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_a_model_is_added_chosen_taken_back_and_removed(
    mynah: Run, tiny_gguf: Path, registry: Registry
) -> None:
    code, out, err = mynah("models", "add", tiny_gguf, "--licence", "CC BY-NC 4.0")
    sha256 = hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()
    assert (code, err) == (0, "")
    assert out == (
        f"Added tiny: 521 kB, unknown.\nSHA-256 {sha256}\nLicence: CC BY-NC 4.0 (NON-COMMERCIAL)\n"
    )
    code, out, err = mynah("models", "use", "tiny")
    assert (code, out.split(" is the default")[0]) == (0, "tiny")
    assert "forbids commercial use" in err
    table = [line.split() for line in mynah("models", "list")[1].splitlines()]
    assert table[0] == ["NAME", "SIZE", "TYPE", "ORIGIN", "LICENCE", "DEFAULT", "REPORT"]
    bundled = registry.get("bundled")
    size = to_size(bundled.size_bytes).split()
    assert table[1] == ["bundled", *size, bundled.kind, "bundled", *bundled.licences, "-"]
    assert table[2][-3:] == ["(NON-COMMERCIAL)", "*", "-"]
    assert mynah("models", "remove", "tiny")[::2] == (
        1,
        "mynah: tiny is the default; choose another first: `mynah models rollback` or"
        " `mynah models use NAME`.\n",
    )
    assert mynah("models", "rollback")[1].startswith("bundled is the default")
    assert mynah("models", "remove", "tiny")[1] == "Removed tiny: 521 kB are free again.\n"
    assert [entry.name for entry in registry.list()] == ["bundled"]


def test_every_command_speaks_json(mynah: Run, tiny_gguf: Path) -> None:
    def ask(*arguments: str | Path) -> Any:
        code, out, err = mynah("models", *arguments, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    added = ask("add", tiny_gguf, "--name", "t")
    assert (added["name"], added["origin"], added["gate"]) == ("t", "added", "-")
    assert Path(added["path"]).is_file()
    assert ask("use", "t")["is_default"] is True
    assert [(row["name"], row["is_default"]) for row in ask("list")] == [
        ("bundled", False),
        ("t", True),
    ]
    assert ask("rollback")["name"] == "bundled"
    assert ask("remove", "t")["removed"] is True
    code, out, _ = mynah("models", "quantize", tiny_gguf, "--type", "q8_0", "--json")
    assert (code, json.loads(out)["num_fallbacks"]) == (0, 0)


def test_a_model_is_quantized_by_name_or_path(mynah: Run, tiny_gguf: Path) -> None:
    mynah("models", "add", tiny_gguf, "--name", "tiny-f32", "--licence", "CC BY-NC 4.0")
    code, out, err = mynah("models", "quantize", "tiny-f32", "--type", "Q4_K_M")
    assert (code, out.splitlines()[0]) == (0, "Added tiny-q4_k_m: 113 kB, q4_k_m.")
    assert out.splitlines()[-1] == "Licence: CC BY-NC 4.0 (NON-COMMERCIAL)"
    assert "15 of 21 tensors took a larger type" in err
    # A path is recognised by its bytes, so that the licence follows.
    code, out, _ = mynah("models", "quantize", tiny_gguf, "--type", "q8_0", "--name", "small")
    assert (code, out.splitlines()[-1]) == (0, "Licence: CC BY-NC 4.0 (NON-COMMERCIAL)")
    _, _, err = mynah("models", "quantize", "small", "--type", "q6_k", "--name", "smaller")
    assert "quantized already" in err
    rows = {row["name"]: row for row in json.loads(mynah("models", "list", "--json")[1])}
    assert rows["small"]["base"] == "tiny-f32"
    assert rows["smaller"]["base"] == "small"
    assert rows["smaller"]["is_non_commercial"] is True


def test_a_tuned_model_passes_the_gate_with_its_report_only(
    mynah: Run, tiny_gguf: Path, registry: Registry, tmp_path: Path
) -> None:
    entry = registry.add(tiny_gguf, "mine", origin="tuned")
    mynah("models", "quantize", "mine", "--type", "q8_0")
    for name in ("mine", "mine-q8_0"):
        code, out, err = mynah("models", "use", name)
        assert (code, out) == (1, "")
        assert f"run `mynah tune report --model {name} ...` first" in err
        assert err.count("\n") == 1
    assert mynah("models", "list")[1].count("needed") == 2
    registry.attach_report("mine", write_report(tmp_path / "report.json", entry))
    assert mynah("models", "use", "mine")[0] == 0
    assert mynah("models", "use", "mine-q8_0")[0] == 1
    assert "passed" in mynah("models", "list")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["models"], 2, "Missing command"),
        (["models", "use", "none"], 1, "mynah models list"),
        (["models", "use", "bundle"], 1, "did you mean bundled?"),
        (["models", "rollback"], 1, "no earlier default"),
        (["models", "remove", "bundled"], 1, "cannot be removed"),
        (["models", "add", "/nonexistent.gguf"], 1, "does not exist"),
        (["models", "add", __file__], 1, "is not a GGUF file"),
        (["models", "quantize", "none", "--type", "q8_0"], 1, "no model named 'none'"),
        (["models", "quantize", "bundled", "--type", "q4"], 2, "q4_k_m"),
        (["models", "quantize", "bundled"], 2, "--type"),
        (["models", "quantize", "bundled", "--type", "f16", "--name", "a b"], 1, "cannot name"),
        (["models", "pull", "none"], 1, "OWNER/REPO"),
        (["models", "pull", "ftp://a.example/b.gguf"], 1, "no http:// or https:// address"),
        (["models", "pull", "https://a.example/b.gguf", "--sha256", "x"], 1, "64 hexadecimal"),
        (["models", "pull", "https://a.example/b.gguf", "--name", "/"], 1, "cannot name"),
    ],
)
def test_an_error_is_one_line_and_changes_nothing(
    mynah: Run, data_dir: Path, arguments: list[str], code: int, message: str
) -> None:
    result, out, err = mynah(*arguments)
    assert (result, out) == (code, "")
    assert err.startswith("mynah: ")
    assert err.count("\n") == 1
    assert message in err
    assert not list(data_dir.rglob("*.gguf"))


def test_an_address_is_pulled_resumed_and_verified(
    mynah: Run, tiny_gguf: Path, server: FileServer, registry: Registry
) -> None:
    content = tiny_gguf.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    url = f"{server.url}/Tiny%20Model.gguf?token=secret"
    hosted = server.files["/Tiny%20Model.gguf"] = Hosted(content, statuses=[404])
    assert "there is nothing at" in mynah("models", "pull", url)[2]
    hosted.cuts = [200_000]
    code, out, err = mynah("models", "pull", url, "--sha256", sha256)
    assert code == 0, err
    assert out.startswith("Added Tiny-Model: 521 kB")
    assert "Not verified" not in err
    # Cut once, then asked for the rest alone.
    assert [r is None for r in server.header("range")] == [True, True, False]
    entry = registry.verify("Tiny-Model")
    assert entry.details["source"] == f"{server.url}/Tiny%20Model.gguf"
    assert "secret" not in (registry.folder / "registry.json").read_text()
    assert list((registry.folder / "downloads").iterdir()) == []
    assert "already" in mynah("models", "pull", url)[2]
    code, out, err = mynah("models", "pull", url, "--name", "again", "--json")
    assert (code, json.loads(out)["checked_by"]) == (0, None)
    assert f"Not verified: nobody told the SHA-256. It is {sha256}" in err


def test_what_is_pulled_but_cannot_be_served_is_not_kept(
    mynah: Run, server: FileServer, registry: Registry, tmp_path: Path
) -> None:
    bare = write_tiny_gguf(tmp_path / "bare.gguf", has_template=False)
    server.files["/bare.gguf"] = Hosted(bare.read_bytes())
    code, _, err = mynah("models", "pull", f"{server.url}/bare.gguf")
    assert (code, "no chat template" in err) == (1, True)
    assert not [path for path in registry.folder.rglob("*") if path.suffix in (".part", ".gguf")]


def test_a_repo_of_the_hub_is_pulled_from_the_endpoint_that_is_set(
    data_dir: Path, tiny_gguf: Path, server: FileServer, registry: Registry
) -> None:
    content = tiny_gguf.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    card = {
        "siblings": [{"rfilename": name} for name in ("README.md", "q8/tiny q8.gguf")],
        "cardData": {"license": "other", "license_name": "cc-by-nc-4.0"},
    }
    server.files["/api/models/org/tiny"] = Hosted(json.dumps(card).encode())
    server.files["/org/tiny/resolve/main/q8/tiny%20q8.gguf"] = Hosted(
        redirect="/cdn/blob", linked_etag=f'"{sha256}"'
    )
    server.files["/cdn/blob"] = Hosted(content)
    two = {"siblings": [{"rfilename": "a.gguf"}, {"rfilename": "b.gguf"}]}
    server.files["/api/models/org/two"] = Hosted(json.dumps(two).encode())
    server.files["/api/models/org/bare"] = Hosted(b'{"siblings": []}')
    repos = ("org/tiny", "org/tiny:x.gguf", "org/two", "org/bare", "org/none")
    pulled, *refused = run_apart(
        data_dir,
        *(["models", "pull", repo] for repo in repos),
        HF_ENDPOINT=server.url,
        HF_TOKEN="hf_secret",
        HF_HUB_OFFLINE="1",
    )
    assert (pulled[0], pulled[2]) == (0, "")
    assert pulled[1].splitlines()[0] == "Added tiny-q8: 521 kB, unknown."
    assert pulled[1].splitlines()[-1] == "Licence: cc-by-nc-4.0 (NON-COMMERCIAL)"
    assert set(server.header("authorization")) == {"Bearer hf_secret"}
    entry = registry.get("tiny-q8")
    assert entry.details == {"source": "org/tiny:q8/tiny q8.gguf", "checked_by": "server"}
    for (code, out, err), message in zip(
        refused,
        (
            "org/tiny has no file x.gguf; it has q8/tiny q8.gguf.",
            "org/two has 2 GGUF files; name one as org/two:FILE: a.gguf, b.gguf.",
            "org/bare has no GGUF file",
            "there is nothing at",
        ),
        strict=True,
    ):
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert message in err


def test_unfinished_downloads_are_listed(
    mynah: Run, tiny_gguf: Path, server: FileServer, registry: Registry
) -> None:
    server.files["/m.gguf"] = Hosted(tiny_gguf.read_bytes(), cuts=[9000])
    with pytest.raises(DownloadFailed):
        download_gguf(f"{server.url}/m.gguf", registry.folder / "downloads", num_retries=0)
    code, out, err = mynah("models", "list")
    assert (code, out.count("\n")) == (0, 2)
    assert f"of {server.url}/m.gguf; pull it again to go on." in err


def test_the_setting_goes_before_the_registry_before_the_bundled_model(
    data_dir: Path,
    registry: Registry,
    tiny_gguf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    def settings(**options: Any) -> Any:
        return load_settings(environment={}, data_dir=data_dir, **options)

    assert find_model(settings()) == find_bundled()
    assert resolve_mode(settings()) == "quote"
    entry = registry.add(tiny_gguf, "tiny", origin="added")
    registry.use("tiny")
    assert find_model(settings()) == entry.path
    assert resolve_mode(settings()) == "answer"
    assert find_model(settings(model="bundled")) == find_bundled()
    trained = copy_with_key(tiny_gguf, tmp_path / "trained.gguf", "mynah.passages", "excerpts")
    registry.add(trained, "trained", origin="added")
    assert find_model(settings(model="trained")) == registry.get("trained").path
    assert resolve_mode(settings(model="trained")) == "quote"
    assert resolve_mode(settings(model="trained", grounding_mode="off")) == "off"
    # A file of that name goes before the registered model.
    shutil.copy(tiny_gguf, tmp_path / "trained")
    assert find_model(settings(model="trained")) == tmp_path / "trained"
    with pytest.raises(ModelMissing, match=r"no model file traind here.*did you mean trained"):
        find_model(settings(model="traind"))
    with pytest.raises(ModelMissing, match="there is no model file"):
        find_model(settings(model="./none.gguf"))
    entry.path.write_bytes(b"GGUF")
    with pytest.raises(RegistryDamaged, match="has 4 bytes"):
        find_model(settings())
    with pytest.raises(ModelFileInvalid, match=r"is a folder|cannot read"):
        find_model(settings(model=str(tmp_path)))


def test_the_default_model_is_the_one_that_answers(
    data_dir: Path, registry: Registry, tiny_gguf: Path
) -> None:
    registry.add(tiny_gguf, "tiny", origin="added")
    registry.use("tiny")
    settings = load_settings(environment={}, data_dir=data_dir, num_threads=1)
    services = load_services(settings, is_warm=False)
    try:
        assert services.engine.info.num_vocab == 417
    finally:
        services.close()


def test_ctrl_c_ends_a_quantization_and_the_next_command_tidies_up(
    data_dir: Path, registry: Registry, tiny_gguf: Path
) -> None:
    registry.add(tiny_gguf, "tiny", origin="added")
    command = [sys.executable, "-m", "server.cli", "--data-dir", str(data_dir)]
    bundled = [*command, "models", "quantize", "bundled", "--type", "iq3_xxs"]
    process = subprocess.Popen(bundled, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline_s = time.monotonic() + 60
    while not list(registry.folder.glob(".work-*/*.part")) and time.monotonic() < deadline_s:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    assert process.wait() == -signal.SIGINT
    assert list(registry.folder.glob(".work-*"))
    registry.use("tiny")
    assert not list(registry.folder.glob(".work-*"))
    assert [entry.name for entry in registry.list()] == ["bundled", "tiny"]
