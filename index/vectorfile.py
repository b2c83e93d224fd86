"""The file that caches a collection's FAISS index between runs.

A magic line, a JSON header, the index as FAISS writes it, and the BLAKE2b digest of it all. It is
streamed both ways, so an index of hundreds of MiB is never held twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from index.layouts import Layout

_MAGIC = b"MYNAHVEC2\n"
_STALE_S = 600.0
_BLOCK_BYTES = 1 << 20
_DIGEST_BYTES = 64


def write_index(path: Path, index: Any, layout: Layout, header: Mapping[str, object]) -> None:
    """Write aside, sync, and rename into place.

    Raises `OSError` and leaves the former file as it was.
    """
    faiss = _import_faiss()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    remove_leftovers(path)
    aside = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with aside.open("wb") as file:
            sink = _DigestingFile(file)
            line = json.dumps({**header, "layout": dataclasses.asdict(layout)})
            sink.write(_MAGIC + line.encode() + b"\n")
            writer = faiss.PyCallbackIOWriter(sink.write, _BLOCK_BYTES)
            try:
                faiss.write_index(index, writer)
            except RuntimeError:
                if sink.error is None:
                    raise
            if sink.error is not None:
                raise sink.error
            file.write(sink.digest.digest())
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def read_index(path: Path, expected: Mapping[str, object]) -> tuple[Any, Layout, int] | None:
    """The FAISS index, its layout and its generation; None where the file is missing or damaged.

    Also None where a field of its header is not as `expected`. The digest is checked before FAISS
    reads anything: it trusts what it reads.
    """
    faiss = _import_faiss()
    try:
        with path.open("rb") as file:
            if not _is_whole(file):
                return None
            file.seek(len(_MAGIC))
            header = json.loads(file.readline())
            if any(header[name] != value for name, value in expected.items()):
                return None
            layout, generation = Layout(**header["layout"]), int(header["generation"])
            index = faiss.read_index(faiss.PyCallbackIOReader(file.read, _BLOCK_BYTES))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return index, layout, generation


def remove_leftovers(path: Path) -> None:
    """Delete half-written files that killed processes left beside `path`."""
    oldest_s = time.time() - _STALE_S
    for leftover in path.parent.glob(f"{path.name}.*.tmp"):
        try:
            if leftover.stat().st_mtime < oldest_s:
                leftover.unlink()
        except FileNotFoundError:
            continue  # another process was quicker


def _import_faiss() -> Any:
    import faiss

    return faiss  # its stubs lack what reads from and writes to Python files


class _DigestingFile:
    """Writes to a file and digests what goes by.

    FAISS drops the exception of a callback, so the first one is kept.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        self.error: OSError | None = None

    def write(self, block: bytes) -> None:
        if self.error is not None:
            return
        self.digest.update(block)
        try:
            self._file.write(block)
        except OSError as error:
            self.error = error


def _is_whole(file: BinaryIO) -> bool:
    """True if the file begins with the magic line and ends with the digest of what it holds."""
    if file.readline(64) != _MAGIC:
        return False
    left = file.seek(0, os.SEEK_END) - _DIGEST_BYTES
    file.seek(0)
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    while left > 0:
        block = file.read(min(left, _BLOCK_BYTES))
        if not block:
            return False
        digest.update(block)
        left -= len(block)
    return file.read() == digest.digest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
