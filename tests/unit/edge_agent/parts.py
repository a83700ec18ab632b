"""What the agent's tests share: a clock that only moves when told, and a driver that does what a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from edge_agent.config.model import ChannelPlan, ChannelSection, SensorPlan
from edge_agent.sources.line import BusLine
from edge_agent.sources.sensor import Sensor
from hardware.driver import Cell, Channel, Driver, DriverConfig
from wire.clock import SyncState
from wire.reading import Priority, Tick

MS = 1_000_000
S = 1_000_000_000


class ManualClock:
    """Stands still; `sleep` moves it."""

    def __init__(self, now_ns: int = 1_000 * S) -> None:
        self.now_ns = now_ns

    def wall_ns(self) -> int:
        return 1_700_000_000 * S + self.now_ns

    def boottime_ns(self) -> int:
        return self.now_ns

    def sync_state(self) -> SyncState:
        return SyncState(True, 100)

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * S)

    def move(self, seconds: float) -> None:
        self.sleep(seconds)


class ScriptConfig(DriverConfig, frozen=True):
    script: Any = None
    address: int = 0x10


class Script:
    """What the part behind a `ScriptDriver` does: `read` is called for every read and may raise or block."""

    def __init__(self, read: Callable[[], Sequence[Cell]] | None = None) -> None:
        self.read = read or (lambda: [1])
        self.open: Callable[[], None] = lambda: None
        self.conversion_s = 0.0
        self.steps: list[float | Exception] = []  # what `proceed` gives, one after another; then 0
        self.opened = 0
        self.closed = 0
        self.reads = 0


class ScriptDriver(Driver):
    """A part behind the driver port, as a test wants it."""

    Config = ScriptConfig
    bus_kind = "none"
    CHANNELS: tuple[Channel, ...] = (Channel("level", "count"),)

    @classmethod
    def channels_of(cls, config: ScriptConfig) -> Sequence[Channel]:
        return cls.CHANNELS

    @property
    def script(self) -> Script:
        script = self.config.script
        assert isinstance(script, Script)
        return script

    def open(self) -> None:
        self.script.opened += 1
        self.script.open()

    def trigger(self) -> float:
        return self.script.conversion_s

    def proceed(self) -> float:
        step = self.script.steps.pop(0) if self.script.steps else 0.0
        if isinstance(step, Exception):
            raise step
        return step

    def read(self) -> Sequence[Cell]:
        self.script.reads += 1
        return self.script.read()

    def close(self) -> None:
        self.script.closed += 1


class TwoChannels(ScriptDriver):
    CHANNELS = (Channel("left", "count"), Channel("right", "count"))


class Prompt(ScriptDriver):
    is_prompt = True


def channel_plan(channel: Channel | None = None, stale: float = 30.0, **said: Any) -> ChannelPlan:
    """A channel with nothing said of it but `said`."""
    return ChannelPlan(channel=channel or Channel("level", "count"), stale=stale, **said)


def sensor_plan(
    name: str,
    script: Script,
    *,
    driver: type[ScriptDriver] = ScriptDriver,
    bus: str = "",
    interval: float = 1.0,
    timeout: float = 0.3,
    priority: Priority = Priority.NORMAL,
) -> SensorPlan:
    """A sensor with a script behind it."""
    assert ChannelSection().filter == []
    return SensorPlan(
        id=name,
        driver_name="script",
        driver=driver,
        config=ScriptConfig(script=script),
        bus=bus,
        interval=interval,
        priority=priority,
        timeout=timeout,
        channels=tuple(channel_plan(channel) for channel in driver.CHANNELS),
    )


class Bus:
    """A bus that is only opened and closed."""

    name = "i2c-9"

    def __init__(self) -> None:
        self.closed = threading.Event()

    def write(self, address: int, register: int, data: bytes) -> None:
        raise AssertionError("scripts use no bus")

    def read(self, address: int, register: int, length: int) -> bytes:
        raise AssertionError("scripts use no bus")

    def transfer(self, address: int, data: bytes, length: int) -> bytes:
        raise AssertionError("scripts use no bus")

    def close(self) -> None:
        self.closed.set()


def line_of(clock: Any, *plans: SensorPlan, open_bus: Any = None) -> BusLine:
    """One line with these sensors."""
    return BusLine("i2c-9" if open_bus else f"sensor {plans[0].id}", [Sensor(plan) for plan in plans], open_bus, clock)


class Taken:
    """Collects ticks from any thread."""

    def __init__(self) -> None:
        self.ticks: list[Tick] = []
        self._changed = threading.Condition()

    def __call__(self, ticks: Sequence[Tick]) -> None:
        with self._changed:
            self.ticks += ticks
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[list[Tick]], bool], timeout_s: float = 10.0) -> list[Tick]:
        """Until the ticks fulfil the condition. Raises AssertionError at the time-out."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.ticks), timeout_s), self.ticks
            return list(self.ticks)
