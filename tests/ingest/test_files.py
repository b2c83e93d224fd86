from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from ingest.errors import FileChanged, FileEmpty, FileMissing, FileUnreadable, FormatUnsupported
from ingest.files import find_files, read_file


def paths(*given: Path) -> list[str]:
    return [file.path for file in find_files(given)]


def test_files_come_in_a_stable_order_without_hidden_and_unknown_ones(tmp_path: Path) -> None:
    for name in ("b.md", "a/z.txt", "a/b/c.html", ".hidden.md", ".git/x.md", "d.png", "Z.MD"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert paths(tmp_path) == ["Z.MD", "a/b/c.html", "a/z.txt", "b.md"]


def test_a_file_named_itself_is_taken_whatever_it_is(tmp_path: Path) -> None:
    (tmp_path / "NOTES").write_text("x")
    assert paths(tmp_path / "NOTES") == ["NOTES"]


def test_folders_given_twice_or_inside_each_other_give_each_file_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.md").write_text("x")
    assert paths(tmp_path, tmp_path / "a", tmp_path) == ["a/x.md"]


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    (tmp_path / "docs" / "sub").mkdir(parents=True)
    (tmp_path / "docs" / "sub" / "loop").symlink_to(tmp_path / "docs")
    (tmp_path / "docs" / "sub" / "self.md").symlink_to(tmp_path / "docs" / "sub" / "self.md")
    (tmp_path / "elsewhere.md").write_text("x")
    (tmp_path / "docs" / "link.md").symlink_to(tmp_path / "elsewhere.md")
    (tmp_path / "docs" / "dangling.md").symlink_to(tmp_path / "nowhere.md")
    found = {file.path: file for file in find_files([tmp_path / "docs"])}
    assert found["link.md"].error is None
    with pytest.raises(FileMissing):
        read_file(found["dangling.md"].location, "dangling.md")
    assert len(found) == 3
    (broken,) = [file for path, file in found.items() if "self" in path]
    with pytest.raises(FileUnreadable, match="symbolic links"):
        raise broken.error or read_error(broken.location)


def read_error(location: Path) -> Exception:
    try:
        read_file(location, location.name)
    except FileUnreadable as error:
        return error
    raise AssertionError("it was read")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (file,) = find_files([tmp_path / "missing"])
    assert isinstance(file.error, FileMissing)
    assert str(tmp_path / "missing") in file.error.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_and_folders_without_permission_are_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.md").write_text("x")
    (tmp_path / "a.md").chmod(0)
    (tmp_path / "closed").chmod(0)
    found = {file.path.split("/")[-1]: file for file in find_files([tmp_path])}
    (tmp_path / "closed").chmod(0o700)
    assert isinstance(found["closed"].error, FileUnreadable)
    with pytest.raises(FileUnreadable, match="Permission denied"):
        read_file(found["a.md"].location, "a.md")


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FormatUnsupported, match="not a regular file"):
        read_file(Path("/dev/null"), "null")


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"")
    with pytest.raises(FileEmpty, match="0 bytes"):
        read_file(tmp_path / "a.md", "a.md")


def test_a_file_that_grows_while_it_is_read_is_not_taken_half(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 30_000_000)
    started, stop = threading.Event(), threading.Event()

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"y")
                started.set()

    writer = threading.Thread(target=write)
    writer.start()
    started.wait()
    try:
        with pytest.raises(FileChanged, match="being written to"):
            read_file(path, "a.log", 10**9)
    finally:
        stop.set()
        writer.join()
    assert len(read_file(path, "a.log", 10**9).content) == path.stat().st_size
