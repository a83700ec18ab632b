"""A link between two network namespaces: real TCP through a small loop that delays, drops and paces packets.

Needs root (namespaces, /dev/net/tun) and iproute2.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET_BYTES_MAX = 65_536
QUEUE_BYTES_MAX = 64_000  # before the paced end, as a modem holds; what comes on top is dropped
LOOK_S_MAX = 0.05
SUBNET, UP, DOWN = "10.99.0.0/24", "10.99.0.1", "10.99.0.2"  # gateway, cloud


class NoLink(Exception):
    """The machine cannot make one; the text says why."""


@dataclass(slots=True)
class Way:
    """One direction."""

    source: int
    target: int
    loss: float
    rate: float  # bytes per second
    delay_s: float
    rng: random.Random
    free: float = 0.0  # when the last byte will have left
    packets: int = 0
    passed: int = 0  # bytes that went over the paced end
    waiting: list[tuple[float, int, bytes]] = field(default_factory=list)

    def take(self, now: float) -> None:
        """A packet comes in."""
        packet = os.read(self.source, PACKET_BYTES_MAX)
        self.free = max(self.free, now)
        if (self.free - now) * self.rate > QUEUE_BYTES_MAX:
            return
        self.free += len(packet) / self.rate
        self.packets += 1
        self.passed += len(packet)
        if self.rng.random() >= self.loss:
            heapq.heappush(self.waiting, (self.free + self.delay_s, self.packets, packet))

    def give(self, now: float) -> None:
        """What is due goes out."""
        while self.waiting and self.waiting[0][0] <= now:
            os.write(self.target, heapq.heappop(self.waiting)[2])


@dataclass(slots=True)
class Link:
    """A running link. Run a command on an end with `within`."""

    up: Way
    down: Way

    @staticmethod
    def within(end: str) -> tuple[str, ...]:
        """The words before a command that run it at the `gateway` or the `cloud` end."""
        return ("ip", "netns", "exec", _name(end))


def _name(end: str) -> str:
    return f"tidegate-{end}-{os.getpid()}"


@contextmanager
def link(
    *, bits_per_s: float, delay_s: float, loss_up: float, congestion: str = "cubic", seed: int = 1
) -> Iterator[Link]:
    """Two namespaces, each with an address (`UP`, `DOWN`); `loss_up`: share of the gateway's packets that are lost.

    `congestion`: TCP's congestion control at both ends; Debian's is cubic.

    Raises NoLink.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None or not os.path.exists("/dev/net/tun"):
        raise NoLink("network namespaces and /dev/net/tun need root and iproute2. Try: sudo")
    made: list[str] = []
    files: list[int] = []
    stop = threading.Event()
    thread = None
    try:
        for end, address in (("gateway", UP), ("cloud", DOWN)):
            _ip("netns", "add", _name(end))
            made.append(_name(end))
            device = end[:2] + str(os.getpid())
            files.append(_tun(_name(end), address, device))
            _ip("-n", _name(end), "route", "replace", SUBNET, "dev", device, "src", address, "congctl", congestion)
        up = Way(files[0], files[1], loss_up, bits_per_s / 8, delay_s, random.Random(seed))
        down = Way(files[1], files[0], 0.0, bits_per_s / 8, delay_s, random.Random(seed + 1))
        thread = threading.Thread(target=_carry, args=(up, down, stop), name="link", daemon=True)
        thread.start()
        yield Link(up, down)
    finally:
        stop.set()
        if thread is not None:
            thread.join()
        for file in files:
            os.close(file)
        for name in made:
            _ip("netns", "del", name)


def _tun(namespace: str, address: str, name: str) -> int:
    """A TUN device whose other end is in a namespace; our end's descriptor."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
        _ip("link", "set", name, "netns", namespace)
        for words in (
            ("link", "set", "lo", "up"),
            ("addr", "add", f"{address}/24", "dev", name),
            ("link", "set", name, "up"),
        ):
            _ip("-n", namespace, *words)
    except BaseException:
        os.close(file)
        raise
    return file


def _carry(up: Way, down: Way, stop: threading.Event) -> None:
    poll = select.poll()
    by_file = {way.source: way for way in (up, down)}
    for file in by_file:
        poll.register(file, select.POLLIN)
    while not stop.is_set():
        now = time.monotonic()
        for way in by_file.values():
            way.give(now)
        due = min((way.waiting[0][0] - now for way in by_file.values() if way.waiting), default=LOOK_S_MAX)
        for file, _ in poll.poll(1000 * max(0.0005, min(due, LOOK_S_MAX))):
            by_file[file].take(time.monotonic())


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        raise NoLink(f"ip {' '.join(words)}: {done.stderr.strip()}")
