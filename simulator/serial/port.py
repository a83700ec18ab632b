"""A pseudo-terminal with a part on it: to a program, a tty that can be pulled and plugged in again."""

from __future__ import annotations

import os
import select
import threading
import tty
from pathlib import Path
from typing import Protocol

from wire.clock import Clock

STEP_S = 0.02  # how often a part that speaks by itself is asked
WRITE_BYTES_MAX = 1024  # at once; the rest waits until the program has read


class SerialPart(Protocol):
    """What hangs on the line."""

    def feed(self, data: bytes) -> bytes:
        """Bytes came from the program; the answer, if any."""
        ...

    def emit(self, now_ns: int) -> bytes:
        """What the part says by itself by this boottime."""
        ...


class SerialPort:
    """A link to a pty, served by one thread. Speed and parity are not modelled: a pty has neither."""

    def __init__(self, link: Path, part: SerialPart, clock: Clock) -> None:
        self.link = link
        self.part = part
        self._clock = clock
        self._lock = threading.Lock()
        self._master: int | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"serial {link.name}", daemon=True)
        self.plug()
        self._thread.start()

    def plug(self) -> None:
        """A new tty behind the link, as udev would make one."""
        with self._lock:
            master, slave = os.openpty()
            tty.setraw(slave)
            os.set_blocking(master, False)
            beside = self.link.with_name(self.link.name + ".new")
            beside.unlink(missing_ok=True)
            beside.symlink_to(os.ttyname(slave))
            beside.rename(self.link)
            os.close(slave)
            self._master = master

    def unplug(self) -> None:
        """Hang up, and take the link away."""
        with self._lock:
            master, self._master = self._master, None
            if master is not None:
                os.close(master)
            self.link.unlink(missing_ok=True)

    def close(self) -> None:
        """End the thread and unplug."""
        self._stop.set()
        self._thread.join()
        self.unplug()

    def step(self) -> None:
        """Move bytes both ways, without waiting."""
        with self._lock:
            if self._master is None:
                return
            spoken = self.part.emit(self._clock.boottime_ns())
            try:
                heard = os.read(self._master, 4096)
            except OSError:  # EIO: nobody has the tty open; EAGAIN: nothing came
                heard = b""
            answer = self.part.feed(heard) if heard else b""
            self._write(spoken + answer)

    def _write(self, data: bytes) -> None:
        """As a UART does: what does not fit any more is lost."""
        if self._master is None:
            return
        for at in range(0, len(data), WRITE_BYTES_MAX):
            try:
                os.write(self._master, data[at : at + WRITE_BYTES_MAX])
            except OSError:
                return

    def _run(self) -> None:
        while not self._stop.is_set():
            master = self._master
            if master is None:
                self._stop.wait(STEP_S)
                continue
            try:
                select.select([master], [], [], STEP_S)
            except (OSError, ValueError):  # it was unplugged meanwhile
                continue
            self.step()
            if not self._is_open():
                self._stop.wait(STEP_S)

    def _is_open(self) -> bool:
        """Whether a program has the tty open: until then a select returns at once."""
        with self._lock:
            if self._master is None:
                return False
            poll = select.poll()
            poll.register(self._master, select.POLLIN)
            return not any(events & select.POLLHUP for _, events in poll.poll(0))
