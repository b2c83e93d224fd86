from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.gating import check_gate, summarize_gate
from models.imitation.errors import GateRefused, ModelUnknown
from models.quantizing import quantize
from models.registry import Registry
from tests.gguf_factory import write_tiny_gguf
from tests.models.tuning_reports import difference, write_report


@pytest.fixture(scope="module")
def ggufs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [write_tiny_gguf(folder / f"tiny-{seed}.gguf", seed=seed) for seed in range(2)]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


def test_a_tuned_model_needs_its_report(
    registry: Registry, ggufs: list[Path], tmp_path: Path
) -> None:
    entry = registry.add(ggufs[0], "mine", origin="tuned")
    with pytest.raises(GateRefused, match="mynah tune report --model mine"):
        registry.use("mine")
    assert summarize_gate(entry) == "needed"
    report = write_report(tmp_path / "report.json", entry)
    kept = registry.attach_report("mine", report)
    report.unlink()
    assert registry.use("mine").report == kept.report
    assert summarize_gate(kept) == "passed"
    assert registry.default() == registry.get("mine")
    # A newer report takes the place of the older one.
    worse = write_report(report, entry, base={"name": "b"}, difference=difference(-0.2, -0.1))
    newer = registry.attach_report("mine", worse)
    assert newer.report != kept.report
    assert [path.name for path in (registry.folder / "reports").iterdir()] == [
        newer.report.name if newer.report else ""
    ]
    assert summarize_gate(newer) == "refused"
    registry.use("bundled")
    with pytest.raises(GateRefused, match=r"fell by 0\.150 below its base b"):
        registry.rollback()
    assert registry.default() is None


@pytest.mark.parametrize(
    ("low", "high", "is_allowed"),
    [(-0.2, -0.01, False), (-0.2, 0.0, True), (-0.1, 0.1, True), (0.1, 0.2, True)],
)
def test_only_a_significant_fall_below_the_base_refuses(
    registry: Registry, ggufs: list[Path], tmp_path: Path, low: float, high: float, is_allowed: bool
) -> None:
    entry = registry.add(ggufs[0], "mine", origin="tuned", base="smol")
    path = tmp_path / "report.json"
    write_report(path, entry, base={"name": "smol"}, difference=difference(low, high))
    entry = registry.attach_report("mine", path)
    if is_allowed:
        check_gate(entry)
    else:
        with pytest.raises(GateRefused, match="200 questions"):
            check_gate(entry)


def _gate(**changes: object) -> dict[str, object]:
    gate = {"has_factuality": True, "has_style_report": True}
    return {"gate": {**gate, "grounded_em_difference": difference(0.0, 0.1), **changes}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gate": None}, "lacks `gate`"),
        (_gate(has_factuality=False), "lacks its part on factuality"),
        ({**_gate(), "factuality": {}}, "lacks its part on factuality"),
        (_gate(has_style_report=None), "style and knowledge"),
        ({**_gate(), "base": None}, "does not compare it with its base smol"),
        (_gate(grounded_em_difference=None), "does not say"),
        (_gate(grounded_em_difference=difference(0.0, float("nan"))), "does not say"),
        (_gate(grounded_em_difference=difference(0.0, 0.1, num_questions=0)), "does not say"),
        (_gate(grounded_em_difference={"mean": 0.0}), "does not say"),
    ],
)
def test_an_incomplete_report_opens_no_gate(
    registry: Registry,
    ggufs: list[Path],
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
) -> None:
    entry = registry.add(ggufs[0], "mine", origin="tuned", base="smol")
    options: dict[str, Any] = {"base": {"name": "smol"}, **changes}
    report = write_report(tmp_path / "report.json", entry, **options)
    registry.attach_report("mine", report)
    with pytest.raises(GateRefused, match=message) as caught:
        registry.use("mine")
    assert "`mynah tune report --model mine" in str(caught.value)


def test_a_report_of_another_file_is_not_attached(
    registry: Registry, ggufs: list[Path], tmp_path: Path
) -> None:
    mine = registry.add(ggufs[0], "mine", origin="tuned")
    small = tmp_path / "small.gguf"
    quantize(ggufs[0], small, "q8_0")
    registry.add(small, "small", origin="quantized", base="mine")
    path = write_report(tmp_path / "report.json", mine)
    with pytest.raises(GateRefused, match="another file"):
        registry.attach_report("small", path)
    with pytest.raises(GateRefused, match="mynah tune report --model small"):
        registry.use("small")
    write_report(path, mine, schema=2)
    with pytest.raises(GateRefused, match="schema 1"):
        registry.attach_report("mine", path)
    path.write_text("{")
    with pytest.raises(GateRefused, match="not JSON"):
        registry.attach_report("mine", path)
    path.unlink()
    with pytest.raises(GateRefused, match="cannot read the report"):
        registry.attach_report("mine", path)
    assert registry.get("mine").report is None
    with pytest.raises(ModelUnknown, match="takes no report"):
        registry.attach_report("bundled", path)
