"""One channel between the driver and the tick: its filters, and the doubts that become quality bits."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from edge_agent.config.calibration import scaling
from edge_agent.config.model import ChannelPlan, Delta, Median, Throttle
from hardware.driver import Raw
from wire.clock import US_PER_S
from wire.reading import CellState, Quality
from wire.series import SeriesDef, ValueType

VALUE_TYPES = {"int": ValueType.INT, "float32": ValueType.FLOAT32, "float64": ValueType.FLOAT64}
INT64_MAX = (1 << 63) - 1
INT64_MIN = -INT64_MAX  # -2^63 is no count: its magnitude would not fit
ALMOST = 1 - 1e-9  # a change of exactly `delta` passes, whatever float arithmetic makes of it

Cell = tuple[Raw, int, int]  # raw, CellState, Quality


def series_def(sensor_id: str, plan: ChannelPlan) -> SeriesDef:
    """What this channel's numbers mean, calibration included. Raw stays as the driver gave it."""
    channel = plan.channel
    num, off, den = scaling(channel, plan.calibration)
    return SeriesDef(
        sensor=sensor_id,
        channel=channel.name,
        unit=channel.unit,
        value_type=VALUE_TYPES[channel.value_type],
        num=num,
        den=den,
        off=off,
        device_class=channel.device_class,
        low=plan.low,
        high=plan.high,
        rate_max=plan.rate_max,
        calibration=plan.calibration.version if plan.calibration else 0,
    )


class Latest(NamedTuple):
    """What a channel brought last. Times are boot-relative microseconds; raw is of the last value."""

    state: int
    value_us: int = -1  # -1: never a value
    raw: Raw = 0
    quality: int = 0


class PlainRows:
    """Rows of a sensor's counts that pass as they are, noted once for all its channels. Read by any thread."""

    def __init__(self) -> None:
        self.last: tuple[int, Sequence[Raw | CellState]] = (-1, ())  # stamp in microseconds, cells; -1: never a row
        self.rows = 0

    def take(self, cells: Sequence[Raw | CellState], stamp_us: int) -> bool:
        """As `ChannelFlow.step` for each cell, where all channels let them pass (`ChannelFlow.plain_us`). The cells are
        kept and not to be changed any more.

        False, and nothing is done, where a cell is no count.
        """
        if not {int}.issuperset(map(type, cells)) or min(cells) < INT64_MIN or max(cells) > INT64_MAX:
            return False
        self.last = (stamp_us, cells)
        self.rows += 1
        return True


