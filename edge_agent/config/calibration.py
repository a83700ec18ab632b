"""From pairs of measured and true values to the integers of value = (raw * num + off) / den."""

from __future__ import annotations

from math import gcd

from edge_agent.config.model import CalibrateLinear
from hardware.driver import Channel

INT64_MAX = (1 << 63) - 1
STEPS = 1_000_000_000  # slope and shift are kept to this part of one


def scaling(channel: Channel, calibration: CalibrateLinear | None) -> tuple[int, int, int]:
    """(num, off, den) of value = (raw * num + off) / den: the driver's, then the line through the points.

    One point shifts, two give the line, more its least squares. Raises ValueError when the integers pass 63 bits.
    """
    if calibration is None:
        return channel.num, channel.off, channel.den
    slope, shift = fit_line(calibration.calibrate_linear)
    a, b = round(slope * STEPS), round(shift * STEPS)
    num = channel.num * a
    off = channel.off * a + b * channel.den
    den = channel.den * STEPS
    divisor = gcd(num, off, den)
    num, off, den = num // divisor, off // divisor, den // divisor
    if max(abs(num), abs(off), den) > INT64_MAX:
        raise ValueError("calibrate_linear gives a line whose factors pass 63 bits")
    return num, off, den


def fit_line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Slope and shift of true = slope * measured + shift, least squares; slope 1 for a single point."""
    count = len(points)
    mean_x = sum(point[0] for point in points) / count
    mean_y = sum(point[1] for point in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 1.0
    return slope, mean_y - slope * mean_x
