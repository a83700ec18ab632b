"""One signed POST to a receiver, as Standard Webhooks describe it (standardwebhooks.com, version 1).

The signature is HMAC-SHA256 over `ID.TIMESTAMP.BODY`. Where a name leads is looked up here, once, and the connection
goes to what was found: an address that is private is refused unless the webhook allows it, and no redirect is followed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
import ssl
from urllib.parse import SplitResult, urlsplit

from cloud_sync.catalog.webhooks import Target
from cloud_sync.errors import ConfigInvalid, QueryInvalid
from cloud_sync.query.parameters import parse_duration
from wire.clock import NS_PER_S, US_PER_S, Clock

TIMEOUT_S = 10.0  # of a try, from the look-up to the status line
STATUS_LINE_BYTES_MAX = 4096
URL_CHARS_MAX = 500
SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix, not a secret
SECRET_BYTES = 24
ID_BYTES = 6
SILENT_S_MIN, SILENT_S_MAX = 30, 30 * 86_400
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 2.1: the last 32 bits are the address
_NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215: where the address is in it, only that network knows
_METADATA = frozenset(  # of AWS and Google over IPv6, of Alibaba; the others use link-local
    map(ipaddress.ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200"))
)
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r?\n")
_PRINTABLE = re.compile(r"[\x21-\x7e]+")


class NotTaken(Exception):
    """The receiver did not answer with 2xx; the message says what it did."""


def new_secret() -> str:
    """A key for signatures, as receivers' libraries read it."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def new_id() -> str:
    """A webhook's id."""
    return secrets.token_hex(ID_BYTES)


def silence_seconds(text: str) -> int:
    """`--silent-after`. Raises ConfigInvalid."""
    try:
        seconds = parse_duration("--silent-after", text) // US_PER_S
    except QueryInvalid as error:
        raise ConfigInvalid(str(error)) from error
    if not SILENT_S_MIN <= seconds <= SILENT_S_MAX:
        raise ConfigInvalid(f"--silent-after {text} is outside {SILENT_S_MIN} s to {SILENT_S_MAX // 86_400} d")
    return seconds


def checked_url(url: str, allow_private: bool) -> str:
    """Raises ConfigInvalid unless it is one that may be told."""
    try:
        parts = urlsplit(url)
        good = bool(parts.hostname) and parts.port != 0 and parts.username is None and not parts.fragment
    except ValueError:
        good, parts = False, SplitResult("", "", "", "", "")
    if not good or len(url) > URL_CHARS_MAX or not _PRINTABLE.fullmatch(url) or parts.scheme not in ("http", "https"):
        raise ConfigInvalid(f"{url[:80]!r} is no URL of a receiver. Try: https://HOST/PATH")
    if parts.scheme == "http" and not allow_private:
        raise ConfigInvalid(f"{url[:80]!r} is not encrypted. Try: https, or --allow-private within your own network")
    return url


def signature(secret: str, event_id: str, timestamp_s: int, body: bytes) -> str:
    """`v1,` and the HMAC in base64."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error as error:
        raise NotTaken("its secret is damaged. Try: cloud-sync webhook remove, then add") from error
    digest = hmac.new(key, f"{event_id}.{timestamp_s}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


async def post(target: Target, event_id: str, body: str, clock: Clock) -> int:
    """Tell a receiver; its status, 200 to 299. Raises NotTaken."""
    parts = urlsplit(target.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            address = await _address(str(parts.hostname), port, target.allow_private)
            tls = ssl.create_default_context() if parts.scheme == "https" else None
            reader, writer = await asyncio.open_connection(
                address, port, ssl=tls, server_hostname=parts.hostname if tls else None, limit=STATUS_LINE_BYTES_MAX
            )
            try:
                writer.write(_request(target, parts, event_id, body.encode(), clock.wall_ns() // NS_PER_S))
                await writer.drain()
                line = await reader.readline()
            finally:
                writer.transport.abort()
    except TimeoutError as error:
        raise NotTaken(f"no answer within {TIMEOUT_S:.0f} s") from error
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError; an overlong line a ValueError
        raise NotTaken(f"cannot be reached: {error}"[:200]) from error
    match = _STATUS.fullmatch(line)
    if match is None:
        raise NotTaken("its answer is no HTTP" if line else "it closed the connection without an answer")
    status = int(match[1])
    if not 200 <= status <= 299:
        raise NotTaken(f"it answered {status}, which is not 2xx")
    return status


async def _address(host: str, port: int, allow_private: bool) -> str:
    """The address to connect to. Raises NotTaken when none of the host's may be."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if is_allowed(address, allow_private):
            return address
    raise NotTaken(f"{', '.join(addresses)} is private. Try: cloud-sync webhook add --allow-private, if it is yours")


def is_allowed(address: str, allow_private: bool) -> bool:
    """Whether a webhook may lead there. Never to where clouds tell machines their credentials, as on link-local."""
    ip = _behind(ipaddress.ip_address(address.partition("%")[0]))
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip in _METADATA:
        return False
    return allow_private or (ip.is_global and ip not in _NAT64_LOCAL)


def _behind(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 address carries and a translator or tunnel would lead to; else itself."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


def _request(target: Target, parts: SplitResult, event_id: str, body: bytes, now_s: int) -> bytes:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = (
        f"POST {path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "User-Agent: tidegate",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        f"webhook-id: {event_id}",
        f"webhook-timestamp: {now_s}",
        f"webhook-signature: {signature(target.secret, event_id, now_s, body)}",
    )
    return "\r\n".join([*lines, "", ""]).encode() + body
