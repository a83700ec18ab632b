"""Any Modbus RTU unit on a serial line, by a table of its registers.

Sources: MODBUS Application Protocol V1.1b3 (cited as AP), MODBUS over Serial Line V1.02. Neighbouring registers are
read together.
"""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hardware.driver import Cell, Channel, Driver, DriverConfig
from hardware.errors import DeviceDataBad, DeviceError, DeviceNoAnswer, ModbusRefused
from hardware.formula import exactly, formula

log = logging.getLogger(__name__)

FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}  # AP 6.1 to 6.4
REGISTERS_MAX = 125  # AP 6.3
BITS_MAX = 2000  # AP 6.1
ILLEGAL_ADDRESS = 2  # AP 7
FORMATS = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}
FLOAT_MIN = 1e-20  # nothing that is measured is so small, but a swapped float32 often is
INT64_MAX = (1 << 63) - 1

Kind = Literal["bit", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]


class Register(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One channel. value = raw * scale + offset for integers; floats come as they are."""

    name: str
    address: Annotated[int, Meta(ge=0, le=0xFFFF)]  # as it goes over the line: from 0, without the 4xxxx of handbooks
    unit: str
    function: Literal["holding", "input", "coil", "discrete"] = "holding"
    type: Kind = "uint16"
    word_order: Literal["big", "little"] = "big"  # which register of a number comes first
    byte_order: Literal["big", "little"] = "big"  # inside a register; the standard knows big only
    scale: float = 1.0
    offset: float = 0.0
    low: float | None = None
    high: float | None = None
    rate_max: Annotated[float, Meta(gt=0)] | None = None
    device_class: str = ""

    def __post_init__(self) -> None:
        if self.is_bit != (self.type == "bit"):
            raise ValueError(
                f'register "{self.name}": a {self.function} is a bit: type = "bit"'
                if self.is_bit
                else f'register "{self.name}": type = "bit" is for coil and discrete'
            )
        if self.scale == 0:
            raise ValueError(f'register "{self.name}": scale = 0 would make every value the same')
        if self.is_float and (self.scale, self.offset) != (1.0, 0.0):
            raise ValueError(f'register "{self.name}": a float comes as it is; leave scale and offset out')
        if self.address + self.size > 0x10000:
            raise ValueError(f'register "{self.name}": {self.size} registers from {self.address} pass 65535')
        self.formula()

    @property
    def is_bit(self) -> bool:
        """A single bit of the tables that hold them."""
        return self.function in ("coil", "discrete")

    @property
    def is_float(self) -> bool:
        """An IEEE 754 number, kept bit by bit."""
        return self.type.startswith("float")

    @property
    def size(self) -> int:
        """How many registers, or bits, it takes."""
        return 1 if self.is_bit else struct.calcsize(FORMATS[self.type]) // 2

    def formula(self) -> tuple[int, int, int]:
        """num, den, off for the channel."""
        return formula(exactly(self.scale), exactly(self.offset))

    def decode(self, words: Sequence[int], swapped: bool = False) -> int | float:
        """The number in its registers; `swapped`: as if the word order were the other one."""
        if self.is_bit:
            return words[0]
        big_first = (self.word_order == "big") != swapped
        ordered = words if big_first else words[::-1]
        data = b"".join(word.to_bytes(2, self.byte_order) for word in ordered)
        value: int | float = struct.unpack(">" + FORMATS[self.type], data)[0]
        return value


class ModbusConfig(DriverConfig, frozen=True):
    """Which unit, and its registers."""

    unit_id: Annotated[int, Meta(ge=1, le=247)]  # Serial Line 2.2
    register: Annotated[tuple[Register, ...], Meta(min_length=1, max_length=1000)]
    answer_timeout: Annotated[float, Meta(ge=0.02, le=10, extra={"kind": "duration"})] = 0.5
    gap: Annotated[int, Meta(ge=0, le=REGISTERS_MAX)] = 8  # registers read in vain to save a request
    batch: Annotated[int, Meta(ge=1, le=REGISTERS_MAX)] = (
        REGISTERS_MAX  # registers per request, for units that take fewer
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """One request: neighbouring registers of one table, by their places in the configuration."""

    function: int
    address: int
    count: int
    places: tuple[int, ...]


def batches_of(registers: Sequence[Register], gap: int, limit: int) -> list[Batch]:
    """As few requests as the gaps allow, each of at most `limit` registers (bits: 16 times as many)."""
    found: list[Batch] = []
    order = sorted(range(len(registers)), key=lambda at: (FUNCTIONS[registers[at].function], registers[at].address))
    for at in order:
        register = registers[at]
        function, end = FUNCTIONS[register.function], register.address + register.size
        room = min(limit * 16, BITS_MAX) if register.is_bit else limit
        last = found[-1] if found else None
        if (
            last is not None
            and last.function == function
            and register.address - (last.address + last.count) <= gap
            and end - last.address <= max(room, last.count)
        ):
            count = max(last.count, end - last.address)
            found[-1] = Batch(function, last.address, count, (*last.places, at))
        else:
            found.append(Batch(function, register.address, register.size, (at,)))
    return found


class Modbus(Driver):
    """One unit. Others may share its line."""

    Config = ModbusConfig
    bus_kind = "serial"

    @classmethod
    def channels_of(cls, config: ModbusConfig) -> Sequence[Channel]:
        """See `Driver`. Floats keep their type, bit by bit."""
        channels = []
        for each in config.register:
            num, den, off = each.formula()
            value_type: Literal["int", "float32", "float64"] = "int"
            if each.is_float:
                value_type = "float32" if each.type == "float32" else "float64"
            channels.append(
                Channel(
                    each.name,
                    each.unit,
                    each.device_class,
                    value_type,
                    num,
                    den,
                    off,
                    each.low,
                    each.high,
                    each.rate_max,
                )
            )
        return channels

    def open(self) -> None:
        """Plan the requests. A unit has no id that all units share: nothing is probed."""
        self._batches = batches_of(self.config.register, self.config.gap, self.config.batch)
        self._suspected: set[str] = set()

    def read(self) -> Sequence[Cell]:
        """All registers. An exception or a garbled answer costs the channels of its request.

        After a silence nothing more is asked in this cycle. Raises DeviceNoAnswer when nothing at all was answered.
        """
        cells: list[Cell] = [DeviceNoAnswer(f"{self._place}: not asked any more after a silence")] * len(
            self.config.register
        )
        answered = False
        todo = list(self._batches)
        while todo:
            batch = todo.pop(0)
            try:
                words = self._request(batch)
            except ModbusRefused as error:
                answered = True
                if error.code == ILLEGAL_ADDRESS and len(batch.places) > 1:
                    alone = [self._alone(place) for place in batch.places]
                    self._batches[self._batches.index(batch) : self._batches.index(batch) + 1] = alone
                    todo = alone + todo
                    continue
                self._fill(cells, batch, error)
            except DeviceDataBad as error:
                answered = True
                self._fill(cells, batch, error)
            except DeviceNoAnswer as error:
                if not answered:
                    raise
                self._fill(cells, batch, error)
                break
            else:
                answered = True
                for place in batch.places:
                    cells[place] = self._cell(self.config.register[place], words, batch.address)
        return cells

    @property
    def _place(self) -> str:
        return f"Modbus unit {self.config.unit_id} on {self.bus.name}"

    def _request(self, batch: Batch) -> list[int]:
        config = self.config
        words: list[int] = self.bus.modbus_read(
            config.unit_id, batch.function, batch.address, batch.count, config.answer_timeout
        )
        return words

    def _alone(self, place: int) -> Batch:
        register = self.config.register[place]
        return Batch(FUNCTIONS[register.function], register.address, register.size, (place,))

    def _fill(self, cells: list[Cell], batch: Batch, error: DeviceError) -> None:
        for place in batch.places:
            cells[place] = error

    def _cell(self, register: Register, words: Sequence[int], start: int) -> Cell:
        at = register.address - start
        mine = words[at : at + register.size]
        raw = register.decode(mine)
        self._suspect_word_order(register, mine, raw)
        if isinstance(raw, int) and raw > INT64_MAX:
            return DeviceDataBad(f"{self._place}: {register.name} = {raw} is over {INT64_MAX}")
        if isinstance(raw, float) and not math.isfinite(raw):
            return DeviceDataBad(f"{self._place}: {register.name} is {raw}")
        return raw

    def _suspect_word_order(self, register: Register, words: Sequence[int], raw: int | float) -> None:
        """Say once when a number lies outside its range and would lie inside with its registers swapped."""
        if register.name in self._suspected or len(words) < 2 or register.low is None or register.high is None:
            return
        other = register.decode(words, swapped=True)
        if not self._is_inside(register, raw) and self._is_inside(register, other):
            self._suspected.add(register.name)
            wanted = "little" if register.word_order == "big" else "big"
            log.warning(
                '%s: %s is %s, outside %g to %g; with its words swapped it would be %s. Try: word_order = "%s"',
                self._place,
                register.name,
                self._value(register, raw),
                register.low,
                register.high,
                self._value(register, other),
                wanted,
            )

    def _is_inside(self, register: Register, raw: int | float) -> bool:
        value = self._value(register, raw)
        if isinstance(raw, float) and 0 < abs(raw) < FLOAT_MIN:
            return False
        return register.low is not None and register.high is not None and register.low <= value <= register.high

    def _value(self, register: Register, raw: int | float) -> float:
        num, den, off = register.formula()
        return (raw * num + off) / den
