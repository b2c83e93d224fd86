from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ModelFileInvalid
from models.gguf import read_header
from models.imitation.errors import ModelUnknown, RegistryDamaged
from models.quantizing import quantize
from models.registry import Registry
from models.registry_entries import (
    Change,
    State,
    check_name,
    find_bundled,
    is_non_commercial,
    to_name,
    to_quantized_name,
)
from models.registry_folder import hash_file
from tests.gguf_factory import write_tiny_gguf
from tests.models.gguf_copies import copy_with_key
from tests.models.tuning_reports import write_report

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ggufs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [write_tiny_gguf(folder / f"tiny-{seed}.gguf", seed=seed) for seed in range(3)]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


def test_what_is_added_is_there_with_what_it_is(registry: Registry, ggufs: list[Path]) -> None:
    entry = registry.add(
        ggufs[0],
        "smol",
        origin="tuned",
        base="HuggingFaceTB/SmolLM2-135M",
        data_sha256="1" * 64,
        licences=("Apache-2.0", "apache-2.0 "),
        details={"perplexity": {"q8_0": 7.5}},
    )
    assert Registry(registry.folder).get("smol") == entry
    assert entry.path.read_bytes() == ggufs[0].read_bytes()
    assert entry.sha256 == hash_file(ggufs[0])
    assert entry.licences == ("Apache-2.0",)
    assert (entry.base, entry.data_sha256) == ("HuggingFaceTB/SmolLM2-135M", "1" * 64)
    assert entry.details == {"perplexity": {"q8_0": 7.5}}
    assert not entry.is_non_commercial
    assert registry.verify("smol") == entry
    for path, mode in ((registry.folder, 0o700), (entry.path, 0o600)):
        assert path.stat().st_mode & 0o777 == mode


def test_the_template_is_hashed_where_its_hash_is_not_given(
    registry: Registry, ggufs: list[Path], tmp_path: Path
) -> None:
    first = registry.add(ggufs[0], "a", origin="added")
    same = registry.add(ggufs[1], "b", origin="added")
    chatml = write_tiny_gguf(tmp_path / "c.gguf", chat="chatml")
    assert first.template_sha256 == same.template_sha256
    assert registry.add(chatml, "c", origin="added").template_sha256 != first.template_sha256
    given_ = registry.add(ggufs[2], "d", origin="added", template_sha256="2" * 64)
    assert given_.template_sha256 == "2" * 64


def test_the_bundled_model_is_listed_first_and_stays(registry: Registry) -> None:
    (bundled,) = registry.list()
    assert (bundled.name, bundled.origin, bundled.path) == ("bundled", "bundled", find_bundled())
    assert registry.default() is None
    assert not registry.folder.exists()
    with pytest.raises(ModelUnknown, match="cannot be removed"):
        registry.remove("bundled")
    assert registry.use("bundled") == bundled


def test_names_are_checked_and_taken_once(registry: Registry, ggufs: list[Path]) -> None:
    registry.add(ggufs[0], "smol", origin="added")
    for name, message in (
        ("bundled", "comes with Mynah"),
        ("../x", "cannot name a model"),
        ("", "cannot name a model"),
        ("smol", "already"),
    ):
        with pytest.raises(ModelUnknown, match=message):
            registry.add(ggufs[1], name, origin="added")
    with pytest.raises(ModelUnknown, match=r"did you mean smol\?"):
        registry.get("smoll")
    with pytest.raises(ModelUnknown, match="mynah models list"):
        registry.use("other")
    assert len(list(registry.folder.glob("*.gguf"))) == 1


@pytest.mark.parametrize(
    ("text", "name"),
    [("Smol 135M (Q8).gguf", "Smol-135M-Q8"), ("..gguf", "model"), ("ü" * 9, "model")],
)
def test_a_file_gives_a_name(text: str, name: str) -> None:
    assert to_name(text) == name


