"""The conformance kit's far end of a serial line: a pseudo-terminal with known answers and known speech."""

from __future__ import annotations

import os
import select
import threading
import tty
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from hardware.serial_bus import SerialBus

REPEAT_S = 0.05  # a part that speaks by itself says the same so often


class SerialPeer:
    """Answers `replies`, and says `stream` again and again. `garble` flips bits in all it says: not the
    same one, which a sum by exclusive or would not see."""

    def __init__(self, replies: Mapping[bytes, bytes], stream: bytes) -> None:
        self.garble = False
        self._replies = replies
        self._stream = stream
        self._master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(slave)
        self._slave = slave
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="serial peer", daemon=True)
        self._thread.start()

    def hang_up(self) -> None:
        """The adapter is pulled."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            os.close(self._slave)
            os.close(self._master)

    def _run(self) -> None:
        heard = b""
        while not self._stop.is_set():
            if select.select([self._master], [], [], REPEAT_S)[0]:
                heard += os.read(self._master, 4096)
                answer = self._replies.get(heard)
                if answer is not None or len(heard) > max(map(len, self._replies), default=0):
                    heard = b""
                self._say(answer or b"")
            else:
                self._say(self._stream)

    def _say(self, data: bytes) -> None:
        if self.garble:
            data = bytes(byte ^ (1 << at % 7 if at % 13 == 5 % len(data) else 0) for at, byte in enumerate(data))
        with suppress(BlockingIOError):  # nobody reads: a UART loses it too
            os.write(self._master, data)


@contextmanager
def serial_line(replies: Mapping[bytes, bytes], stream: bytes) -> Iterator[tuple[SerialPeer, SerialBus]]:
    """A peer, and the bus that a driver gets."""
    peer = SerialPeer(replies, stream)
    bus = SerialBus(peer.path)
    try:
        yield peer, bus
    finally:
        bus.close()
        peer.hang_up()
