"""One I2C line with parts on it: messages in, bytes out, errors as the kernel's adapter would give them."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simulator.chips.chip import Fault, I2cChip

ADAPTER_TIMEOUT_S = 1.0  # what Linux adapters wait by themselves; a program may set it (I2C_TIMEOUT)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a transaction: bytes to write, or (`data` None) how many to read."""

    address: int
    data: bytes | None
    length: int = 0


class LineFault(Exception):
    """The transaction failed with an errno, after the line was held for `hold_s`."""

    def __init__(self, code: int, hold_s: float = 0.0) -> None:
        super().__init__(errno.errorcode.get(code, str(code)))
        self.code = code
        self.hold_s = hold_s


class I2cLine:
    """The parts of one bus by address."""

    def __init__(self, number: int, chips: Mapping[int, I2cChip]) -> None:
        self.number = number
        self.chips = dict(chips)
        self.timeout_s = ADAPTER_TIMEOUT_S
        self.transactions = 0

    def transact(self, messages: Sequence[Message]) -> list[bytes]:
        """Do the messages in order; one answer per read. Raises LineFault."""
        self.transactions += 1
        answers = []
        for message in messages:
            chip = self.chips.get(message.address)
            if chip is None or chip.fault is Fault.NAK:
                raise LineFault(errno.EREMOTEIO)
            if chip.fault is Fault.HANG:
                raise LineFault(errno.ETIMEDOUT, self.timeout_s)
            if message.data is None:
                answers.append(chip.read(message.length))
            else:
                chip.write(message.data)
        return answers
