from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.download import Download, download_gguf, list_unfinished, normalize_sha256
from models.download_sources import find_source
from models.imitation.errors import DownloadFailed
from models.web import follow, shown
from tests.models.file_server import FileServer, Hosted, serve_files

CONTENT = b"GGUF" + bytes(range(256)) * 1200
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve_files() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


def fetch(
    server: FileServer, folder: Path, path: str = "/m.gguf", num_retries: int = 0, **options: Any
) -> Download:
    return download_gguf(
        server.url + path, folder, num_retries=num_retries, wait_s=0.001, **options
    )


def test_a_file_arrives_whole_and_a_hash_that_nobody_named_is_not_called_verified(
    server: FileServer, folder: Path
) -> None:
    server.files["/m.gguf"] = Hosted(CONTENT)
    shows: list[tuple[int, int | None]] = []
    done = download_gguf(
        f"{server.url}/m.gguf", folder, show=lambda num, total: shows.append((num, total))
    )
    assert done.path.read_bytes() == CONTENT
    assert (done.sha256, done.size_bytes, done.checked_by) == (SHA256, len(CONTENT), None)
    assert (shows[0], shows[-1]) == ((0, len(CONTENT)), (len(CONTENT), len(CONTENT)))
    done.discard()
    assert list(folder.iterdir()) == []


def test_a_cut_download_goes_on_where_it_was_cut(server: FileServer, folder: Path) -> None:
    server.files["/m.gguf"] = Hosted(CONTENT, cuts=[100_000])
    with pytest.raises(DownloadFailed, match=r"after \d+ bytes.*same command again"):
        fetch(server, folder)
    ((text, num_bytes),) = list_unfinished(folder)
    assert text == f"{server.url}/m.gguf"
    assert 4 <= num_bytes <= 100_000
    done = fetch(server, folder, sha256=SHA256.upper())
    assert done.path.read_bytes() == CONTENT
    assert done.checked_by == "given"
    assert server.header("range") == [None, f"bytes={num_bytes}-"]
    assert server.header("if-range") == [None, '"v1"']


def test_cut_connections_are_tried_again_as_long_as_bytes_come(
    server: FileServer, folder: Path
) -> None:
    server.files["/m.gguf"] = Hosted(CONTENT, cuts=[70_000, 70_000, 70_000, 70_000])
    assert fetch(server, folder, num_retries=1).sha256 == SHA256
    assert len(server.requests) == 5
    server.files["/n.gguf"] = Hosted(CONTENT, statuses=[503, 429])
    assert fetch(server, folder, "/n.gguf", num_retries=2).sha256 == SHA256
    server.files["/o.gguf"] = Hosted(CONTENT, statuses=[503, 503])
    with pytest.raises(DownloadFailed, match="the server answers 503"):
        fetch(server, folder, "/o.gguf", num_retries=1)


def test_a_file_that_changed_meanwhile_is_fetched_anew(server: FileServer, folder: Path) -> None:
    server.files["/m.gguf"] = Hosted(CONTENT, cuts=[100_000])
    with pytest.raises(DownloadFailed):
        fetch(server, folder)
    other = b"GGUF" + b"other" * 50_000
    server.files["/m.gguf"] = Hosted(other, etag='"v2"')
    assert fetch(server, folder).path.read_bytes() == other


def test_a_server_that_ignores_if_range_does_not_mix_two_versions(
    server: FileServer, folder: Path
) -> None:
    server.files["/m.gguf"] = Hosted(CONTENT, cuts=[100_000])
    with pytest.raises(DownloadFailed):
        fetch(server, folder)
    other = b"GGUF" + b"other" * 60_000
    # The date stands for both, so that the condition holds; the tags differ.
    server.files["/m.gguf"] = Hosted(other, etag='"v2"', last_modified='"v1"')
    assert fetch(server, folder, num_retries=1).path.read_bytes() == other
    assert server.header("range")[-1] is None


@pytest.mark.parametrize(
    ("hosted", "is_resumed"),
    [
        (Hosted(CONTENT, has_ranges=False, cuts=[100_000]), True),
        (Hosted(CONTENT, etag='W/"v1"', cuts=[100_000]), False),
        (Hosted(CONTENT, etag=None, last_modified="Mon, 01 Jan 2024 00:00:00 GMT", cuts=[9]), True),
    ],
)
def test_what_cannot_be_resumed_safely_starts_anew(
    server: FileServer, folder: Path, hosted: Hosted, is_resumed: bool
) -> None:
    server.files["/m.gguf"] = hosted
    assert fetch(server, folder, num_retries=2).sha256 == SHA256
    assert (server.header("range")[-1] is not None) == is_resumed


def test_a_part_that_is_whole_already_is_taken(server: FileServer, folder: Path) -> None:
    server.files["/m.gguf"] = Hosted(CONTENT)
    fetch(server, folder)
    assert fetch(server, folder).sha256 == SHA256
    assert server.header("range") == [None, f"bytes={len(CONTENT)}-"]
    server.files["/m.gguf"] = Hosted(CONTENT[:-7])
    assert fetch(server, folder, num_retries=1).path.read_bytes() == CONTENT[:-7]


def test_a_wrong_hash_is_an_error_and_the_file_is_gone(server: FileServer, folder: Path) -> None:
    server.files["/m.gguf"] = Hosted(CONTENT)
    wrong = "0" * 64
    with pytest.raises(DownloadFailed, match=f"has the SHA-256 {SHA256}, not {wrong}"):
        fetch(server, folder, sha256=wrong)
    assert list(folder.iterdir()) == []
    with pytest.raises(DownloadFailed, match="64 hexadecimal digits"):
        fetch(server, folder, sha256="abc")


