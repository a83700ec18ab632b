"""A pseudo-terminal with a part on it: to a program, a tty that can be pulled and plugged in again."""

from __future__ import annotations

import fcntl
import os
import select
import threading
import tty
from pathlib import Path
from typing import Protocol

from simulator.serial.framing import Framing, is_heard
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
    """A link to a pty, served by one thread. Speed is not modelled; a pty has none.

    With a `framing` the part understands, and is understood by, only a program that set the same; `cflag` says what
    the program set, as far as somebody notes it (`termios_calls`). Without one, everything is understood.
    """

    def __init__(self, link: Path, part: SerialPart, clock: Clock, framing: Framing | None = None) -> None:
        self.link = link
        self.part = part
        self.framing = framing
        self.cflag = Framing().cflag
        self.device: str | None = None  # the tty behind the link
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
            self.device = os.ttyname(slave)
            self.cflag = Framing().cflag
            os.close(slave)
            self._master = master

    def unplug(self) -> None:
        """Hang up, and take the link away."""
        with self._lock:
            master, self._master, self.device = self._master, None, None
            if master is not None:
                os.close(master)
            self.link.unlink(missing_ok=True)

    def close(self) -> None:
        """End the thread and unplug."""
        self._stop.set()
        self._thread.join()
        self.unplug()

    def settings(self, command: int, length: int) -> bytearray | None:
        """What an ioctl says of the tty's settings; None when it is pulled."""
        with self._lock:
            if self._master is None:
                return None
            found = bytearray(length)
            try:
                fcntl.ioctl(self._master, command, found)
            except OSError:
                return None
            return found

    def step(self) -> None:
        """Move bytes both ways, without waiting."""
        with self._lock:
            if self._master is None:
                return
            spoken = self.part.emit(self._clock.boottime_ns())
            try:
                heard = self._framed(os.read(self._master, 4096))
            except OSError:  # EIO: nobody has the tty open; EAGAIN: nothing came
                heard = b""
            answer = self.part.feed(heard) if heard else b""
            self._write(self._framed(spoken + answer))

    def _framed(self, data: bytes) -> bytes:
        """What arrives of it: nothing between other framings (each byte is a parity or framing error)."""
        if self.framing is None:
            return data
        if not is_heard(self.framing, self.cflag):
            return b""
        return bytes(byte & self.framing.mask for byte in data)

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
