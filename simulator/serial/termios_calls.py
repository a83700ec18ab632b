"""Settings that a pseudo-terminal does not have, kept for it: data bits, parity, stop bits.

The kernel's pty drops parity and 7 bits from every TCSETS without a word, and the C library's tcsetattr then looks
with TCGETS and says EINVAL. So what a program sets is noted here and put into what TCGETS answers.
Source: asm-generic/termbits.h (struct termios), asm-generic/ioctls.h; drivers/tty/pty.c, pty_set_termios.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from typing import Protocol

from simulator.i2c_line import LineFault
from simulator.serial.framing import CFLAGS
from simulator.serial.port import SerialPort

TCGETS, TCSETS, TCSETSF = 0x5401, 0x5402, 0x5404  # between the last two: TCSETSW
CFLAG = struct.Struct("=I")
CFLAG_AT = 8  # after c_iflag and c_oflag
TERMIOS_BYTES = 36  # four flag words, c_line, 19 control characters


class Memory(Protocol):
    """A caller's struct termios."""

    def load(self) -> bytes: ...
    def store(self, data: bytes) -> None: ...


class Terminals:
    """The ports of a bench, as ttys with all settings."""

    def __init__(self, ports: Sequence[SerialPort]) -> None:
        self._ports = ports

    def port(self, device: str) -> SerialPort | None:
        """The port whose tty this is now."""
        return next((port for port in self._ports if port.device == device), None)

    def answer(self, port: SerialPort, command: int, memory: Memory) -> bool:
        """Note what is set, or answer TCGETS. False: the kernel has to do the call all the same.

        Raises LineFault: the caller's memory is gone, or the tty was pulled.
        """
        if TCSETS <= command <= TCSETSF:
            port.cflag = CFLAG.unpack_from(memory.load(), CFLAG_AT)[0] & CFLAGS
            return False
        if command != TCGETS:
            return False
        found = port.settings(TCGETS, TERMIOS_BYTES)
        if found is None:
            raise LineFault(errno.EIO)
        (cflag,) = CFLAG.unpack_from(found, CFLAG_AT)
        CFLAG.pack_into(found, CFLAG_AT, cflag & ~CFLAGS | port.cflag)
        memory.store(bytes(found))
        return True
