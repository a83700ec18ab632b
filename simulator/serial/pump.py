"""A pump with a Modbus RTU unit on it, whose bearing may wear out."""

from __future__ import annotations

import math
import random
import struct

from simulator.serial.modbus import ModbusLine, Unit
from wire.clock import NS_PER_S, Clock

UNIT_ID = 1
TEMPERATURE, PRESSURE, SPEED = 0, 1, 2  # input registers: 0.1 Cel (int16), hPa, 1/min
VIBRATION = 100  # holding registers 100 and 101: mm/s, float32, high word first
ENERGY = 102  # holding registers 102 and 103: Wh, uint32, high word first
RUNNING = 0  # coil


class SimulatedPump(ModbusLine):
    """`wear` from 0 (new) to 1 (ruined) may be changed at any time: vibration, and later heat, follow it."""

    def __init__(self, clock: Clock, seed: int = 1) -> None:
        self.wear = 0.0
        self._clock = clock
        self._start_ns = clock.boottime_ns()
        self._rng = random.Random(seed)
        super().__init__({UNIT_ID: Unit()})

    def feed(self, data: bytes) -> bytes:
        """See `SerialPart`: the registers are those of the moment of the request."""
        self._measure((self._clock.boottime_ns() - self._start_ns) / NS_PER_S)
        return super().feed(data)

    def _measure(self, second: float) -> None:
        unit, gauss = self.units[UNIT_ID], self._rng.gauss
        load = 1 + 0.1 * math.sin(2 * math.pi * second / 180)
        temperature = 48 + 4 * load + 12 * self.wear**2 + gauss(0, 0.05)
        vibration = abs(1.8 * load + 6 * self.wear + gauss(0, 0.06 * (1 + 8 * self.wear)))
        unit.input = {
            TEMPERATURE: round(temperature * 10) & 0xFFFF,
            PRESSURE: round(3200 * load + gauss(0, 4)),
            SPEED: round(2950 - 20 * load + gauss(0, 1)),
        }
        words = struct.unpack(">4H", struct.pack(">fI", vibration, int(2.2 * second)))
        unit.holding = {VIBRATION + at: word for at, word in enumerate(words)}
        unit.coil = {RUNNING: 1}