@settings(deadline=None)
@given(st.text(max_size=90), st.sampled_from(["q4_k_m", "f16"]))
def test_a_derived_name_is_always_valid(text: str, kind: str) -> None:
    check_name("x" + to_name(text)[:60])
    check_name(to_quantized_name(text, kind))
    assert to_quantized_name(to_quantized_name(text, "q8_0"), kind) == to_quantized_name(text, kind)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"has_template": False}, "no chat template"), ({"vocabulary": "none"}, "no vocabulary")],
)
def test_what_cannot_be_served_is_not_added(
    registry: Registry, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    file = write_tiny_gguf(tmp_path / "odd.gguf", **options)
    with pytest.raises(ModelFileInvalid, match=message):
        registry.add(file, "odd", origin="added")
    with pytest.raises(ModelFileInvalid, match="does not exist"):
        registry.add(tmp_path / "none.gguf", "odd", origin="added")
    assert not registry.folder.exists()


@pytest.mark.parametrize(
    ("licence", "forbids"),
    [
        ("CC BY-NC 4.0", True),
        ("cc-by-nc-sa-3.0", True),
        ("PolyForm Noncommercial 1.0", True),
        ("LLaMA (non-commercial)", True),
        ("for research only", True),
        ("Apache-2.0", False),
        ("CC BY-SA 4.0", False),
        ("NCSA", False),
        ("MIT, Francis", False),
    ],
)
def test_a_licence_tells_whether_it_is_non_commercial(licence: str, forbids: bool) -> None:
    assert is_non_commercial([licence]) == forbids


def test_a_non_commercial_licence_is_inherited_to_the_last(
    registry: Registry, ggufs: list[Path], tmp_path: Path
) -> None:
    base = registry.add(ggufs[0], "base", origin="added", licences=["CC BY-NC 4.0"])
    tuned = registry.add(ggufs[1], "tuned", origin="tuned", base="base", licences=["MIT"])
    small = tmp_path / "small.gguf"
    quantize(ggufs[1], small, "q4_k_m")
    quantized = registry.add(small, "small", origin="quantized", base="tuned")
    assert quantized.licences == tuned.licences == ("MIT", "CC BY-NC 4.0")
    assert base.is_non_commercial
    assert tuned.is_non_commercial
    assert quantized.is_non_commercial
    assert (quantized.kind, quantized.is_tuned) == ("q4_k_m", True)
    # The same bytes by another door.
    twin = registry.add(small, "twin", origin="added")
    assert twin.is_non_commercial
    assert twin.is_tuned


def test_the_default_goes_back_one_step_at_a_time(registry: Registry, ggufs: list[Path]) -> None:
    for name, file in zip("abc", ggufs, strict=True):
        registry.add(file, name, origin="added")
        registry.use(name)
    registry.use("c")  # is the default already: no step to go back
    with pytest.raises(ModelUnknown, match="is the default"):
        registry.remove("c")
    assert registry.rollback().name == "b"
    registry.use("a")
    registry.remove("b")
    assert registry.rollback().name == "a"  # over the one that was removed
    assert registry.rollback().name == "bundled"
    assert registry.default() is None
    with pytest.raises(ModelUnknown, match="no earlier default"):
        registry.rollback()
    history = json.loads((registry.folder / "registry.json").read_text())["history"]
    assert [c["action"] for c in history] == ["use"] * 3 + ["rollback", "use"] + ["rollback"] * 2


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["a", "b", "bundled", None]), max_size=30))
def test_rolling_back_undoes_the_last_use(steps: list[str | None]) -> None:
    state, stack = State(), ["bundled"]
    for step in steps:
        if step is not None:
            stack.append(step)
            change = Change(step, "use", 0)
        elif len(stack) > 1:
            stack.pop()
            change = Change(stack[-1], "rollback", 0)
        else:
            continue
        state = State(history=(*state.history, change))
        assert state.defaults()[-1] == stack[-1]


