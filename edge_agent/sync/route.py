"""By which interface traffic to an address leaves: the kernel's own answer (rtnetlink(7), RTM_GETROUTE)."""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import ip_address

RTM_GETROUTE, RTM_NEWROUTE, NLM_F_REQUEST = 26, 24, 1
RTA_DST, RTA_SRC, RTA_OIF = 1, 2, 4
HEADER, ROUTE, ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBBBBBBBI"), struct.Struct("=HH")
ANSWER_BYTES_MAX = 16_384
ANSWER_S_MAX = 1.0


def interface_to(address: str, source: str | None = None) -> str:
    """The interface's name; empty where there is no route, or the kernel may not be asked.

    `source`: the connection's own address, where rules look at it (ip-rule(8)).
    """
    try:
        target, origin = ip_address(address), None if source is None else ip_address(source)
        request = _request(target.packed, None if origin is None or origin.version != target.version else origin.packed)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
            kernel.settimeout(ANSWER_S_MAX)
            kernel.sendto(request, (0, 0))
            answer = kernel.recv(ANSWER_BYTES_MAX)
        index = _interface_of(answer)
        return "" if index is None else socket.if_indextoname(index)
    except (OSError, ValueError, struct.error):
        return ""


def _request(target: bytes, origin: bytes | None) -> bytes:
    family = socket.AF_INET if len(target) == 4 else socket.AF_INET6
    bits = len(target) * 8
    body = ROUTE.pack(family, bits, bits if origin else 0, 0, 0, 0, 0, 0, 0)
    for kind, value in ((RTA_DST, target), (RTA_SRC, origin)):
        if value is not None:
            body += ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value
    return HEADER.pack(HEADER.size + len(body), RTM_GETROUTE, NLM_F_REQUEST, 1, os.getpid()) + body


def _interface_of(answer: bytes) -> int | None:
    length, kind, *_ = HEADER.unpack_from(answer)
    if kind != RTM_NEWROUTE:
        return None
    at = HEADER.size + ROUTE.size
    while at + ATTRIBUTE.size <= min(length, len(answer)):
        size, name = ATTRIBUTE.unpack_from(answer, at)
        if name == RTA_OIF:
            return int(struct.unpack_from("=I", answer, at + ATTRIBUTE.size)[0])
        at += max(ATTRIBUTE.size, size + 3 & ~3)
    return None
