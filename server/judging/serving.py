"""The page on a port, until it is told to stop."""

from __future__ import annotations

import sys
from pathlib import Path

from models.imitation.judging.judgements import JudgementLog
from models.imitation.judging.pairs import Comparison
from server.access import AccessRules, check_address
from server.auth import KeyStore
from server.commands.output import write
from server.config import Settings
from server.judging.app import PAGE_PATHS, create_judging_app
from server.judging.desk import Desk
from server.serving import SignalledServer, bind, set_up_logging, to_url


def run_page(comparison: Comparison, folder: Path, settings: Settings) -> None:
    """Serve the page at the settings' host and port until SIGINT or SIGTERM.

    Raises `AddressRefused` for an address that others can reach while there are no API keys, or
    that cannot be bound, and what `JudgementLog` raises.
    """
    # A line for each request would bury the address.
    set_up_logging("warning" if settings.log_level == "info" else settings.log_level)
    keys = KeyStore(settings.keys_path)
    check_address(settings.host, keys)
    access = AccessRules(
        keys,
        host=settings.host,
        allowed_hosts=settings.allowed_hosts,
        allowed_origins=settings.allowed_origins,
        open_paths=PAGE_PATHS,
    )
    with JudgementLog(folder) as judgements, bind(settings.host, settings.port) as listener:
        app = create_judging_app(Desk(comparison, judgements), access)
        server = SignalledServer(app, settings.shutdown_timeout_s)
        write(f"Judge at {to_url(listener)} (Ctrl-C stops the page; nothing judged is lost)")
        sys.stdout.flush()
        server.run(sockets=[listener])
