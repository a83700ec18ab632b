"""Fetching files over HTTP with bounds on everything: length, time without a byte, rate, redirects and their schemes.

What comes is not trusted: who reads it checks hash or signature. So certificates protect privacy here, not integrity.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import SplitResult, urljoin, urlsplit

from edge_agent.ota.errors import FetchFailed, FileMissing
from wire.clock import NS_PER_S, Clock

READ_BYTES = 64 << 10
REDIRECTS_MAX = 5
DEFAULT_PORTS = {"http": 80, "https": 443}
MISSING = frozenset({403, 404, 410})
AGENT = "tidegate"


class Body(Protocol):
    """The bytes of a file from `offset` on. `validator`: the server's name for this version of it, or empty."""

    offset: int
    validator: str

    def read(self, most: int) -> bytes:
        """At least one byte, at most `most`; empty at the end. Raises FetchFailed."""
        ...


class Fetcher(Protocol):
    """The network, as the update client sees it."""

    def open(self, url: str, offset: int = 0, validator: str = "") -> AbstractContextManager[Body]:
        """Begin to read a file, where possible at `offset`; the body says where it really begins.

        With a validator the server begins at 0 when the file is not that version any more.
        Raises FetchFailed, FileMissing.
        """
        ...


def fetch_bytes(fetcher: Fetcher, url: str, most: int) -> bytes:
    """A whole file of at most `most` bytes; what lies beyond is not read. Raises FetchFailed, FileMissing."""
    parts, left = [], most + 1
    with fetcher.open(url) as body:
        while left and (data := body.read(min(left, READ_BYTES))):
            parts.append(data)
            left -= len(data)
    if not left:
        raise FetchFailed(f"{url} is longer than {most} bytes", "too_long")
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server may take. Below `bytes_per_s_min` over `window_s` seconds it is given up."""

    answer_s: float = 30.0  # from connecting to the end of the headers
    gap_s: float = 20.0  # without a byte
    bytes_per_s_min: float = 100.0
    window_s: float = 20.0


class HttpFetcher:
    """A `Fetcher` over http and https. `tls` holds the CAs and, where the server wants one, the client certificate."""

    def __init__(self, clock: Clock, patience: Patience | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._clock = clock
        self._patience = patience or Patience()
        self._tls = tls

    @contextmanager
    def open(self, url: str, offset: int = 0, validator: str = "") -> Iterator[Body]:
        """See `Fetcher`."""
        at = _split(url)
        for _ in range(REDIRECTS_MAX + 1):
            with (
                closing(http.client.HTTPConnection(at.hostname or "")) as connection,
                closing(self._answer(connection, at, offset, validator)) as response,
            ):
                target = response.getheader("Location")
                if not (300 <= response.status < 400 and target):
                    yield self._body(at, response, offset)
                    return
            at = _redirected(at, target)
        raise FetchFailed(f"{url}: more than {REDIRECTS_MAX} redirects", "refused")

    def _answer(
        self, connection: http.client.HTTPConnection, at: SplitResult, offset: int, validator: str
    ) -> http.client.HTTPResponse:
        """Connect, ask and read the headers, within `answer_s` however slowly they drip."""
        headers = {
            "Host": at.netloc.rpartition("@")[2],
            "User-Agent": AGENT,
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if validator:
                headers["If-Range"] = validator
        path = (at.path or "/") + (f"?{at.query}" if at.query else "")
        guard: threading.Timer | None = None
        late = threading.Event()
        try:
            line = self._line(at)
            connection.sock = line
            guard = threading.Timer(self._patience.answer_s, _hang_up, (line, late))
            guard.daemon = True
            guard.start()
            if isinstance(line, ssl.SSLSocket):
                line.do_handshake()
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise FetchFailed(f"{at.geturl()}: {error or type(error).__name__}", "unreachable") from error
        finally:
            if guard is not None:
                guard.cancel()
        if late.is_set():  # then the end of the connection looked like the end of the headers
            response.close()
            raise FetchFailed(f"{at.geturl()}: no whole answer in {self._patience.answer_s:g} s", "too_slow")
        return response

    def _line(self, at: SplitResult) -> socket.socket:
        """A connected socket, the TLS handshake still to come. Raises OSError."""
        address = (at.hostname or "", at.port or DEFAULT_PORTS[at.scheme])
        line = socket.create_connection(address, timeout=self._patience.gap_s)
        if at.scheme != "https":
            return line
        tls = self._tls or ssl.create_default_context()
        return tls.wrap_socket(line, server_hostname=address[0], do_handshake_on_connect=False)

    def _body(self, at: SplitResult, response: http.client.HTTPResponse, offset: int) -> Body:
        url = at.geturl()
        if response.status in MISSING:
            raise FileMissing(f"{url}: {response.status} {response.reason}")
        if response.status == 416:
            raise FetchFailed(f"{url} ends before byte {offset}", "cut_short")
        if response.status not in {200, 206}:
            raise FetchFailed(f"{url}: {response.status} {response.reason}", "refused")
        coding = response.getheader("Content-Encoding", "identity")
        if coding.lower() != "identity":
            raise FetchFailed(f"{url}: content is encoded as {coding}, which was not asked for", "refused")
        begins = _range_start(response) if response.status == 206 else 0
        if begins not in {0, offset}:
            raise FetchFailed(f"{url}: asked for bytes from {offset} on, they begin at {begins}", "refused")
        return _HttpBody(url, response, begins, self._clock, self._patience)


class _HttpBody:
    """See `Body`."""

    def __init__(
        self, url: str, response: http.client.HTTPResponse, offset: int, clock: Clock, patience: Patience
    ) -> None:
        self.offset = offset
        self.validator = response.getheader("ETag", "")
        self._url = url
        self._response = response
        self._clock = clock
        self._patience = patience
        self._since_ns = clock.boottime_ns()
        self._in_window = 0

    def read(self, most: int) -> bytes:
        """See `Body`."""
        try:
            data = self._response.read1(most)
        except TimeoutError as error:
            raise FetchFailed(f"{self._url}: no byte for {self._patience.gap_s:g} s", "too_slow") from error
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a chunk size that is none
            raise FetchFailed(f"{self._url}: {error or type(error).__name__}", "cut_short") from error
        if not data and self._response.length:
            raise FetchFailed(f"{self._url}: {self._response.length} bytes are missing at the end", "cut_short")
        self._mind_rate(len(data))
        return data

    def _mind_rate(self, count: int) -> None:
        self._in_window += count
        passed_s = (self._clock.boottime_ns() - self._since_ns) / NS_PER_S
        if passed_s < self._patience.window_s:
            return
        rate = self._in_window / passed_s
        if count and rate < self._patience.bytes_per_s_min:
            raise FetchFailed(
                f"{self._url}: {rate:.0f} bytes/s, {self._patience.bytes_per_s_min:g} are the least", "too_slow"
            )
        self._since_ns, self._in_window = self._clock.boottime_ns(), 0


def _split(url: str) -> SplitResult:
    try:
        at = urlsplit(url)
        port = at.port
    except ValueError as error:
        raise FetchFailed(f"{url[:200]}: {error}", "refused") from error
    if at.scheme not in DEFAULT_PORTS or not at.hostname or port == 0:
        raise FetchFailed(f"{url[:200]}: only http and https are fetched", "refused")
    return at


def _redirected(at: SplitResult, target: str) -> SplitResult:
    """Where a redirect leads. Raises FetchFailed for another scheme than http and https, and from https to http."""
    there = _split(urljoin(at.geturl(), target))
    if at.scheme == "https" and there.scheme != "https":
        raise FetchFailed(f"{at.geturl()} redirects from https to {there.scheme}", "refused")
    return there


def _range_start(response: http.client.HTTPResponse) -> int:
    """First byte of `Content-Range: bytes first-last/length`; -1 when it says nothing of the kind."""
    unit, _, span = response.getheader("Content-Range", "").partition(" ")
    first = span.partition("-")[0]
    return int(first) if unit == "bytes" and first.isascii() and first.isdigit() and len(first) < 20 else -1


def _hang_up(line: socket.socket, late: threading.Event) -> None:
    late.set()
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