def test_a_changed_file_does_not_become_the_default(registry: Registry, ggufs: list[Path]) -> None:
    entry = registry.add(ggufs[0], "a", origin="added")
    stat = entry.path.stat()
    content = bytearray(entry.path.read_bytes())
    content[-1] ^= 1
    entry.path.write_bytes(content)
    os.utime(entry.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    registry.check_file(entry)  # the same size and time: only the hash tells
    for find_out in (registry.use, registry.verify):
        with pytest.raises(RegistryDamaged, match="has the SHA-256"):
            find_out("a")
    assert registry.default() is None


def test_a_file_is_checked_by_its_size_and_time_and_in_doubt_by_its_hash(
    registry: Registry, ggufs: list[Path]
) -> None:
    entry = registry.add(ggufs[0], "a", origin="added")
    os.utime(entry.path, ns=(1, 1))
    registry.check_file(entry)  # restored from a backup, say
    assert registry.use("a").mtime_ns == 1
    content = bytearray(entry.path.read_bytes())
    content[-1] ^= 1
    entry.path.write_bytes(content)
    with pytest.raises(RegistryDamaged, match="has the SHA-256"):
        registry.check_file(entry)
    entry.path.write_bytes(content[:-1])
    with pytest.raises(RegistryDamaged, match=r"has \d+ bytes, not \d+"):
        registry.check_file(entry)
    entry.path.unlink()
    with pytest.raises(RegistryDamaged, match="cannot be read"):
        registry.check_file(entry)


def test_a_removed_model_leaves_no_file(
    registry: Registry, ggufs: list[Path], tmp_path: Path
) -> None:
    entry = registry.add(ggufs[0], "a", origin="tuned")
    registry.attach_report("a", write_report(tmp_path / "report.json", entry))
    registry.remove("a")
    left = {path.name for path in registry.folder.rglob("*") if path.is_file()}
    assert left == {"registry.json", "registry.lock"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"version": 1}',
        '{"version": 99, "entries": [], "history": [], "leftovers": []}',
        '{"version": 1, "entries": [{"name": "a"}], "history": [], "leftovers": []}',
        '{"version": 1, "entries": [], "leftovers": ["../../keys.json"], "history": []}',
        '{"version": 1, "entries": [], "leftovers": [], "history": [{"name": "a",'
        ' "action": "rollback", "time_s": 1}]}',
    ],
)
def test_a_damaged_registry_is_named_and_left_alone(registry: Registry, content: str) -> None:
    registry.folder.mkdir()
    path = registry.folder / "registry.json"
    path.write_text(content)
    for find_out in (registry.list, registry.default, registry.rollback):
        with pytest.raises(RegistryDamaged, match=r"registry\.json"):
            find_out()
    assert path.read_text() == content


def test_a_default_that_is_gone_is_told(registry: Registry, ggufs: list[Path]) -> None:
    registry.add(ggufs[0], "a", origin="added")
    registry.use("a")
    path = registry.folder / "registry.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "entries": []}))
    with pytest.raises(RegistryDamaged, match="mynah models use NAME"):
        registry.default()
    registry.use("bundled")
    assert registry.default() is None


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, ggufs: list[Path]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryDamaged, match=r"cannot read .*registry\.json"):
        Registry(tmp_path / "file" / "models").add(ggufs[0], "a", origin="added")


def test_a_part_of_a_split_model_is_refused(registry: Registry, tmp_path: Path) -> None:
    whole = write_tiny_gguf(tmp_path / "whole.gguf")
    part = copy_with_key(whole, tmp_path / "part.gguf", "split.count", 3)
    assert read_header(part).metadata["split.count"] == 3
    with pytest.raises(ModelUnknown, match="one part of a model in 3"):
        registry.add(part, "part", origin="added")


_ADD_FIVE = """
import sys
from pathlib import Path
from models.registry import Registry
for i in range(5):
    Registry(Path(sys.argv[1])).add(Path(sys.argv[2]), f"{sys.argv[3]}{i}", origin="added")
"""


def test_processes_that_add_at_once_lose_nothing(registry: Registry, ggufs: list[Path]) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", _ADD_FIVE, registry.folder, ggufs[0], name])
        for name in "xyz"
    ]
    assert [process.wait() for process in running] == [0, 0, 0]
    names = {entry.name for entry in registry.list()[1:]}
    assert names == {f"{name}{i}" for name in "xyz" for i in range(5)}
    assert not list(registry.folder.glob(".*"))


def run_killed(tmp_path: Path, ggufs: list[Path], stride: int) -> int:
    command = [sys.executable, "-m", "tests.models.killed_registry", str(tmp_path / "models")]
    done = subprocess.run(
        [*command, str(stride), *map(str, ggufs[:2])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_killed_command_leaves_the_state_before_or_after_it(
    tmp_path: Path, ggufs: list[Path]
) -> None:
    assert run_killed(tmp_path, ggufs, stride=19) > 3


@pytest.mark.slow
def test_no_moment_of_being_killed_damages_the_registry(tmp_path: Path, ggufs: list[Path]) -> None:
    assert run_killed(tmp_path, ggufs, stride=2) > 30


@settings(max_examples=15, deadline=None)
@given(
    licences=st.lists(st.text(max_size=20), max_size=3),
    details=st.dictionaries(st.text(max_size=9), st.integers() | st.text(max_size=9), max_size=3),
)
def test_an_entry_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory,
    ggufs: list[Path],
    licences: list[str],
    details: dict[str, object],
) -> None:
    registry = Registry(tmp_path_factory.mktemp("registry") / "models")
    entry = registry.add(ggufs[0], "a", origin="added", licences=licences, details=details)
    assert Registry(registry.folder).get("a") == entry
