"""The air around the simulated parts: a daily rhythm, weather, and draughts, as a function of time and a seed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

DAY_S = 86_400.0
MEAN_TEMPERATURE_CEL = 21.0
MEAN_PRESSURE_PA = 101_325.0
MEAN_DEW_POINT_CEL = 10.0


@dataclass(frozen=True, slots=True)
class Air:
    """The state of the air at one instant and place."""

    temperature_cel: float
    pressure_pa: float
    humidity_rh: float


@dataclass(frozen=True, slots=True)
class _Wave:
    amplitude: float
    period_s: float
    phase: float

    def at(self, seconds: float) -> float:
        return self.amplitude * math.sin(2 * math.pi * seconds / self.period_s + self.phase)


def saturation_pressure_pa(temperature_cel: float) -> float:
    """Magnus formula over water (Sonntag 1990): 611.2 Pa * exp(17.62 T / (243.12 + T))."""
    return 611.2 * math.exp(17.62 * temperature_cel / (243.12 + temperature_cel))


class World:
    """Smooth, without state: the same seed and instant always give the same air. Noise is the sensor's own."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)

        def wave(amplitude: float, period_s: float) -> _Wave:
            return _Wave(
                amplitude * rng.uniform(0.7, 1.3), period_s * rng.uniform(0.8, 1.2), rng.uniform(0, 2 * math.pi)
            )

        self._temperature = [
            _Wave(3.0, DAY_S, rng.uniform(0, 2 * math.pi)),  # day and night
            wave(1.0, 4 * DAY_S),  # weather
            wave(0.4, 2_400),  # a room's heating
            wave(0.15, 300),  # draughts
            wave(0.05, 47),
        ]
        self._pressure = [
            wave(700, 5 * DAY_S),  # weather
            _Wave(60, DAY_S / 2, rng.uniform(0, 2 * math.pi)),  # the atmospheric tide
            wave(15, 1_800),
            wave(4, 60),
        ]
        self._dew_point = [wave(3.0, 3 * DAY_S), wave(0.6, 3_600), wave(0.2, 240)]

    def at(self, seconds: float) -> Air:
        """The air `seconds` after an arbitrary start."""
        temperature = MEAN_TEMPERATURE_CEL + sum(wave.at(seconds) for wave in self._temperature)
        dew_point = MEAN_DEW_POINT_CEL + sum(wave.at(seconds) for wave in self._dew_point)
        humidity = 100 * saturation_pressure_pa(min(dew_point, temperature)) / saturation_pressure_pa(temperature)
        return Air(temperature, MEAN_PRESSURE_PA + sum(wave.at(seconds) for wave in self._pressure), humidity)
