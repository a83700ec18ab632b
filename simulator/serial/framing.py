"""How a byte stands on a serial line: data bits, parity, stop bits, as a tty's settings name them."""

from __future__ import annotations

import re
import termios
from dataclasses import dataclass

CFLAGS = termios.CSIZE | termios.PARENB | termios.PARODD | termios.CSTOPB  # what of c_cflag a framing is
BITS = {7: termios.CS7, 8: termios.CS8}
PARITIES = {"N": 0, "E": termios.PARENB, "O": termios.PARENB | termios.PARODD}


@dataclass(frozen=True, slots=True)
class Framing:
    """`parity` is N, E or O."""

    bits: int = 8
    parity: str = "N"
    stop: int = 1

    def __str__(self) -> str:
        return f"{self.bits}{self.parity}{self.stop}"

    @classmethod
    def parse(cls, text: str) -> Framing:
        """`8E1`. Raises ValueError."""
        match = re.fullmatch(r"([78])([NEO])([12])", text)
        if match is None:
            raise ValueError(f"{text!r}: write 7 or 8 bits, parity N, E or O, and 1 or 2 stop bits, as in 8E1")
        return cls(int(match[1]), match[2], int(match[3]))

    @property
    def cflag(self) -> int:
        """As bits of a tty's c_cflag."""
        return BITS[self.bits] | PARITIES[self.parity] | (termios.CSTOPB if self.stop == 2 else 0)

    @property
    def mask(self) -> int:
        """The bits of a byte that arrive."""
        return (1 << self.bits) - 1


def is_heard(framing: Framing, cflag: int) -> bool:
    """Whether a tty of these settings and a part of this framing understand each other. How many stop bits the
    receiver expects does not matter, nor does PARODD without PARENB."""
    wanted = termios.CSIZE | termios.PARENB | (termios.PARODD if cflag & termios.PARENB else 0)
    return cflag & wanted == framing.cflag & wanted
