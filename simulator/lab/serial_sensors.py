"""A pump on Modbus and a GNSS receiver, on pseudo-terminals of this process; each writes down what it gave out."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from simulator.lab.count import Cycle
from simulator.serial.gps import KNOT_MPS, SimulatedGps
from simulator.serial.port import SerialPort
from simulator.serial.pump import ENERGY, PRESSURE, SPEED, TEMPERATURE, UNIT_ID, VIBRATION, SimulatedPump
from wire.clock import Clock, SystemClock

READ_HOLDING, READ_INPUT = 3, 4  # MODBUS Application Protocol V1.1b3, 6.3 and 6.4
PUMP_CHANNELS = {"vibration": 0, "energy": 1, "temperature": 10, "pressure": 1, "speed": 1}
GPS_CHANNELS = {
    "latitude": 10_000_000,
    "longitude": 10_000_000,
    "altitude": 100,
    "speed": 1000 / KNOT_MPS,  # told in thousandths of a knot
    "course": 100,
    "satellites": 1,
    "hdop": 100,
    "fix_quality": 1,
}
CALIBRATION_ROWS = 104  # as few as the model takes: 5 s at 50 ms
THRESHOLD = 20.0  # so little calibration has not seen all of the noise: far above the model's own 0.6


class GivingPump(SimulatedPump):
    """A cycle is the answer for the holding registers, and the one for the input registers after it."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self.given: list[Cycle] = []
        self._holding: Cycle = ()
        super().__init__(clock, seed)

    def feed(self, data: bytes) -> bytes:
        """See `SerialPart`."""
        answer = super().feed(data)
        unit = self.units[UNIT_ID]
        if answer and answer[1] == READ_HOLDING:
            words = [unit.holding[VIBRATION + at] for at in range(ENERGY - VIBRATION + 2)]
            self._holding = struct.unpack(">fI", struct.pack(">4H", *words))
        elif answer and answer[1] == READ_INPUT:
            self.given.append((*self._holding, *(unit.input[at] for at in (TEMPERATURE, PRESSURE, SPEED))))
        return answer


class GivingGps(SimulatedGps):
    """A cycle is one burst, read from its own text. No second is told twice."""

    def __init__(self, clock: Clock) -> None:
        self.given: list[Cycle] = []
        self._second = 0
        super().__init__(clock)

    def sentences(self, second: int) -> Sequence[str]:
        """See `SimulatedGps`."""
        self._second = max(second, self._second + 1)
        bodies = super().sentences(self._second)
        gga, rmc = (body.split(",") for body in bodies)
        self.given.append(
            (
                ten_millionths(gga[2], 2),
                ten_millionths(gga[4], 3),
                round(float(gga[9]) * 100),
                round(float(rmc[7]) * 1000),
                round(float(rmc[8]) * 100),
                int(gga[7]),
                round(float(gga[8]) * 100),
                int(gga[6]),
            )
        )
        return bodies


class SerialSensors:
    """Two lines in one gateway's folder. See `LabSensors`."""

    channels: Mapping[str, Mapping[str, float]] = {"pump": PUMP_CHANNELS, "gps": GPS_CHANNELS}

    def __init__(self, folder: Path, seed: int) -> None:
        self._clock = SystemClock()
        self.pump = GivingPump(self._clock, seed)
        self._gps = GivingGps(self._clock)
        self._folder = folder
        self._ports: list[SerialPort] = []

    @property
    def kinds(self) -> str:
        """For the screen."""
        return "Modbus pump, GPS"

    def configuration(self) -> str:
        """Patient time-outs: a busy machine must not make a gap of an answer that was given."""
        return _CONFIG.format(folder=self._folder, rows=CALIBRATION_ROWS, threshold=THRESHOLD)

    def open(self) -> None:
        """Make the lines."""
        self._ports.append(SerialPort(self._folder / "rs485", self.pump, self._clock))
        self._ports.append(SerialPort(self._folder / "gnss", self._gps, self._clock))

    def begin(self) -> None:
        """The pump answers and the receiver talks from `open` on."""

    def given_out(self) -> dict[str, list[Cycle]]:
        """By sensor."""
        return {"pump": list(self.pump.given), "gps": list(self._gps.given)}

    def counted(self, sensor: str, given: Sequence[Cycle], journalled: Collection[Cycle]) -> list[Cycle]:
        """Every answer of the pump; the receiver talks on by itself, and of what it said the agent takes the newest."""
        return [cycle for cycle in given if sensor == "pump" or cycle in journalled]

    def close(self) -> None:
        """Take the lines away."""
        for port in self._ports:
            port.close()
        self._ports.clear()


def ten_millionths(text: str, digits: int) -> int:
    """`5954.83400` as ten millionths of a degree."""
    return round((int(text[:digits]) + float(text[digits:]) / 60) * 10_000_000)


_CONFIG = """\
[bus.rs485]
kind = "serial"
port = "{folder}/rs485"
baud = 19200

[bus.gnss]
kind = "serial"
port = "{folder}/gnss"

[[sensor]]
id = "pump"
driver = "modbus"
bus = "rs485"
unit_id = 1
answer_timeout = "5s"
timeout = "20s"
register = [
  {{ name = "vibration", address = 100, type = "float32", unit = "mm/s", low = 0, high = 50 }},
  {{ name = "energy", address = 102, type = "uint32", unit = "Wh" }},
  {{ name = "temperature", function = "input", address = 0, type = "int16", scale = 0.1, unit = "Cel" }},
  {{ name = "pressure", function = "input", address = 1, unit = "hPa" }},
  {{ name = "speed", function = "input", address = 2, unit = "1/min" }},
]

[[sensor]]
id = "gps"
driver = "nmea-gps"
bus = "gnss"
interval = "1s"
timeout = "10s"

[[model]]
id = "bearing"
name = "value-novelty"
inputs = ["pump.vibration"]
calibration = {rows}
threshold = {threshold:g}
severity = "critical"

"""
