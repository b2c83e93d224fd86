"""Who may talk to the server: host names, browser origins and API keys."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from server.auth import KeyStore
from server.errors import AccessRefused, AddressRefused, InvalidApiKey

OPEN_PATHS = frozenset({"/healthz", "/readyz"})


def is_loopback(host: str) -> bool:
    """Whether `host` (a name or an address) can only be reached from this machine."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_address(host: str, keys: KeyStore) -> None:
    """Raise `AddressRefused` for an address that others can reach while there are no keys."""
    if not is_loopback(host) and not keys.list():
        raise AddressRefused(
            f"{host} can be reached from other machines and there are no API keys; create one"
            " with `mynah keys create NAME` or use --host 127.0.0.1.",
            param="host",
        )


class AccessRules:
    """Admits or refuses a request by its headers.

    A server on loopback without keys is open to this machine, and so to every page in its
    browser. A page of another site gives itself away by its `Origin`, and one that made its own
    name resolve to 127.0.0.1 by its `Host`; both are refused. `open_paths` need no key.
    """

    def __init__(
        self,
        keys: KeyStore,
        *,
        host: str,
        allowed_hosts: tuple[str, ...] = (),
        allowed_origins: tuple[str, ...] = (),
        open_paths: frozenset[str] = OPEN_PATHS,
    ) -> None:
        self._keys = keys
        self._is_loopback = is_loopback(host)
        self._allowed_hosts = frozenset(name.lower() for name in allowed_hosts)
        self._allowed_origins = frozenset(origin.rstrip("/").lower() for origin in allowed_origins)
        self._open_paths = open_paths
        self._had_keys = False

    def admit(self, path: str, headers: Mapping[str, str]) -> str | None:
        """The name of the key used, None where none is needed.

        Raises `AccessRefused` or `InvalidApiKey`.
        """
        self._check_host(headers.get("host", ""))
        self._check_origin(headers.get("origin"), headers.get("host", ""))
        return None if path in self._open_paths else self._check_key(headers.get("authorization"))

    def is_foreign_but_allowed(self, origin: str | None) -> bool:
        """Whether replies need CORS headers for this origin."""
        return origin is not None and origin.lower() in self._allowed_origins

    def _check_host(self, host: str) -> None:
        if not self._is_loopback and not self._allowed_hosts:
            return
        name = (urlsplit(f"//{host}").hostname or "") if _is_netloc(host) else ""
        if name in self._allowed_hosts or (self._is_loopback and is_loopback(name)):
            return
        raise AccessRefused(
            "The Host header names another host; if it is meant to be this server, add it to the"
            " setting allowed_hosts."
        )

    def _check_origin(self, origin: str | None, host: str) -> None:
        if origin is None or self.is_foreign_but_allowed(origin):
            return
        scheme, separator, place = origin.lower().partition("://")
        if separator and scheme in ("http", "https") and place == host.lower():
            return
        raise AccessRefused(
            "Requests from pages of another origin are refused; to allow this one, add it to the"
            " setting allowed_origins."
        )

    def _check_key(self, authorization: str | None) -> str | None:
        self._had_keys = bool(self._keys.list()) or self._had_keys
        # Deleting the last key must not open a server that was closed.
        if self._is_loopback and not self._had_keys:
            return None
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise InvalidApiKey(
                "This server needs an API key: send the header 'Authorization: Bearer KEY'."
            )
        kept = self._keys.find(key.strip())
        if kept is None:
            raise InvalidApiKey("That API key is not known to this server.")
        return kept.name


def _is_netloc(host: str) -> bool:
    try:
        parts = urlsplit(f"//{host}")
        return parts.netloc == host and parts.username is None and parts.port != 0
    except ValueError:
        return False
