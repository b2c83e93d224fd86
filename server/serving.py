"""A server that says where it listens, loads meanwhile, and stops when told to."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from server.access import AccessRules, check_address
from server.app import create_app
from server.assembly import find_model, load_services, resolve_mode
from server.auth import KeyStore
from server.commands.output import write
from server.components import Components, ServiceLoader
from server.config import Settings
from server.errors import AddressRefused

log = logging.getLogger("mynah.server")


def run_server(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises `AddressRefused`, and what loading raised if the model or the index cannot be loaded.
    """
    set_up_logging(settings.log_level)
    keys = KeyStore(settings.keys_path)
    check_address(settings.host, keys)
    find_model(settings)
    loader = ServiceLoader(lambda: load_services(settings, is_warm=True))
    app = create_app(make_components(settings, keys, loader))
    server = SignalledServer(app, settings.shutdown_timeout_s)
    with bind(settings.host, settings.port) as listener:
        write(f"Mynah listens on {to_url(listener)} (Ctrl-C stops it)")
        sys.stdout.flush()
        loader.start(on_failure=server.stop)
        server.run(sockets=[listener])
    _leave(loader, settings.shutdown_timeout_s)


def make_components(settings: Settings, keys: KeyStore, loader: ServiceLoader) -> Components:
    """The application's parts, from settings as plain values."""
    return Components(
        services=loader,
        access=AccessRules(
            keys,
            host=settings.host,
            allowed_hosts=settings.allowed_hosts,
            allowed_origins=settings.allowed_origins,
        ),
        default_mode=resolve_mode(settings),
        max_request_bytes=settings.max_request_bytes,
        ping_interval_s=settings.ping_interval_s,
        has_prompts_in_log=settings.prompts_in_log,
    )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `AddressRefused` with what the system says."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number is not None and number > 0 else str(error)
        raise AddressRefused(
            f"cannot listen on {host} port {port}: {reason}; choose another with --port.",
            param="port",
        ) from error
    # asyncio does this only for sockets that name their protocol; without it every reply waits
    # 40 ms for the client's delayed acknowledgement. Accepted sockets inherit it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def to_url(listener: socket.socket) -> str:
    """Where a client on this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def set_up_logging(level: str) -> None:
    """Log lines on standard error; of libraries only what is amiss."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("mynah").setLevel(level.upper())
    if level != "debug":
        # llama.cpp describes every tensor; what goes wrong comes as an error of ours.
        logging.getLogger("mynah.llama").setLevel(logging.WARNING)


class SignalledServer(uvicorn.Server):
    """uvicorn, but a signal that asked it to stop ends the process with exit code 0."""

    def __init__(self, app: FastAPI, shutdown_timeout_s: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=shutdown_timeout_s,
            )
        )

    def stop(self) -> None:
        """Stop soon; may be called from any thread."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, without raising the signal once more at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handled = (signal.SIGINT, signal.SIGTERM)
        former = {number: signal.signal(number, self.handle_exit) for number in handled}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def _leave(loader: ServiceLoader, timeout_s: float) -> None:
    """Free the parts, or leave without if they still load: torch cannot be interrupted."""
    is_free = loader.close(timeout_s)
    if loader.error is not None:
        raise loader.error
    log.info("stopped")
    if not is_free:
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