class ChannelFlow:
    """Steps cell by cell. Used by one thread at a time; `latest`, `values` and `gaps` may be read by any."""

    def __init__(self, sensor_id: str, plan: ChannelPlan, plain: PlainRows, place: int) -> None:
        """`plain`: its sensor's; `place`: its cell in them."""
        self.plan = plan
        self._plain, self._place = plain, place
        self.definition = definition = series_def(sensor_id, plan)
        self._latest: tuple[int, int, Raw, int] | None = None  # the fields of `latest`
        self._values = 0
        self.gaps = 0
        self._is_int = definition.value_type is ValueType.INT
        self._num, self._den = definition.num, definition.den
        self._low = float("-inf") if plan.low is None else plan.low * definition.den - definition.off
        self._high = float("inf") if plan.high is None else plan.high * definition.den - definition.off
        self._watches_range = plan.low is not None or plan.high is not None
        self._rate = None if plan.rate_max is None else plan.rate_max * definition.den / US_PER_S
        self._stuck = plan.stuck
        self._filters = plan.filters
        self._stale_us = round(plan.stale * US_PER_S)
        self._doubts = int(Quality.UNCALIBRATED) if plan.needs_calibration and plan.calibration is None else 0
        self._previous: tuple[Raw, int] | None = None  # filtered value and its stamp: for the rate of change
        self._same: Raw | None = None
        self._same_count = 0
        self._windows = [deque[Raw](maxlen=each.median) for each in plan.filters if isinstance(each, Median)]
        self._taken_raw: Raw = 0
        self._taken_us = -1  # of the last cell that was taken, value or gap
        self._taken_state = -1

    @property
    def plain_us(self) -> int:
        """How late a count may come that passes as it is, without a doubt or a filter; -1: each must be looked at."""
        judges = self._doubts or self._stuck or self._watches_range or self._rate is not None
        return self._stale_us if self._is_int and not (judges or self._filters) else -1

    @property
    def latest(self) -> Latest | None:
        """What it brought last; None before the first cycle."""
        (stamp_us, cells), stepped = self._plain.last, self._latest
        if stamp_us > (-1 if stepped is None else stepped[1]):
            return Latest(CellState.VALUE, stamp_us, cells[self._place])
        return None if stepped is None else Latest(*stepped)

    @property
    def values(self) -> int:
        """How many it brought."""
        return self._values + self._plain.rows

    def step(self, cell: Raw | CellState, stamp_us: int, late_us: int = 0) -> Cell:
        """Filter and judge one cell, `late_us` after its cycle's stamp.

        The state is ABSENT where a filter holds the cell back. A gap passes the filters once; while it lasts, it is
        an unchanged value to them.
        """
        if type(cell) is CellState:
            return self._gap(cell, stamp_us)
        if self._is_int:
            if type(cell) is not int:
                return self._gap(CellState.DRIVER_ERROR, stamp_us)
            if not INT64_MIN <= cell <= INT64_MAX:
                return self._gap(CellState.BAD_DATA, stamp_us)
        raw: Raw = cell
        quality = self._doubts
        if self._stuck:
            quality |= self._judge_stuck(raw)
        for window in self._windows:
            window.append(raw)
            raw = sorted(window)[(len(window) - 1) // 2]
        if self._watches_range and not self._low <= raw * self._num <= self._high:
            quality |= Quality.RANGE
        if self._rate is not None:
            quality |= self._judge_rate(raw, stamp_us)
        if late_us > self._stale_us:
            quality |= Quality.STALE
        self._latest = (0, stamp_us, raw, quality)
        if self._filters and not self._passes(raw, CellState.VALUE, stamp_us):
            return 0, CellState.ABSENT, 0
        self._values += 1
        return raw, 0, quality

    def _gap(self, state: CellState, stamp_us: int) -> Cell:
        self._latest = (state, *(self.latest or Latest(state))[1:])
        if state is CellState.ABSENT or (self._filters and not self._passes(0, state, stamp_us)):
            return 0, CellState.ABSENT, 0
        self.gaps += 1
        return 0, state, 0

    def _judge_stuck(self, raw: Raw) -> int:
        self._same_count = self._same_count + 1 if raw == self._same else 1
        self._same = raw
        return Quality.STUCK if self._same_count >= self._stuck else 0

    def _judge_rate(self, raw: Raw, stamp_us: int) -> int:
        previous, self._previous = self._previous, (raw, stamp_us)
        if previous is None or self._rate is None or stamp_us <= previous[1]:
            return 0
        change = abs((raw - previous[0]) * self._num)
        return Quality.RATE if change > self._rate * (stamp_us - previous[1]) else 0

    def _passes(self, raw: Raw, state: int, stamp_us: int) -> bool:
        """Whether every filter lets the cell through; a change between value and gap always goes."""
        passes = state != self._taken_state or all(
            self._passes_one(each, raw, state, stamp_us - self._taken_us) for each in self._filters
        )
        if passes:
            self._taken_raw, self._taken_us, self._taken_state = raw, stamp_us, state
        return passes

    def _passes_one(self, each: Median | Delta | Throttle, raw: Raw, state: int, elapsed_us: int) -> bool:
        if isinstance(each, Throttle):
            return elapsed_us >= each.throttle * US_PER_S * ALMOST
        if isinstance(each, Delta):
            if each.heartbeat and elapsed_us >= each.heartbeat * US_PER_S * ALMOST:
                return True
            if state != CellState.VALUE:
                return False
            return not abs((raw - self._taken_raw) * self._num) < each.delta * self._den * ALMOST
        return True
