"""llama.cpp as the engine sees it: initialised once, its log turned into records of `logging`."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

logger = logging.getLogger("mynah.llama")

# ggml's levels: 1 debug, 2 info, 3 warning, 4 error, 5 continues the line before.
_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
_CONTINUED = 5
# llama.cpp tells its operator what it tells its developers; nothing of it concerns a user.
_DEMOTION = {
    logging.INFO: logging.DEBUG,
    logging.WARNING: logging.INFO,
    logging.ERROR: logging.INFO,
}


class _LogBridge:
    """Receives llama.cpp's log lines on any thread and keeps the last errors of each."""

    def __init__(self) -> None:
        self._level = logging.DEBUG
        self._local = threading.local()

    def receive(self, level: int, text: bytes | None, _user_data: object) -> None:
        """Log one message; called from C, so nothing may be raised here."""
        if level != _CONTINUED:
            self._level = _LEVELS.get(level, logging.DEBUG)
        line = (text or b"").decode("utf-8", "replace").strip()
        if not line or line == ".":
            return
        listener: Callable[[str], None] | None = getattr(self._local, "listener", None)
        if listener is not None:
            listener(line)
        kept: deque[str] | None = getattr(self._local, "kept", None)
        if kept is not None and self._level >= logging.ERROR:
            kept.append(line)
        logger.log(_DEMOTION.get(self._level, logging.DEBUG), "%s", line)

    @contextlib.contextmanager
    def keep_errors(self) -> Iterator[deque[str]]:
        """Collect the error lines that this thread's calls cause inside the block."""
        kept: deque[str] = deque(maxlen=20)
        self._local.kept = kept
        try:
            yield kept
        finally:
            self._local.kept = None

    @contextlib.contextmanager
    def listen(self, listener: Callable[[str], None]) -> Iterator[None]:
        """Hand every line that this thread's calls cause inside the block to `listener`."""
        self._local.listener = listener
        try:
            yield
        finally:
            self._local.listener = None


_bridge = _LogBridge()
_guard = threading.Lock()
# The C callback: were it collected, the next log line would crash the process.
_callback: Any = None


def library() -> Any:
    """The module of llama-cpp-python's low-level bindings, its backend initialised.

    Imported at first use: loading the shared library takes half a second.
    """
    global _callback  # noqa: PLW0603
    low_level = importlib.import_module("llama_cpp.llama_cpp")
    with _guard:
        if _callback is None:
            _callback = low_level.llama_log_callback(_bridge.receive)
            low_level.llama_log_set(_callback, ctypes.c_void_p(0))
            low_level.llama_backend_init()
    return low_level


@contextlib.contextmanager
def keep_errors() -> Iterator[deque[str]]:
    """Collect llama.cpp's error lines caused by this thread inside the block."""
    with _bridge.keep_errors() as kept:
        yield kept


@contextlib.contextmanager
def listen(listener: Callable[[str], None]) -> Iterator[None]:
    """Hand llama.cpp's lines caused by this thread to `listener`, which must not raise."""
    with _bridge.listen(listener):
        yield
