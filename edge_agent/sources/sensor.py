"""One sensor's life: opened when needed, retried with back-off, its loss told once and its recovery once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from edge_agent.config.model import SensorPlan
from edge_agent.config.values import show_duration
from edge_agent.sources.channel import ChannelFlow, PlainRows
from hardware.driver import Driver, Raw
from hardware.errors import (
    BusDown,
    DeviceDataBad,
    DeviceError,
    DeviceMismatch,
    DeviceNoAnswer,
    DeviceNotReady,
    DeviceTimeout,
    EndOfData,
)
from wire.clock import NS_PER_S
from wire.reading import CellState

if TYPE_CHECKING:
    from edge_agent.sources.line import Watch

log = logging.getLogger(__name__)

BACKOFF_NS = 1 * NS_PER_S
BACKOFF_NS_MAX = 60 * NS_PER_S

REASONS: tuple[tuple[type[DeviceError], CellState], ...] = (
    (DeviceNoAnswer, CellState.NO_ANSWER),
    (DeviceTimeout, CellState.TIMEOUT),
    (DeviceNotReady, CellState.NOT_READY),
    (DeviceDataBad, CellState.BAD_DATA),
    (DeviceMismatch, CellState.WRONG_DEVICE),
    (EndOfData, CellState.END_OF_DATA),
    (BusDown, CellState.BUS_DOWN),
)
NUMBERS = {int, float}
KEEPS_OPEN = (DeviceNotReady, DeviceDataBad, EndOfData)  # the part answered: no need to open it again


def reason_of(error: Exception) -> CellState:
    """The gap's reason; DRIVER_ERROR for what is no DeviceError."""
    return next((state for kind, state in REASONS if isinstance(error, kind)), CellState.DRIVER_ERROR)


class Backoff:
    """When to try again: at once, then after 1 s, doubling to 60 s."""

    def __init__(self) -> None:
        self._wait_ns = 0
        self.due_ns = 0

    def fail(self, now_ns: int) -> None:
        """One more failure."""
        self.due_ns = now_ns + self._wait_ns
        self._wait_ns = min(max(2 * self._wait_ns, BACKOFF_NS), BACKOFF_NS_MAX)

    def rest(self, now_ns: int) -> None:
        """It cost others: not before a minute, however often it works in between."""
        self.due_ns = now_ns + BACKOFF_NS_MAX
        self._wait_ns = BACKOFF_NS_MAX

    def reset(self) -> None:
        """It works again."""
        self._wait_ns = 0
        self.due_ns = 0


class Sensor:
    """What outlives a driver instance: channels, back-off, and what was last told of its health."""

    def __init__(self, plan: SensorPlan) -> None:
        self.plan = plan
        self.plain = PlainRows()
        self.flows = [ChannelFlow(plan.id, each, self.plain, place) for place, each in enumerate(plan.channels)]
        self.plain_us = min((flow.plain_us for flow in self.flows), default=-1)  # of all its channels
        self.driver: Driver | None = None  # open
        self.backoff = Backoff()
        self.error = ""  # empty: it works
        self.reason: CellState = CellState.NOT_READY  # of the gap while it is closed
        self.ended = False
        self.hangs_in: Watch | None = None  # the call that it was set aside for: not asked again before that returns
        self._lost_ns = 0
        self._is_told = False  # that it is lost; a loss with its bus is told by the bus, and so is that one's end
        self._told: set[str] = set()  # channels that failed alone

    @property
    def name(self) -> str:
        """As people know it."""
        return self.plan.id

    def cells_of(self, answer: Sequence[object], now_ns: int) -> list[Raw | CellState]:
        """The driver's answer as cells; channels that failed alone are told once. Marks the sensor as well."""
        if len(answer) != len(self.flows):
            raise TypeError(f"driver {self.plan.driver_name} gave {len(answer)} cells for {len(self.flows)} channels")
        self.mark_well(now_ns)
        if not self._told and NUMBERS.issuperset(map(type, answer)):
            return list(cast("Sequence[Raw]", answer))
        return [self.cell_of(flow, cell) for flow, cell in zip(self.flows, answer)]

    def cell_of(self, flow: ChannelFlow, cell: object) -> Raw | CellState:
        """One cell of an answer; a channel that fails alone is told once, and once when it is back."""
        if isinstance(cell, (int, float)):
            if self._told:
                self._tell_channel(flow.plan.channel.name, None)
            return cell
        error = cell if isinstance(cell, Exception) else TypeError(f"{cell!r} is no number")
        self._tell_channel(flow.plan.channel.name, error)
        return reason_of(error)

    def mark_well(self, now_ns: int) -> None:
        """It answered."""
        self.backoff.reset()
        if self._is_told:
            log.info('sensor "%s" is back after %s', self.name, show_duration((now_ns - self._lost_ns) // NS_PER_S))
        self._is_told = False
        self.error = ""

    def mark_failed(self, error: Exception, now_ns: int) -> CellState:
        """It failed as a whole: note why, tell it once, and say which gap its cells are."""
        self.reason = reason = reason_of(error)
        text = str(error) if isinstance(error, DeviceError) else f"{type(error).__name__}: {error}"
        if isinstance(error, EndOfData):
            self.ended = True
            log.info('sensor "%s" has ended: %s', self.name, text)
        elif not self._is_told and not (self.error and isinstance(error, BusDown)):
            self._lost_ns = now_ns
            self._is_told = True
            log.warning('sensor "%s" is lost (%s): %s', self.name, reason.name.lower(), text)
        self.error = text
        return reason

    def suspend(self, why: str, now_ns: int) -> None:
        """It cannot be asked because of its bus, which was told already."""
        self.reason = CellState.BUS_DOWN
        if not self.error:
            self._lost_ns = now_ns
            self.error = why

    def _tell_channel(self, channel: str, error: Exception | None) -> None:
        if error is None:
            if channel in self._told:
                self._told.discard(channel)
                log.info('channel "%s/%s" is back', self.name, channel)
        elif channel not in self._told:
            self._told.add(channel)
            log.warning('channel "%s/%s" is lost (%s): %s', self.name, channel, reason_of(error).name.lower(), error)
