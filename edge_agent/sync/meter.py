"""Bytes that this process' connections to the cloud cost on the wire, as the kernel counts them.

gRPC keeps its socket to itself, so it is looked for among our own descriptors by its peer, and read through a second
descriptor of it: TCP_INFO (tcp(7)) has every byte, TLS and HTTP/2 included, and every segment. The second descriptor
outlives gRPC's, so that the last bytes of a lost connection are counted too.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

# struct tcp_info of linux/tcp.h: tcpi_options at 5, tcpi_bytes_received at 128, tcpi_segs_out, tcpi_segs_in,
# tcpi_bytes_sent at 200 (Linux 4.19; with what was sent again)
INFO_BYTES = 208
OPTION_TIMESTAMPS = 1
TCP_HEADER, TIMESTAMPS, IPV4_HEADER, IPV6_HEADER = 20, 12, 20, 40
CLOSED = 7  # TCP_CLOSE
MAPPED = "::ffff:"  # an IPv4 peer of an IPv6 socket


@dataclass(slots=True)
class _Connection:
    inode: int
    socket: socket.socket
    ipv4: bool
    counted: int = 0

    def total(self) -> int:
        """Bytes of IP, both ways."""
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
        if len(info) < INFO_BYTES:
            return self.counted  # a kernel before 4.19
        received, out, back = struct.unpack_from("=QII", info, 128)
        (sent,) = struct.unpack_from("=Q", info, 200)
        header = TCP_HEADER + (TIMESTAMPS if info[5] & OPTION_TIMESTAMPS else 0)
        header += IPV4_HEADER if self.ipv4 else IPV6_HEADER
        return int(sent + received + (out + back) * header)

    def is_closed(self) -> bool:
        return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == CLOSED


class SocketMeter:
    """Not thread-safe. Closed by `close`, after gRPC has closed its own descriptors."""

    def __init__(self) -> None:
        self._connections: dict[int, _Connection] = {}

    def find(self, port: int, addresses: Collection[str]) -> str | None:
        """Take up every connection of ours to one of the addresses at the port; the local address of the last one.

        None: there is none yet.
        """
        local = None
        for descriptor in _sockets():
            with suppress(OSError):  # closed meanwhile
                inode = os.fstat(descriptor).st_ino
                known = self._connections.get(inode) or self._take(descriptor, inode, port, addresses)
                if known is not None and not known.is_closed():
                    local = known.socket.getsockname()[0].removeprefix(MAPPED)
        return local

    @property
    def is_open(self) -> bool:
        """Whether a connection that was taken up lives."""
        return any(not connection.is_closed() for connection in self._connections.values())

    def spent(self) -> int:
        """Bytes since the last call."""
        count = 0
        for connection in [*self._connections.values()]:
            with suppress(OSError):
                total = connection.total()
                count += max(0, total - connection.counted)
                connection.counted = max(connection.counted, total)
        return count

    def close(self) -> None:
        """Let go of the descriptors."""
        for connection in self._connections.values():
            connection.socket.close()
        self._connections.clear()

    def _take(self, descriptor: int, inode: int, port: int, addresses: Collection[str]) -> _Connection | None:
        second = socket.socket(fileno=os.dup(descriptor))
        try:
            if second.family in (socket.AF_INET, socket.AF_INET6) and second.type == socket.SOCK_STREAM:
                peer = second.getpeername()
                if peer[1] == port and peer[0].removeprefix(MAPPED) in addresses:
                    ipv4 = second.family == socket.AF_INET or peer[0].startswith(MAPPED)
                    taken = self._connections[inode] = _Connection(inode, second, ipv4)
                    return taken
        except OSError:
            pass  # not connected (yet)
        second.close()
        return None


def _sockets() -> list[int]:
    """Our descriptors that are sockets."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                found.append(int(name))
    return found
