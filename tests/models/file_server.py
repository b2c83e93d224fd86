"""A small HTTP server of files: ranges, entity tags, redirects, and connections that break."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hosted:
    """What is served at one path.

    `cuts`: after how many bytes of the body each of the next replies breaks off. `statuses`: with
    what the next requests are refused. `redirect`: where the path leads instead of serving.
    """

    content: bytes = b""
    etag: str | None = '"v1"'
    last_modified: str | None = None
    linked_etag: str | None = None
    redirect: str | None = None
    has_ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)


@dataclass
class FileServer:
    """The server at `url`. `requests` keeps path and headers of each request."""

    url: str
    files: dict[str, Hosted] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def header(self, name: str) -> list[str | None]:
        """A header of each request so far, None where it was absent."""
        return [headers.get(name) for _, headers in self.requests]


class _Httpd(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves early is no failure here."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve_files() -> Iterator[FileServer]:
    """A server on a free port, stopped at the end."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            server.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            hosted = server.files.get(path)
            if hosted is None:
                self._reply(404, b"none")
            elif hosted.statuses:
                self._reply(hosted.statuses.pop(0), b"no")
            elif hosted.redirect is not None:
                named = {"x-linked-etag": hosted.linked_etag} if hosted.linked_etag else {}
                self._reply(302, b"", {"location": hosted.redirect, **named})
            else:
                self._send(hosted)

        def _send(self, hosted: Hosted) -> None:
            headers = {"etag": hosted.etag, "last-modified": hosted.last_modified}
            headers |= {"x-linked-etag": hosted.linked_etag}
            given = {name: value for name, value in headers.items() if value}
            found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
            condition = self.headers.get("if-range")
            is_same = condition in (None, hosted.etag, hosted.last_modified)
            cut = hosted.cuts.pop(0) if hosted.cuts else None
            if not (found and is_same and hosted.has_ranges):
                self._reply(200, hosted.content, given, cut)
                return
            start, size = int(found[1]), len(hosted.content)
            if start >= size:
                self._reply(416, b"", {**given, "content-range": f"bytes */{size}"})
                return
            place = f"bytes {start}-{size - 1}/{size}"
            self._reply(206, hosted.content[start:], {**given, "content-range": place}, cut)

        def _reply(
            self,
            status: int,
            body: bytes,
            headers: dict[str, str] | None = None,
            cut: int | None = None,
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:cut])
            if cut is not None:
                self.wfile.flush()
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the tests' output clean."""

    httpd = _Httpd(("127.0.0.1", 0), Handler)
    server = FileServer(f"http://127.0.0.1:{httpd.server_address[1]}")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
