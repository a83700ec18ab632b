"""A Modbus unit whose every answer holds numbers that were never given before; it writes them down."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from simulator.lab.count import Cycle
from simulator.serial.modbus import ModbusLine, Unit, UnitFault
from simulator.serial.port import SerialPort
from wire.clock import SystemClock

SENSOR = "counter"
WIDTH = 6  # numbers in an answer
CHANNELS = {f"n{at}": 1.0 for at in range(WIDTH)}
READ_INPUT = 4  # MODBUS Application Protocol V1.1b3, 6.4


class CountingUnit(ModbusLine):
    """Input registers 0 to 11: six uint32 that go on from answer to answer, from `start` + 1."""

    def __init__(self, start: int = 0) -> None:
        self.given: list[Cycle] = []
        self._number = start
        self.unit = Unit()
        super().__init__({1: self.unit})

    def feed(self, data: bytes) -> bytes:
        """See `SerialPart`."""
        cycle = tuple(range(self._number + 1, self._number + 1 + WIDTH))
        words = [word for number in cycle for word in (number >> 16, number & 0xFFFF)]
        self.unit.input = dict(enumerate(words))
        answer = super().feed(data)
        if len(answer) > 1 and answer[1] == READ_INPUT:
            self._number += WIDTH
            self.given.append(cycle)
        return answer


class CounterSensors:
    """See `LabSensors`."""

    kinds = "Modbus counter"
    channels: Mapping[str, Mapping[str, float]] = {SENSOR: CHANNELS}

    def __init__(self, folder: Path, seed: int) -> None:
        self.line = CountingUnit()
        self._folder = folder
        self._port: SerialPort | None = None

    def configuration(self) -> str:
        """Patient time-outs: a busy machine must not make a gap of an answer that was given."""
        registers = "\n".join(
            f'  {{ name = "n{at}", function = "input", address = {2 * at}, type = "uint32", unit = "count" }},'
            for at in range(WIDTH)
        )
        return _CONFIG.format(folder=self._folder, registers=registers)

    def open(self) -> None:
        """Make the line, once."""
        if self._port is None:
            self._port = SerialPort(self._folder / "rs485", self.line, SystemClock())

    def begin(self) -> None:
        """It answers from `open` on."""

    def quiet(self) -> None:
        """Answer no more."""
        self.line.unit.fault = UnitFault.SILENT

    def given_out(self) -> dict[str, list[Cycle]]:
        """By sensor."""
        return {SENSOR: list(self.line.given)}

    def counted(self, sensor: str, given: Sequence[Cycle], journalled: Collection[Cycle]) -> list[Cycle]:
        """Every answer."""
        return list(given)

    def close(self) -> None:
        """Take the line away."""
        if self._port is not None:
            self._port.close()


_CONFIG = """\
[bus.rs485]
kind = "serial"
port = "{folder}/rs485"

[[sensor]]
id = "counter"
driver = "modbus"
bus = "rs485"
unit_id = 1
answer_timeout = "5s"
timeout = "20s"
register = [
{registers}
]

"""
