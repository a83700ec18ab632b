"""Everything is wired here, once: sources → recorder → sync, the control socket and the watchdog round them.

Threads: one per bus line, their guard, one per MQTT broker, the writer. The main thread runs asyncio: sync, control
socket, watchdog.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from edge_agent.asking import RequestRefused
from edge_agent.buffer.operations import BufferOperations
from edge_agent.config.model import Config
from edge_agent.control import ControlServer
from edge_agent.health import ALIVE_S_MAX, Notifier, watchdog_period_s
from edge_agent.outbox.opening import OUTBOX
from edge_agent.outbox.recorder import Recorder
from edge_agent.parts import (
    credentials_of,
    make_brokers,
    make_detection,
    make_renewal,
    make_sync,
    make_updates,
    outbox_options,
)
from edge_agent.sources.sources import Sources, make_lines
from edge_agent.status import StatusView
from edge_agent.sync.operations import SyncOperations
from edge_agent.writer import Writer
from wire.clock import NS_PER_S, Clock, boot_id, machine_id

if TYPE_CHECKING:
    from edge_agent.sync.grpc_transport import SyncClient

log = logging.getLogger(__name__)

LOOK_S = 2.0  # between two looks at the threads' health
STOP_S_MAX = 10.0  # for the cycles and the commit that run when the agent is told to stop
DRAIN_LOOK_S = 0.05


class Agent:
    """One gateway. Construction opens the outbox and the control socket; `run` does the work."""

    def __init__(self, config: Config, clock: Clock) -> None:
        """Open what must be ours alone. Raises StateBusy, StateUnusable, OutboxCorrupt, CredentialsRejected,
        LinkDown (while the card does not give the certificate)."""
        if config.cloud is not None:
            credentials_of(config.cloud)
        self._config = config
        self._clock = clock
        machine = machine_id()
        self._recorder = Recorder.open(
            config.state_dir, config.runtime_dir, clock, boot_id(), machine, outbox_options(config)
        )
        polled = [plan for plan in config.sensors if not plan.is_mqtt]
        lines = make_lines(polled, config.buses, clock)
        for line in lines:
            for group in line.groups:
                self._recorder.register(group.set, group.priority)
        self._sources = Sources(lines, self._recorder.take, clock)
        self._brokers = make_brokers(config, lines, self._recorder, clock)
        self._updates = make_updates(config, clock, self._reload, lines, self._brokers)
        self._sync = make_sync(config, self._recorder, clock, machine, self._updates)
        self._renewal = make_renewal(config, self._sync)
        self._detection = make_detection(config, lines, self._brokers, self._recorder, clock)
        prepare = self._detection.load if self._detection is not None else None
        self._writer = Writer(self._recorder, self._committed, clock, prepare)
        self._recorder.wake = self._writer.poke
        self._view = StatusView(
            config,
            self._sources,
            self._writer,
            recorder=self._recorder,
            sync=self._sync,
            clock=clock,
            brokers=self._brokers,
            detection=self._detection,
        )
        operations = {"status": lambda _: self._view.status(), "read": self._read}
        rate_max = 0.0 if config.cloud is None else config.cloud.rate_max
        operations["load-models"] = self._load_models
        operations |= BufferOperations(config.state_dir / OUTBOX, self._recorder.prune).by_name()
        operations |= SyncOperations(self._sync, self._recorder.stats, clock, rate_max).by_name()
        self._control = ControlServer(config.runtime_dir, operations)
        self._loop: asyncio.AbstractEventLoop | None = None
        try:
            self._control.bind()
        except BaseException:
            self._recorder.close()
            raise

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT, then end in order: cycles, commit, a last try to deliver.

        Raises OutboxCorrupt, or whatever mistake of ours ended a thread.
        """
        self._loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, stop.set)
        notifier = Notifier()
        try:
            async with asyncio.TaskGroup() as tasks:
                services = [tasks.create_task(self._control.run(), name="control")]
                if self._sync is not None:
                    services.append(tasks.create_task(self._sync.run(), name="sync"))
                    if self._updates is not None:
                        services.append(tasks.create_task(self._updates.run(self._sync), name="updates"))
                if self._renewal is not None:
                    services.append(tasks.create_task(self._renewal.run(), name="renewal"))
                self._writer.start()
                self._sources.start()
                if self._brokers is not None:
                    self._brokers.start()
                log.info("%s collects, sensors: %d", self._config.agent.name, len(self._config.sensors))
                notifier.send("READY=1", f"STATUS={self._view.line()}")
                services.append(tasks.create_task(self._watch(notifier), name="watchdog"))
                await stop.wait()
                notifier.send("STOPPING=1", "STATUS=stopping")
                await self._end_collecting()
                for service in services:
                    service.cancel()
        except BaseExceptionGroup as group:
            raise first_of(group) from None
        finally:
            await asyncio.to_thread(self._close)
        log.info("stopped")

    def _committed(self) -> None:
        """Called by the writer's thread after each commit."""
        if self._sync is not None and self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended: nobody is there to be told
                self._loop.call_soon_threadsafe(self._sync.committed)

    async def _watch(self, notifier: Notifier) -> None:
        """Look at the threads; tell systemd while they work; end the agent when one of them died."""
        period_s = min(LOOK_S, watchdog_period_s() or LOOK_S)
        while True:
            await asyncio.sleep(period_s)
            brokers = None if self._brokers is None else self._brokers.failure()
            failure = self._sources.failure() or brokers or self._writer.failure
            if failure is not None:
                raise failure
            self._view.look()
            detection = self._detection
            if detection is not None and detection.has_releases and await asyncio.to_thread(detection.look):
                self._reload()
            if self._updates is not None and self._sync is not None:
                await self._updates.look(self._sync)
            now_ns = self._clock.boottime_ns()
            lines = [f"STATUS={self._view.line()}"]
            if self._sources.is_alive(now_ns, ALIVE_S_MAX) and self._writer.is_alive(now_ns, ALIVE_S_MAX):
                lines.append("WATCHDOG=1")
            notifier.send(*lines)

    async def _end_collecting(self) -> None:
        """The running cycles end, what they took is committed and, as far as the time goes, delivered."""
        for name in await asyncio.to_thread(self._stop_collecting):
            log.warning('"%s" did not end within %g s and is left behind', name, STOP_S_MAX)
        await asyncio.to_thread(self._writer.stop, STOP_S_MAX)
        cloud = self._config.cloud
        if self._sync is not None and cloud is not None and cloud.drain > 0:
            await self._drain(self._sync, cloud.drain)

    def _stop_collecting(self) -> list[str]:
        """The names of lines and brokers that did not end in time."""
        left = self._sources.stop(STOP_S_MAX)
        return left if self._brokers is None else left + self._brokers.stop(STOP_S_MAX)

    async def _drain(self, sync: SyncClient, limit_s: float) -> None:
        """Wait for the acknowledgement of what was committed; what the time does not allow waits for the next start."""
        sync.flush()
        deadline_ns = self._clock.boottime_ns() + round(limit_s * NS_PER_S)
        while sync.status.connected and not sync.is_drained() and self._clock.boottime_ns() < deadline_ns:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_LOOK_S)  # the outbox is asked, it does not tell

    def _close(self) -> None:
        """Let go of everything; after a failure as a killed process would, so that the next start looks closely."""
        self._stop_collecting()
        self._writer.stop(STOP_S_MAX)
        if self._sync is not None:
            self._sync.policy.close()
        if self._writer.failure is None and not self._writer.is_running:
            self._recorder.close()
        else:
            self._recorder.abandon()

    def _load_models(self, request: Mapping[str, Any]) -> object:
        """Take over what was installed; soon, by the writer's thread."""
        self._reload()
        return {"loading": self._detection is not None}

    def _reload(self) -> None:
        if self._detection is not None:
            self._writer.ask(self._detection.load)

    def _read(self, request: Mapping[str, Any]) -> object:
        sensor = request.get("sensor")
        found = [each for each in self._view.sensors() if sensor in (None, each["id"])]
        if not found:
            raise RequestRefused(f"no sensor {sensor!r}; the agent must be restarted to take a new configuration over")
        return found


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a task group, out of its wrapping."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
