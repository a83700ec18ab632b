"""An HTTP server on loopback that serves files and misbehaves as told; each request's path and range are kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """`files` by path. `manner` may answer a request itself: it gets the handler and the file's bytes."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    etag: str = '"v1"'
    manner: Callable[[Handler, bytes], None] | None = None
    seen: list[tuple[str, str]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    """GET with Range and If-Range."""

    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        self.close_connection = True
        self.site.seen.append((self.path, self.headers.get("Range", "")))
        data = self.site.files.get(self.path)
        if data is None:
            self.send_error(404)
        elif self.site.manner is not None:
            self.site.manner(self, data)
        else:
            self.answer(data)

    def answer(self, data: bytes, *, cut: int | None = None, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """The file, or the range that was asked for; `cut`: hang up after so many bytes of it."""
        begin = int(self.headers.get("Range", "bytes=0-")[6:-1])
        fresh = self.headers.get("If-Range", self.site.etag) == self.site.etag
        if begin and self.site.ranges and fresh:
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            data = data[begin:]
        else:
            self.send_response(200)
        self.send_header("ETag", self.site.etag)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data if cut is None else data[:cut])

    def drip(self, data: bytes, seconds: float) -> None:
        """One byte at a time, until the client or the test has enough."""
        for position in range(len(data)):
            if self.site.stopped.wait(seconds):
                return
            try:
                self.wfile.write(data[position : position + 1])
                self.wfile.flush()
            except OSError:
                return

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def serving() -> Iterator[Site]:
    """A site on a free port, until the block ends."""
    site = Site()
    handler = type("SiteHandler", (Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hangs up is no news
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        site.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
