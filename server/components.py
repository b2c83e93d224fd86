"""What the application is made of, and the parts of it that take time to load."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from index.types import CollectionInfo
from models.errors import AppError
from models.protocols import Engine
from server.access import AccessRules
from server.errors import InternalError, NotReady
from server.grounding.types import Grounder, Mode

log = logging.getLogger("mynah.server")


@dataclass(frozen=True, slots=True)
class Services:
    """The loaded parts. `list_collections` and `close` block and may be called from any thread."""

    engine: Engine
    grounder: Grounder
    list_collections: Callable[[], Sequence[CollectionInfo]]
    close: Callable[[], None]


class ServiceSource(Protocol):
    """Where routes get the loaded parts from."""

    def get(self) -> Services:
        """The parts; raises `NotReady` while they load, or what their loading raised."""
        ...


@dataclass(frozen=True, slots=True)
class Components:
    """All that `create_app` needs; settings arrive here as plain values."""

    services: ServiceSource
    access: AccessRules
    default_mode: Mode
    max_request_bytes: int = 8 * 2**20
    ping_interval_s: float = 10.0
    has_prompts_in_log: bool = False


class ServiceLoader:
    """Loads the parts in a thread, so that the server can answer `/healthz` meanwhile."""

    def __init__(self, load: Callable[[], Services]) -> None:
        self._load = load
        self._services: Services | None = None
        self._error: AppError | None = None
        self._thread: threading.Thread | None = None

    @property
    def error(self) -> AppError | None:
        """What loading raised, if it failed."""
        return self._error

    def start(self, on_failure: Callable[[], None]) -> None:
        """Begin to load; `on_failure` is called from the loading thread if that fails."""
        self._thread = threading.Thread(
            target=self._run, args=(on_failure,), name="mynah-load", daemon=True
        )
        self._thread.start()

    def get(self) -> Services:
        """The parts, as `ServiceSource` says."""
        if self._services is not None:
            return self._services
        if self._error is not None:
            raise self._error
        raise NotReady("The model and the index are still loading; try again in a second.")

    def close(self, timeout_s: float) -> bool:
        """Free the parts; False if they still load after `timeout_s`."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
        if self._services is not None:
            self._services.close()
        return True

    def _run(self, on_failure: Callable[[], None]) -> None:
        try:
            self._services = self._load()
        except AppError as error:
            self._error = error
            on_failure()
        except Exception as error:
            log.exception("loading failed")
            self._error = InternalError(f"loading failed: {error}")
            on_failure()
