"""API keys: made once, kept as hashes in one private file, compared in constant time."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from server.errors import KeyInvalid, KeysDamaged

KEY_PREFIX = "mynah_"
_NUM_SECRET_BYTES = 32
_NUM_SHOWN_CHARS = len(KEY_PREFIX) + 6
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key: never the key. `prefix` is its start, to recognise it by."""

    name: str
    prefix: str
    sha256: str
    created_s: int


class KeyStore:
    """The keys of one file. A running server sees keys created or deleted beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._keys: tuple[ApiKey, ...] = ()

    def list(self) -> tuple[ApiKey, ...]:
        """Every key, oldest first; none if there is no file. Raises `KeysDamaged`."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            self._stamp, self._keys = None, ()
            return ()
        except OSError as error:
            raise KeysDamaged(f"cannot read the API keys: {error}") from error
        # A file that was replaced has another inode, even within one tick of the clock.
        stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if stamp != self._stamp:
            self._keys = _read(self._path)
            self._stamp = stamp
        return self._keys

    def find(self, key: str) -> ApiKey | None:
        """The kept half of `key`, or None; takes equally long for every wrong key."""
        digest = _hash(key)
        found = None
        for kept in self.list():
            if hmac.compare_digest(kept.sha256, digest):
                found = kept
        return found

    def create(self, name: str) -> tuple[str, ApiKey]:
        """A new key, in full for the only time, and what is kept of it. Raises `KeyInvalid`."""
        if not _NAME.fullmatch(name):
            raise KeyInvalid(
                f"{name!r} cannot name a key: use 1 to 64 letters, digits, '.', '_' or '-'.",
                param="name",
            )
        with self._locked():
            keys = self.list()
            if any(kept.name == name for kept in keys):
                raise KeyInvalid(f"there is a key named {name!r} already.", param="name")
            secret = KEY_PREFIX + secrets.token_urlsafe(_NUM_SECRET_BYTES)
            kept = ApiKey(name, secret[:_NUM_SHOWN_CHARS], _hash(secret), int(time.time()))
            self._write((*keys, kept))
        return secret, kept

    def delete(self, name: str) -> ApiKey:
        """Forget the key called `name`; it stops working at once. Raises `KeyInvalid`."""
        with self._locked():
            keys = self.list()
            for kept in keys:
                if kept.name == name:
                    self._write(tuple(k for k in keys if k is not kept))
                    return kept
        raise KeyInvalid(f"there is no key named {name!r}.", param="name")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Two commands at once must not lose each other's key."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise KeysDamaged(f"cannot write the API keys: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, keys: tuple[ApiKey, ...]) -> None:
        content = json.dumps({"version": 1, "keys": [asdict(key) for key in keys]}, indent=2)
        try:
            # mkstemp gives mode 0600 from the first byte on.
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=".keys-")
        except OSError as error:
            raise KeysDamaged(f"cannot write the API keys: {error}") from error
        aside = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self._path)
        except OSError as error:
            with suppress(FileNotFoundError):
                aside.unlink()
            raise KeysDamaged(f"cannot write the API keys: {error}") from error


def _hash(key: str) -> str:
    # A plain hash is enough: the key holds 256 random bits, so there is nothing to guess.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _read(path: Path) -> tuple[ApiKey, ...]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["keys"]
        return tuple(
            ApiKey(str(r["name"]), str(r["prefix"]), str(r["sha256"]), int(r["created_s"]))
            for r in rows
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeysDamaged(
            f"cannot read the API keys in {path}: {error}; mend or remove that file."
        ) from error
