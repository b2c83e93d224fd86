"""HTTP as downloads need it: redirects followed by our rules, failures as one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.imitation.errors import DownloadFailed, ExtraMissing

if TYPE_CHECKING:
    import httpx

_MAX_REDIRECTS = 10
_TIMEOUT_S = 60.0
_REDIRECTS = frozenset((301, 302, 303, 307, 308))


@dataclass(frozen=True, slots=True)
class Reply:
    """The last reply of a chain; `linked_etag` stood in the first that had one."""

    response: httpx.Response
    linked_etag: str

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status_code

    @property
    def headers(self) -> httpx.Headers:
        """The headers, whatever their case."""
        return self.response.headers

    def blocks(self) -> Iterator[bytes]:
        """The body in blocks as they come, so that none is lost when the connection breaks."""
        return self.response.iter_raw()


def open_client() -> httpx.Client:
    """A client that follows no redirect by itself. Raises `ExtraMissing`."""
    try:
        import httpx
    except ImportError:
        raise ExtraMissing(
            "downloading needs httpx: install it with `pip install 'mynah[tune]'`."
        ) from None
    return httpx.Client(timeout=_TIMEOUT_S, follow_redirects=False)


@contextmanager
def open_reply(
    client: httpx.Client, url: str, headers: Mapping[str, str], token: str | None = None
) -> Iterator[Reply]:
    """GET `url` through its redirects; the body is read by the caller.

    `token` goes to the host of `url` alone. Raises `DownloadFailed`, and httpx's `TransportError`.
    """
    import httpx

    try:
        first = address = check_address(httpx.URL(url))
    except httpx.InvalidURL as error:
        raise DownloadFailed(f"{shown(url)} is no address: {error}.") from None
    linked_etag = ""
    for _ in range(_MAX_REDIRECTS + 1):
        is_first_host = (address.scheme, address.netloc) == (first.scheme, first.netloc)
        bearer = {"Authorization": f"Bearer {token}"} if token and is_first_host else {}
        request = client.build_request("GET", address, headers={**headers, **bearer})
        response = client.send(request, stream=True)
        try:
            linked_etag = linked_etag or response.headers.get("x-linked-etag", "")
            if response.status_code not in _REDIRECTS or "location" not in response.headers:
                yield Reply(response, linked_etag)
                return
            address = follow(address, response.headers["location"])
        finally:
            response.close()
    raise DownloadFailed(f"{shown(url)} redirects more than {_MAX_REDIRECTS} times.")


def follow(address: httpx.URL, location: str) -> httpx.URL:
    """Where a redirect from `address` leads. Raises `DownloadFailed` if it leaves HTTPS."""
    import httpx

    try:
        target = check_address(address.join(location))
    except httpx.InvalidURL as error:
        raise DownloadFailed(f"{shown(str(address))} redirects to no address: {error}.") from None
    if address.scheme == "https" and target.scheme == "http":
        raise DownloadFailed(
            f"{shown(str(address))} redirects to plain HTTP ({target.host}), where anyone could"
            " change the file; use another source."
        )
    return target


def check_address(address: httpx.URL) -> httpx.URL:
    """The address if it is one of HTTP. Raises `DownloadFailed`."""
    if address.scheme not in ("http", "https") or not address.host:
        raise DownloadFailed(f"{shown(str(address))} is no http:// or https:// address.")
    return address


def check_status(reply: Reply) -> None:
    """Raise `DownloadFailed` for a refusal; httpx's `TransportError` if it may pass."""
    import httpx

    url, status = shown(str(reply.response.url)), reply.status
    if status in (200, 206):
        return
    if status in (401, 403):
        raise DownloadFailed(
            f"{url} refuses access ({status}); accept the model's terms on its page and set"
            " HF_TOKEN, or use another source."
        )
    if status in (404, 410):
        raise DownloadFailed(f"there is nothing at {url} ({status}); check the name.")
    if status == 429 or status >= 500:
        raise httpx.RemoteProtocolError(f"the server answers {status}")
    raise DownloadFailed(f"{url} answers with status {status}.")


def shown(url: str) -> str:
    """The address without password, query and fragment, which may hold secrets."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    host, slash, path = rest.partition("/")
    path = path.partition("?")[0].partition("#")[0]
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
