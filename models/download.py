"""One file over HTTP: resumed where it was cut, checked by SHA-256, kept as `.part` meanwhile.

Ranges and If-Range as in RFC 9110, sections 13.1.5 and 14. Hugging Face names the SHA-256 of a
large file in `x-linked-etag` of the reply that redirects to the file's own host.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from models.imitation.errors import DownloadFailed
from models.registry_folder import hash_file, write_aside
from models.web import Reply, check_status, open_client, open_reply, shown

if TYPE_CHECKING:
    import httpx

_MAGIC = b"GGUF"
_SPARE_BYTES = 64 << 20
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
_SHA256 = re.compile(r"[0-9a-f]{64}")

ShowBytes = Callable[[int, int | None], None]


class _Interrupted(Exception):
    """The bytes stopped coming, or are not the ones that were asked for; worth another try."""


@dataclass(frozen=True, slots=True)
class Download:
    """A whole file. `checked_by`: the hash it was compared with, None if there was none."""

    path: Path
    sha256: str
    size_bytes: int
    checked_by: Literal["given", "server"] | None

    def discard(self) -> None:
        """Delete the file, unless it was moved away, and what was kept to resume it."""
        self.path.unlink(missing_ok=True)
        _state_path(self.path).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _State:
    """What is known of a part: from which version of the file it is, and that one's hash."""

    url: str
    validator: str | None = None
    sha256: str | None = None


def download_gguf(
    url: str,
    folder: Path,
    *,
    sha256: str | None = None,
    token: str | None = None,
    show: ShowBytes = lambda num_done, num_total: None,
    num_retries: int = 3,
    wait_s: float = 1.0,
) -> Download:
    """Fetch the GGUF at `url` into `folder`, going on with what an earlier call left there.

    `sha256` is the expected hash; without it the one that the server names is taken. `token` goes
    to the host of `url` only. `show` gets the bytes that are there and their number, None if it is
    unknown. A cut connection is tried again `num_retries` times without progress, after `wait_s`,
    twice that, and so on. Raises `DownloadFailed`; the part is kept if it can be of use.
    """
    expected = None if sha256 is None else normalize_sha256(sha256)
    part = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.part"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(part, url), open_client() as client:
            checked = _fetch_patiently(
                client, part, _Order(url, expected, token, show), num_retries, wait_s
            )
            return _check(part, url, expected, checked)
    except OSError as error:
        raise DownloadFailed(f"cannot write to {folder}: {error.strerror or error}.") from error


def list_unfinished(folder: Path) -> list[tuple[str, int]]:
    """What earlier calls left in `folder`: each address, without secrets, and the bytes of it."""
    parts = sorted(folder.glob("*.part"))
    return [(_read_state(part, "?").url, size) for part in parts if (size := part.stat().st_size)]


def normalize_sha256(text: str) -> str:
    """64 lower-case hexadecimal digits. Raises `DownloadFailed` for anything else."""
    digits = text.strip().lower().removeprefix("sha256:")
    if not _SHA256.fullmatch(digits):
        raise DownloadFailed(f"{text!r} is no SHA-256: give its 64 hexadecimal digits.")
    return digits


@dataclass(frozen=True, slots=True)
class _Order:
    url: str
    sha256: str | None
    token: str | None
    show: ShowBytes


def _fetch_patiently(
    client: httpx.Client, part: Path, order: _Order, num_retries: int, wait_s: float
) -> str | None:
    """Fetch until the part is whole; return the hash that the server names."""
    num_failures = 0
    while True:
        num_before = part.stat().st_size
        try:
            return _fetch(client, part, order)
        except _Interrupted as error:
            num_done = part.stat().st_size
            num_failures = 1 if num_done > num_before else num_failures + 1
            if num_failures > num_retries:
                raise DownloadFailed(
                    f"{shown(order.url)} was cut off after {num_done} bytes: {error}; run the same"
                    " command again to go on."
                ) from error.__cause__
            time.sleep(wait_s * 2 ** (num_failures - 1))


def _fetch(client: httpx.Client, part: Path, order: _Order) -> str | None:
    state = _read_state(part, order.url)
    offset = part.stat().st_size if state.validator or state.sha256 or order.sha256 else 0
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if state.validator:
            headers["If-Range"] = state.validator
    with _reporting(), open_reply(client, order.url, headers, order.token) as reply:
        named = _named_sha256(reply)
        _require_same(order, named)
        start, num_total = _read_place(reply, offset)
        is_other = state.sha256 is not None and named is not None and named != state.sha256
        validator = _read_validator(reply)
        if state.validator and validator and reply.status != 200:
            is_other = is_other or validator != state.validator
        if offset and reply.status != 200 and (is_other or start != offset):
            os.truncate(part, 0)
            raise _Interrupted("the file has changed meanwhile")
        if reply.status == 416:
            return named or state.sha256
        if reply.status == 206:
            named = named or state.sha256
        _write_state(part, _State(shown(order.url), validator, named))
        _require_space(part.parent, order.url, num_total, start)
        _receive(reply, part, order, start, num_total)
        return named


