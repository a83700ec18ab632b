"""All bus lines of a gateway: one thread each, and a guard that no driver can stop.

A driver that does not return within its deadline is left behind with its thread: its cycle ends with what was read,
its cells are gaps with TIMEOUT, its neighbours' with BUS_DOWN, and after a pause a new thread opens the bus anew.
Nobody waits for it but its own bus. Prompt sensors share a thread, but no bus: a new thread goes on with the others at
once, and the one that hangs is asked again when its call has returned.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from edge_agent.config.model import BusSection, SensorPlan, SerialSection
from edge_agent.sources.line import Abandoned, BusLine, BusOpener
from edge_agent.sources.sensor import Backoff, Sensor
from hardware.driver import Bus
from wire.clock import NS_PER_S, Clock
from wire.reading import Tick

log = logging.getLogger(__name__)

GUARD_PERIOD_S = 0.1  # between two looks at lines that are stood in for
TIMEOUT_SHARE = 4  # other lines are looked at so often within the shortest timeout of a driver's call,
GUARD_PERIOD_S_MAX = 0.5  # and at least so often
WAIT_S_MAX = 2.0  # a line looks up at least so often, so that the watchdog sees it alive
LEFT_BEHIND_MAX = 3  # hanging threads of one line; with more, it waits for one of them to return
PROMPT = "this machine"  # the line of prompt sensors
FOREVER_NS = 1 << 63  # past every deadline

Take = Callable[[Sequence[Tick]], None]


def make_lines(plans: Sequence[SensorPlan], buses: Mapping[str, BusSection], clock: Clock) -> list[BusLine]:
    """One line per bus that is used, one for all prompt sensors, and one per other sensor without a bus."""
    together: dict[tuple[str, str], list[SensorPlan]] = {}  # by bus, or by what stands for one
    for plan in plans:
        alone = PROMPT if plan.driver.is_prompt else f"sensor {plan.id}"
        together.setdefault((plan.bus, "" if plan.bus else alone), []).append(plan)
    lines = []
    for (bus, alone), group in together.items():
        opener = bus_opener(buses[bus]) if bus else None
        lines.append(BusLine(bus or alone, [Sensor(plan) for plan in group], opener, clock))
    return lines


def bus_opener(section: BusSection) -> BusOpener:
    """Opens the bus that the section describes."""

    def open_bus() -> Bus:
        if isinstance(section, SerialSection):
            from hardware.serial_bus import SerialBus

            return SerialBus(section.port, section.baud, section.parity, section.bits, section.stop)
        from hardware.buses import open_i2c

        return open_i2c(section.device)

    return open_bus


class BusThread:
    """The thread of one line."""

    def __init__(self, line: BusLine, take: Take, clock: Clock) -> None:
        self.line = line
        self.alive_ns = clock.boottime_ns()
        self.error: BaseException | None = None
        self._take = take
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"bus {line.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end after its cycle."""
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the end."""
        self._thread.join(timeout_s)

    @property
    def is_running(self) -> bool:
        """False once it has ended, or never began."""
        return self._thread.is_alive()

    def _run(self) -> None:
        watch = self.line.watch
        try:
            while not self._stop.is_set():
                self.alive_ns = self._clock.boottime_ns()
                wait_s = (self.line.next_due_ns() - self.alive_ns) / NS_PER_S
                if wait_s > 0 and self._stop.wait(min(wait_s, WAIT_S_MAX)):
                    break
                ticks = self.line.run_due()
                if ticks:
                    self._take(ticks)
            self.line.close()
        except Abandoned:
            if watch.bus is not None:
                watch.bus.close()
            log.info('thread of "%s" came back after its deadline and has ended', self.line.name)
        except BaseException as error:  # our own mistake: the guard hands it to the agent, which ends
            self.error = error


class _Post:
    """What the guard knows of one line."""

    def __init__(self, thread: BusThread) -> None:
        self.thread = thread
        self.left_behind: list[BusThread] = []
        self.culprit: Sensor | None = None
        self.in_quarantine = False
        self.backoff = Backoff()


class Sources:
    """Starts, watches and stops the lines. `check` is the guard's step; its thread only repeats it."""

    def __init__(self, lines: Sequence[BusLine], take: Take, clock: Clock) -> None:
        self.lines = list(lines)
        self.alive_ns = clock.boottime_ns()
        self._take = take
        self._clock = clock
        self._posts = [_Post(BusThread(line, take, clock)) for line in lines]
        timeouts_s = [sensor.plan.timeout for line in lines for sensor in line.sensors]
        self._calm_s = max(GUARD_PERIOD_S, min([GUARD_PERIOD_S_MAX, *(each / TIMEOUT_SHARE for each in timeouts_s)]))
        self._stop = threading.Event()
        self._guard = threading.Thread(target=self._run, name="sources guard", daemon=True)
        self._error: BaseException | None = None

    def start(self) -> None:
        """Begin on every line."""
        for post in self._posts:
            post.thread.start()
        self._guard.start()

    def stop(self, timeout_s: float) -> list[str]:
        """End after the cycles that run now; the names of lines that did not end in time. Waits only once."""
        timeout_s = 0.0 if self._stop.is_set() else timeout_s
        self._stop.set()
        if self._guard.is_alive():
            self._guard.join(timeout_s)  # it starts no thread from now on
        for post in self._posts:
            post.thread.stop()
        deadline_ns = self._clock.boottime_ns() + round(timeout_s * NS_PER_S)
        for post in self._posts:
            if not post.in_quarantine and post.thread.is_running:
                post.thread.join(max(0.0, (deadline_ns - self._clock.boottime_ns()) / NS_PER_S))
                if post.thread.line.watch.expire(FOREVER_NS):  # in a call still: what others have read is not its own
                    self._hand(post.thread.line.take_over()[1])
        return [post.thread.line.name for post in self._posts if post.thread.is_running]

    def failure(self) -> BaseException | None:
        """A mistake of ours that ended a thread; the agent stops on it."""
        return self._error or next((post.thread.error for post in self._posts if post.thread.error), None)

    def is_alive(self, now_ns: int, limit_s: float) -> bool:
        """Whether the guard and every line that is not in quarantine looked up within the limit."""
        limit_ns = round(limit_s * NS_PER_S)
        seen = [self.alive_ns] + [post.thread.alive_ns for post in self._posts if not post.in_quarantine]
        return self.failure() is None and all(now_ns - each <= limit_ns for each in seen)

    def quarantined(self) -> list[str]:
        """Lines whose thread hangs in a driver."""
        return [post.thread.line.name for post in self._posts if post.in_quarantine]

    def check(self) -> None:
        """Take over lines whose call is past its deadline, stand in for them, and start them again when it is time."""
        now_ns = self._clock.boottime_ns()
        self.alive_ns = now_ns
        for post in self._posts:
            line = post.thread.line
            if post.in_quarantine:
                self._hand(line.substitute_due(post.culprit))
                self._try_again(post, now_ns)
            elif line.watch.expire(now_ns):
                if line.is_shared:
                    self._go_on(post)
                    continue
                post.left_behind.append(post.thread)
                post.culprit, ticks = line.take_over()
                post.in_quarantine = True
                post.backoff.fail(now_ns)
                log.warning(
                    '"%s" is in quarantine: %s does not return; the others go on',
                    line.name,
                    f'sensor "{post.culprit.name}"' if post.culprit else "the bus",
                )
                self._hand(ticks)
            elif post.backoff.due_ns and self._works(line):
                post.backoff.reset()
                log.info('"%s" is out of quarantine', line.name)

    def _go_on(self, post: _Post) -> None:
        """The others have nothing to do with the one that hangs."""
        post.thread.line.set_aside()
        post.thread = BusThread(post.thread.line, self._take, self._clock)
        post.thread.start()

    def _try_again(self, post: _Post, now_ns: int) -> None:
        post.left_behind = [thread for thread in post.left_behind if thread.is_running]
        if now_ns < post.backoff.due_ns or len(post.left_behind) >= LEFT_BEHIND_MAX:
            return
        post.thread = BusThread(post.thread.line, self._take, self._clock)
        post.in_quarantine = False
        post.culprit = None
        post.thread.start()

    def _works(self, line: BusLine) -> bool:
        return any(not sensor.error for sensor in line.sensors)

    def _hand(self, ticks: list[Tick]) -> None:
        if ticks:
            self._take(ticks)

    def _run(self) -> None:
        try:
            while not self._stop.wait(GUARD_PERIOD_S if self.quarantined() else self._calm_s):
                self.check()
        except BaseException as error:  # our own mistake: the agent ends on it
            self._error = error
