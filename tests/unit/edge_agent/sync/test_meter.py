"""The kernel's counters of a socket that somebody else owns, and the interface a route takes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from edge_agent.sync.meter import SocketMeter
from edge_agent.sync.route import interface_to


@contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket, int]]:
    """Client, server side, port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listener.accept()
            with accepted:
                yield client, accepted, port


def receive(side: socket.socket, count: int) -> None:
    while count:
        count -= len(side.recv(min(count, 65_536)))


def test_both_ways_are_counted_with_their_headers() -> None:
    meter = SocketMeter()
    with connection() as (client, server, port):
        assert meter.find(port, ["127.0.0.1"]) == "127.0.0.1"
        assert meter.is_open
        handshake = meter.spent()
        assert 100 <= handshake <= 400, "three segments"
        client.sendall(b"x" * 1_000_000)
        receive(server, 1_000_000)
        server.sendall(b"y" * 50_000)
        receive(client, 50_000)
        spent = meter.spent()
        assert 1_050_000 < spent < 1_200_000
        assert meter.spent() < 1000, "nothing is counted twice"
    meter.close()


def test_the_last_bytes_are_counted_after_the_owner_closed_its_descriptor() -> None:
    meter = SocketMeter()
    with connection() as (client, server, port):
        meter.find(port, ["127.0.0.1"])
        meter.spent()
        client.sendall(b"x" * 10_000)
        receive(server, 10_000)
        client.shutdown(socket.SHUT_RDWR)
        client.close()
        server.close()
        assert 10_000 < meter.spent() < 12_000
        assert meter.find(port, ["127.0.0.1"]) is None, "it is closed"
        assert not meter.is_open
    meter.close()


def test_only_the_clouds_connections_count_and_no_descriptor_stays() -> None:
    before = len(os.listdir("/proc/self/fd"))
    meter = SocketMeter()
    with connection() as (client, _, port), connection() as (other, _, _):
        assert meter.find(port + 1, ["127.0.0.1"]) is None
        assert meter.find(port, ["192.0.2.1"]) is None
        assert meter.find(port, ["127.0.0.1"]) is not None
        meter.spent()
        other.sendall(b"x" * 10_000)
        assert meter.spent() < 1000
        client.sendall(b"x")
    meter.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_route_is_asked_of_the_kernel() -> None:
    assert interface_to("127.0.0.1") == "lo"
    assert interface_to("127.0.0.1", "127.0.0.1") == "lo"


@pytest.mark.parametrize("address", ["", "no address", "203.0.113.300", "g::1"])
def test_what_is_no_address_has_no_interface(address: str) -> None:
    assert interface_to(address) == ""