def _read_place(reply: Reply, offset: int) -> tuple[int, int | None]:
    """Where the reply's bytes begin in the file, and the file's size where it is known."""
    found = _CONTENT_RANGE.fullmatch(reply.headers.get("content-range", ""))
    if reply.status in (206, 416) and found:
        num_total = None if found[2] == "*" else int(found[2])
        # 416: there is nothing behind the part. It is whole, or not of this file.
        start = int(found[1]) if found[1] else num_total
        return (-1 if start is None else start), num_total
    if reply.status == 416 and offset:
        return -1, None
    check_status(reply)
    length = reply.headers.get("content-length", "")
    return 0, int(length) if length.isdigit() else None


def _receive(reply: Reply, part: Path, order: _Order, start: int, num_total: int | None) -> None:
    if reply.headers.get("content-encoding", "identity") != "identity":
        raise DownloadFailed(f"{shown(order.url)} comes compressed; give the file's own address.")
    head = b"" if start == 0 else _MAGIC
    with part.open("r+b") as file:
        file.truncate(start)
        file.seek(start)
        num_done = start
        order.show(num_done, num_total)
        for block in reply.blocks():
            head = (head + block)[: len(_MAGIC)]
            if not _MAGIC.startswith(head):
                file.truncate(0)
                raise _not_gguf(order.url)
            file.write(block)
            num_done += len(block)
            order.show(num_done, num_total)
        file.flush()
        os.fsync(file.fileno())
    if num_total is not None and num_done < num_total:
        raise _Interrupted(f"{num_total} bytes were announced")


def _check(part: Path, url: str, expected: str | None, named: str | None) -> Download:
    num_bytes = part.stat().st_size
    if num_bytes < len(_MAGIC):
        raise _not_gguf(url)
    sha256 = hash_file(part)
    wanted = expected or named
    done = Download(part, sha256, num_bytes, "given" if expected else "server" if named else None)
    if wanted is not None and sha256 != wanted:
        done.discard()
        raise DownloadFailed(
            f"{shown(url)} has the SHA-256 {sha256}, not {wanted}; the file was deleted."
        )
    return done


def _named_sha256(reply: Reply) -> str | None:
    digits = reply.linked_etag.strip('"').lower()
    return digits if _SHA256.fullmatch(digits) else None


def _require_same(order: _Order, named: str | None) -> None:
    """Known to be the wrong file before its bytes come."""
    if order.sha256 and named and order.sha256 != named:
        raise DownloadFailed(
            f"{shown(order.url)} has the SHA-256 {named} by its server, not {order.sha256};"
            " nothing was fetched."
        )


def _read_validator(reply: Reply) -> str | None:
    """What If-Range takes: a strong entity tag, or else the date of change."""
    tag: str = reply.headers.get("etag", "")
    date: str = reply.headers.get("last-modified", "")
    return (date if tag.startswith("W/") else tag or date) or None


def _require_space(folder: Path, url: str, num_total: int | None, start: int) -> None:
    num_free = shutil.disk_usage(folder).free
    if num_total is not None and num_total - start + _SPARE_BYTES > num_free:
        raise DownloadFailed(
            f"{shown(url)} needs {num_total - start} more bytes, but only {num_free} are free in"
            f" {folder}; make room first."
        )


def _not_gguf(url: str) -> DownloadFailed:
    return DownloadFailed(
        f"what {shown(url)} sends is not a GGUF file; give the address of the file itself, not of"
        " a page about it."
    )


def _state_path(part: Path) -> Path:
    return part.with_suffix(".json")


def _read_state(part: Path, url: str) -> _State:
    """What was kept of the part; without it, or if it is damaged, the part starts anew."""
    with suppress(FileNotFoundError, ValueError, TypeError):
        return _State(**json.loads(_state_path(part).read_text(encoding="utf-8")))
    return _State(shown(url))


def _write_state(part: Path, state: _State) -> None:
    write_aside(_state_path(part), json.dumps(asdict(state)).encode())


@contextmanager
def _locked(part: Path, url: str) -> Iterator[None]:
    handle = os.open(part, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise DownloadFailed(f"another command is fetching {shown(url)} already.") from None
    finally:
        os.close(handle)


@contextmanager
def _reporting() -> Iterator[None]:
    """What may be better at the next try becomes `_Interrupted`."""
    import httpx

    try:
        yield
    except httpx.TransportError as error:
        raise _Interrupted(str(error) or type(error).__name__) from error
