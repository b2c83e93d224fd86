"""The main job as `make demo` runs it, with every address but loopback refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run_offline(command: list[str], refusals: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "tests" / "offline"),
        "REFUSALS_FILE": str(refusals),
    }
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def test_the_guard_refuses_what_is_not_loopback(tmp_path: Path) -> None:
    refusals = tmp_path / "refusals"
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    done = run_offline([sys.executable, "-c", code], refusals)
    assert done.returncode != 0
    assert "192.0.2.1" in refusals.read_text()


@pytest.mark.slow
def test_the_demo_answers_from_the_handbook_without_a_network(tmp_path: Path) -> None:
    refusals = tmp_path / "refusals"
    done = run_offline([sys.executable, str(ROOT / "examples" / "demo.py")], refusals)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not refusals.exists(), refusals.read_text()
    pdf, two_documents, refused = re.split(r"^Q: ", done.stdout, flags=re.MULTILINE)[1:]
    assert "leave-and-absence.pdf, page 4" in pdf
    assert "seven weeks of leave at full pay" in pdf
    assert "device-and-account-security.md" in two_documents
    assert "expenses-and-travel.docx" in two_documents
    assert "abstained" in refused
    assert "server stopped with exit code 0" in done.stdout
