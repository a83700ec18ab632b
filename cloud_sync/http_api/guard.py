"""What every request and answer passes: the Host header and the size of the body are checked, and the browser is told
what a page may do.

A web page elsewhere could reach the service through a name of its own that resolves to our address (DNS rebinding);
such a request carries that name as Host and is refused. No CORS header is ever sent, so other origins cannot read
answers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOCAL_NAME = "localhost"
BODY_BYTES_MAX = 64 << 10  # forms and small JSON; nothing is uploaded here

SECURITY_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)


def host_name(header: str) -> str:
    """The name or address in a Host header, without port and brackets, lower case."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower() if "]" in header else ""
    return header.partition(":")[0].lower()


def is_known(host: str, names: frozenset[str]) -> bool:
    """Whether a Host is what no one else can point here: an address, `localhost`, or one of our names.

    A name may begin with `*.`, as in a certificate: then it stands for one more label.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == LOCAL_NAME or host in names or f"*.{host.partition('.')[2]}" in names
    return True


def has_bounded_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the request says that its body is small. One that comes in chunks does not."""
    told = [value for name, value in headers if name in (b"content-length", b"transfer-encoding")]
    return not told or (len(told) == 1 and told[0].isdigit() and len(told[0]) < 9 and int(told[0]) <= BODY_BYTES_MAX)


class Guard:
    """ASGI middleware round the whole application. `hosts`: our names, beside any address.

    `misdirected` answers requests with a foreign Host, `too_large` those with a large body.
    """

    def __init__(self, app: App, hosts: tuple[str, ...], misdirected: App, too_large: App) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._misdirected = misdirected
        self._too_large = too_large

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI. Only HTTP is served; a WebSocket is closed by the application below."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                present = {name.lower() for name, _ in headers}
                headers += [header for header in SECURITY_HEADERS if header[0] not in present]
                if b"cache-control" not in present:
                    headers.append((b"cache-control", b"no-store"))
                message["headers"] = headers
            await send(message)

        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        name = host_name(hosts[0]) if len(hosts) == 1 else ""
        if not is_known(name, self._hosts):
            app = self._misdirected
        elif not has_bounded_body(scope["headers"]):
            app = self._too_large
        else:
            app = self._app
        await app(scope, receive, send_guarded)
