"""Put on PYTHONPATH, this refuses every socket to an address that is not loopback.

Python imports a module of this name at start, in child processes too; an audit hook cannot be
removed again. Each refusal is also written to the file named by REFUSALS_FILE, so that one
which was caught and ignored is still seen.
"""

from __future__ import annotations

import ipaddress
import os
import sys

_LOOPBACK_NAMES = {"localhost", "localhost.localdomain", "", None}


def _is_loopback(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return False


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        # A path or None: a Unix socket, or a socket that is connected already.
        if not isinstance(address, tuple):
            return
        host = address[0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if _is_loopback(host):
        return
    with open(os.environ["REFUSALS_FILE"], "a", encoding="utf-8") as file:  # noqa: PTH123
        file.write(f"{event} {host!r} by {sys.argv}\n")
    raise OSError(f"refused in this test: {event} to {host!r}")


sys.addaudithook(_refuse)