def test_the_hash_in_the_redirect_is_checked(server: FileServer, folder: Path) -> None:
    server.files["/repo"] = Hosted(redirect="/cdn/blob", linked_etag=f'"{SHA256}"')
    server.files["/cdn/blob"] = Hosted(CONTENT, cuts=[100_000])
    done = fetch(server, folder, "/repo", num_retries=1)
    assert (done.sha256, done.checked_by) == (SHA256, "server")
    done.discard()
    server.files["/cdn/blob"] = Hosted(CONTENT[:-1] + b"x")
    with pytest.raises(DownloadFailed, match="the file was deleted"):
        fetch(server, folder, "/repo", num_retries=1)
    num_before = len(server.requests)
    with pytest.raises(DownloadFailed, match="nothing was fetched"):
        fetch(server, folder, "/repo", sha256="1" * 64)
    assert len(server.requests) == num_before + 2


@pytest.mark.parametrize(
    ("hosted", "message"),
    [
        (None, r"there is nothing at .*/m.gguf \(404\)"),
        (Hosted(statuses=[401]), "HF_TOKEN"),
        (Hosted(statuses=[400]), "status 400"),
        (Hosted(b"<!DOCTYPE html>" * 9), "not a GGUF file"),
        (Hosted(b"GG"), "not a GGUF file"),
        (Hosted(redirect="/m.gguf"), "redirects more than"),
        (Hosted(redirect="ftp://127.0.0.1/m.gguf"), "no http"),
    ],
)
def test_a_refusal_is_one_line_and_is_not_tried_again(
    server: FileServer, folder: Path, hosted: Hosted | None, message: str
) -> None:
    if hosted is not None:
        server.files["/m.gguf"] = hosted
    with pytest.raises(DownloadFailed, match=message) as caught:
        fetch(server, folder, num_retries=5)
    assert "\n" not in str(caught.value)
    assert len(server.requests) in (1, 11)
    assert list_unfinished(folder) in ([], [(f"{server.url}/m.gguf", 2)])


def test_a_server_that_is_not_there_is_one_line(folder: Path) -> None:
    with serve_files() as server:
        pass
    with pytest.raises(DownloadFailed, match="same command again"):
        fetch(server, folder)


def test_a_file_larger_than_the_disk_is_refused_before_it_comes(
    server: FileServer, folder: Path
) -> None:
    class Endless(bytes):
        def __len__(self) -> int:
            return 1 << 60

    server.files["/m.gguf"] = Hosted(Endless(CONTENT))
    with pytest.raises(DownloadFailed, match="make room first"):
        fetch(server, folder)


def test_two_commands_do_not_write_one_part(server: FileServer, folder: Path) -> None:
    server.files["/m.gguf"] = Hosted(CONTENT)
    path = fetch(server, folder).path
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DownloadFailed, match="another command is fetching"):
            fetch(server, folder)


def test_https_is_never_left_for_plain_http() -> None:
    address = httpx.URL("https://models.example/a/m.gguf")
    with pytest.raises(DownloadFailed, match="plain HTTP"):
        follow(address, "http://models.example/a/m.gguf")
    assert str(follow(address, "/b")) == "https://models.example/b"
    assert follow(httpx.URL("http://models.example"), "https://cdn.example/b").scheme == "https"


def test_a_token_goes_to_its_own_host_only(server: FileServer, folder: Path) -> None:
    with serve_files() as other:
        server.files["/repo"] = Hosted(redirect="/same")
        server.files["/same"] = Hosted(redirect=f"{other.url}/blob")
        other.files["/blob"] = Hosted(CONTENT)
        fetch(server, folder, "/repo", token="hf_secret")
        assert server.header("authorization") == ["Bearer hf_secret"] * 2
        assert other.header("authorization") == [None]


@settings(deadline=None, max_examples=30)
@given(
    st.from_regex(r"[a-z]{1,8}\.example(:[0-9]{2,4})?", fullmatch=True),
    st.from_regex(r"[a-z0-9]{8,16}", fullmatch=True).map(lambda text: f"SECRET{text}"),
)
def test_an_address_is_shown_without_its_secrets(host: str, secret: str) -> None:
    url = f"https://user:{secret}@{host}/a/b.gguf?sig={secret}#{secret}"
    assert shown(url) == f"https://{host}/a/b.gguf"


def test_without_httpx_the_extra_is_named() -> None:
    code = "import sys; sys.modules['httpx'] = None; from models import web; web.open_client()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ExtraMissing: downloading needs httpx" in done.stderr
    assert "pip install 'mynah[tune]'" in done.stderr


def test_a_hash_is_taken_in_its_usual_spellings() -> None:
    assert normalize_sha256(f" sha256:{SHA256.upper()}\n") == SHA256


def test_an_address_or_a_repo_names_a_file() -> None:
    source = find_source("https://user:pw@host.example/x/My%20Model.gguf?sig=1")
    assert (source.filename, source.text) == (
        "My Model.gguf",
        "https://host.example/x/My%20Model.gguf",
    )
    for text in ("smol", "a/b/c", "", "../x"):
        with pytest.raises(DownloadFailed, match="neither OWNER/REPO"):
            find_source(text)
    with pytest.raises(DownloadFailed, match="one part"):
        find_source("https://host.example/big-00001-of-00003.gguf")
