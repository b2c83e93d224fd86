"""The README's tree is the tree on disk, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_tree_names_every_folder_and_no_other() -> None:
    named = set(re.findall(r"^(\w+)/ {2,}\S", README, flags=re.MULTILINE))
    on_disk = {
        path.name
        for path in ROOT.iterdir()
        if path.is_dir() and not path.name.startswith((".", "_"))
    }
    assert named == on_disk - {"dist", "build"}


def test_every_make_command_is_a_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, flags=re.MULTILINE))
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "bench/README.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) - {"installs"} <= targets


def test_every_page_that_a_page_names_exists() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#]+)", text):
            assert (page.parent / target).exists(), f"{page.name} names {target}"
        for target in re.findall(r"`((?:docs|models|server|bench|examples)/[\w/.-]+\.\w+)`", text):
            assert (ROOT / target).exists(), f"{page.name} names {target}"


def test_the_licence_is_apache_2() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
