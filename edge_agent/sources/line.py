"""One bus line: the groups of one physical bus, of one sensor without a bus, or of all that are prompt.

The core without a thread: whoever calls `run_due` blocks for as long as the parts take. `BusThread` is the thread
round it, `Sources` watches the deadlines from outside.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from edge_agent.sources.group import Cycle, PollGroup, make_groups
from edge_agent.sources.sensor import KEEPS_OPEN, Backoff, Sensor
from hardware.driver import Bus, Driver
from hardware.errors import BusDown, DeviceTimeout
from wire.clock import NS_PER_S, Clock
from wire.reading import CellState, Tick

log = logging.getLogger(__name__)

T = TypeVar("T")

TIMEOUTS_TO_RESET = 3  # so many time-outs in a row, with no answer between, and the bus is opened anew


class BusOpener(Protocol):
    """Opens the line's bus. Raises BusDown."""

    def __call__(self) -> Bus: ...


class Abandoned(Exception):
    """This thread's call came back after its deadline; others have taken over its line."""


class Watch:
    """Which blocking call is under way on a line, and the bus it uses. One per thread that ever drove the line."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._deadline_ns: int | None = None
        self.sensor: Sensor | None = None
        self.bus: Bus | None = None
        self.abandoned = False

    def call(self, sensor: Sensor | None, timeout_s: float, work: Callable[[], T]) -> T:
        """Do the work. Raises Abandoned, and nothing else, once `expire` has said so."""
        with self._lock:
            self.sensor = sensor
            self._deadline_ns = self._clock.boottime_ns() + round(timeout_s * NS_PER_S)
        try:
            return work()
        finally:
            with self._lock:
                self._deadline_ns = None
                if self.abandoned:
                    raise Abandoned

    @property
    def is_busy(self) -> bool:
        """Whether the call has not returned; once it has after `expire`, its thread ends."""
        return self._deadline_ns is not None

    def expire(self, now_ns: int) -> bool:
        """True when a call is past its deadline: its thread is abandoned from this moment."""
        with self._lock:
            if self._deadline_ns is None or now_ns <= self._deadline_ns or self.abandoned:
                return False
            self.abandoned = True
            return True


class BusLine:
    """Groups, sensors and the bus of one line. One thread at a time."""

    def __init__(self, name: str, sensors: Sequence[Sensor], open_bus: BusOpener | None, clock: Clock) -> None:
        self.name = name
        self.sensors = list(sensors)
        self.groups: list[PollGroup] = make_groups(self.sensors, clock.boottime_ns())
        self.watch = Watch(clock)
        self.cycle: Cycle | None = None
        self._ticks: list[Tick] = []  # finished, and not handed out yet: they outlive a hang in a later group
        self.error = ""  # of the bus; empty: it is open, or there is none
        self._open_bus = open_bus
        self._backoff = Backoff()
        self._timeouts = 0
        self._clock = clock

    @property
    def is_shared(self) -> bool:
        """Whether its sensors have nothing in common but the thread."""
        return self._open_bus is None and len(self.sensors) > 1

    def next_due_ns(self) -> int:
        """Boottime of the next cycle; 0 while one that was begun waits for its end."""
        return 0 if self.cycle is not None else min(group.due_ns for group in self.groups)

    def run_due(self) -> list[Tick]:
        """Run every group that is due and return the ticks. Raises Abandoned (see `Watch.call`)."""
        if self.cycle is not None:  # a thread before this one left it unfinished
            self._keep(self._finish(self.cycle))
        for group in self.groups:
            if group.due_ns <= self._clock.boottime_ns():
                self._keep(self._finish(group.begin(self._clock.boottime_ns())))
        return self._kept()

    def substitute_due(self, culprit: Sensor | None) -> list[Tick]:
        """The same ticks with nothing but gaps, for a line that is in quarantine: nobody is asked."""
        for group in self.groups:
            if group.due_ns <= self._clock.boottime_ns():
                self._keep(self._substitute(group.begin(self._clock.boottime_ns()), culprit))
        return self._kept()

    def take_over(self) -> tuple[Sensor | None, list[Tick]]:
        """The line's thread hangs in a call: end its cycle with what was read, and forget its drivers and bus.

        Nothing is closed here: the hanging call may still use it. Returns the sensor that hangs, and the ticks.
        """
        culprit, cycle = self._give_up(), self.cycle
        self.cycle = None
        now_ns = self._clock.boottime_ns()
        if culprit is not None:
            culprit.backoff.fail(now_ns)
        for sensor in self.sensors:
            sensor.driver = None
            if sensor is not culprit:
                sensor.suspend(f'"{self.name}" hangs', now_ns)
        if cycle is not None:
            self._keep(self._substitute(cycle, culprit))
        return culprit, self._kept()

    def set_aside(self) -> Sensor | None:
        """As `take_over`, of a line whose sensors have nothing in common but the thread: the one that hangs is asked
        again when its call has returned and a minute is over; another thread finishes the cycle for the others.
        Returns the one that hangs.
        """
        watch = self.watch
        culprit = self._give_up()
        if culprit is not None:
            culprit.driver = None
            culprit.hangs_in = watch
            culprit.backoff.rest(self._clock.boottime_ns())
            if self.cycle is not None:
                self.cycle.fill_gap(culprit, culprit.reason)
        return culprit

    def _give_up(self) -> Sensor | None:
        """The sensor whose call hangs: it has failed. From now on its thread is nobody's."""
        culprit, self.watch = self.watch.sensor, Watch(self._clock)
        if culprit is not None:
            now_ns = self._clock.boottime_ns()
            culprit.mark_failed(DeviceTimeout(f"the driver did not return within {culprit.plan.timeout:g} s"), now_ns)
        return culprit

    def _keep(self, tick: Tick | None) -> None:
        if tick is not None:
            self._ticks.append(tick)

    def _kept(self) -> list[Tick]:
        ticks, self._ticks = self._ticks, []
        return ticks

    def close(self) -> None:
        """Leave parts and bus quiet. Raises Abandoned."""
        for sensor in self.sensors:
            self._close_sensor(sensor)
        self._close_bus()

    def _finish(self, cycle: Cycle) -> Tick | None:
        """Ask every sensor of the cycle that is not in it yet."""
        self.cycle, group = cycle, cycle.group
        waits = {sensor: self._trigger(sensor, cycle) for sensor in group.sensors if sensor not in cycle.cells}
        while (wait_s := max(waits.values(), default=0)) > 0:
            self._clock.sleep(wait_s)
            waits = {sensor: self._proceed(sensor, cycle) for sensor in waits if waits[sensor] > 0}
        for sensor in group.sensors:
            if sensor not in cycle.cells:
                self._read(sensor, cycle)
        self.cycle = None
        return group.finish(cycle)

    def _substitute(self, cycle: Cycle, culprit: Sensor | None) -> Tick | None:
        for sensor in cycle.group.sensors:
            if sensor not in cycle.cells:
                ended = CellState.ABSENT if sensor.ended else CellState.BUS_DOWN
                cycle.fill_gap(sensor, CellState.TIMEOUT if sensor is culprit else ended)
        return cycle.group.finish(cycle)

    def _trigger(self, sensor: Sensor, cycle: Cycle) -> float:
        """Open if need be, start the conversion; the seconds it takes. Fills the sensor's gap when that fails."""
        if sensor.ended:
            cycle.fill_gap(sensor, CellState.ABSENT)
            return 0.0
        now_ns = self._clock.boottime_ns()
        if sensor.driver is None and (
            now_ns < max(sensor.backoff.due_ns, self._backoff.due_ns)
            or (sensor.hangs_in is not None and sensor.hangs_in.is_busy)
        ):
            cycle.fill_gap(sensor, sensor.reason)
            return 0.0
        try:
            if sensor.driver is None:
                sensor.driver = self._open(sensor)
            if type(sensor.driver).trigger is Driver.trigger:  # nothing to start
                return 0.0
            return self._wait_of(sensor, sensor.driver.trigger)
        except Abandoned:
            raise
        except Exception as error:  # anyone's driver may raise anything
            self._fail(sensor, cycle, error)
            return 0.0

    def _proceed(self, sensor: Sensor, cycle: Cycle) -> float:
        """The next step of a conversion of several; the seconds it takes. Fills the sensor's gap when that fails."""
        if sensor.driver is None:  # a neighbour's failure took the bus with it
            return 0.0
        try:
            return self._wait_of(sensor, sensor.driver.proceed)
        except Abandoned:
            raise
        except Exception as error:  # anyone's driver may raise anything
            self._fail(sensor, cycle, error)
            return 0.0

    def _wait_of(self, sensor: Sensor, step: Callable[[], float]) -> float:
        wait_s = self._call(sensor, step)
        if not 0 <= wait_s <= sensor.plan.timeout:
            raise ValueError(f"conversion of {wait_s} s is outside 0 to timeout = {sensor.plan.timeout} s")
        return wait_s

    def _read(self, sensor: Sensor, cycle: Cycle) -> None:
        driver = sensor.driver
        if driver is None:  # a neighbour's failure took the bus with it
            cycle.fill_gap(sensor, sensor.reason)
            return
        try:
            answer = self._call(sensor, driver.read)
            now_ns = self._clock.boottime_ns()
            cycle.fill(sensor, sensor.cells_of(answer, now_ns), now_ns)
            self._timeouts = 0
        except Abandoned:
            raise
        except Exception as error:  # anyone's driver may raise anything
            self._fail(sensor, cycle, error)

    def _open(self, sensor: Sensor) -> Driver:
        watch = self.watch
        if self._open_bus is not None and watch.bus is None:
            watch.bus = watch.call(sensor, sensor.plan.timeout, self._open_bus)
            if self.error:
                log.info('bus "%s" is back', self.name)
            self.error = ""
            self._backoff.reset()
        sensor.hangs_in = None
        driver = sensor.plan.driver(sensor.plan.config, watch.bus)
        self._call(sensor, driver.open)
        return driver

    def _call(self, sensor: Sensor, work: Callable[[], T]) -> T:
        return self.watch.call(sensor, sensor.plan.timeout, work)

    def _fail(self, sensor: Sensor, cycle: Cycle, error: Exception) -> None:
        now_ns = self._clock.boottime_ns()
        if isinstance(error, BusDown) and self._open_bus is not None:
            self._lose_bus(error, now_ns)
        cycle.fill_gap(sensor, sensor.mark_failed(error, now_ns))
        if not isinstance(error, KEEPS_OPEN):
            self._close_sensor(sensor)
            sensor.backoff.fail(now_ns)
        if isinstance(error, DeviceTimeout) and self._open_bus is not None:
            self._timeouts += 1
            if self._timeouts >= TIMEOUTS_TO_RESET:
                self._lose_bus(BusDown(f"{self._timeouts} time-outs in a row; the bus is opened anew"), now_ns)

    def _lose_bus(self, error: BusDown, now_ns: int) -> None:
        """Close the bus, so that the next cycle opens it anew; every sensor on it is closed with it."""
        if not self.error:
            log.warning('bus "%s" is down: %s', self.name, error)
        self.error = str(error)
        self._timeouts = 0
        self._backoff.fail(now_ns)
        for sensor in self.sensors:
            sensor.driver = None
            sensor.suspend(self.error, now_ns)
        self._close_bus()

    def _close_sensor(self, sensor: Sensor) -> None:
        driver, sensor.driver = sensor.driver, None
        if driver is None:
            return
        try:
            self._call(sensor, driver.close)
        except Abandoned:
            raise
        except Exception as error:  # a close that raises is the driver's fault; the part is given up anyway
            log.debug('sensor "%s" did not close: %s', sensor.name, error)

    def _close_bus(self) -> None:
        bus, self.watch.bus = self.watch.bus, None
        if bus is not None:
            self.watch.call(None, self.sensors[0].plan.timeout, bus.close)
