"""The demonstration: a cloud and five gateways; one fault to be found, every break once, two independent counts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from simulator import replay
from simulator.demo_updates import DemoUpdates
from simulator.lab.anomaly import Anomaly
from simulator.lab.count import Result
from simulator.lab.gateway import LabGateway, Plan
from simulator.lab.mqtt_sensors import MqttSensors
from simulator.lab.processes import LabFailed, log_end
from simulator.lab.serial_sensors import SerialSensors
from simulator.lab.site import Site
from simulator.network import Mode
from simulator.parts import Part
from simulator.screen import GatewayLine, Screen
from wire.clock import NS_PER_MS

ARRIVE_S = 4.0  # readings flow undisturbed
QUIET_S = 3.0  # the model watches a sound pump
WEAR = 0.8  # of the bearing, when it breaks: 1.8 mm/s become 6.6
ANOMALY_TIMEOUT_S = 20.0
CUT_S = 10.0
BACKLOG_S = 3.0  # a second, shorter cut, so that a drain is under way when the cloud is killed
DRAIN_TIMEOUT_S = 60.0
COUNT_TIMEOUT_S = 60.0
SLOW_S = 0.1  # of the network, each way, when the cloud is killed
LOOK_S = 0.25
REPLAY_ROWS = 200_000  # longer than anyone looks, so that no row number comes twice


def plans(folder: Path, transport_name: str) -> list[Plan]:
    """One part on one bus; three on two buses; a recorded series; a pump on Modbus and a GPS; messages of a broker."""
    rows = folder / "machine.csv"
    replay.number_rows(replay.machine_temperature(), rows, REPLAY_ROWS)
    cellar = {"north": Part(1, "bme280", 0x76), "south": Part(1, "bme280", 0x77), "attic": Part(3, "bme280", 0x76)}
    return [
        Plan("greenhouse", {"climate": Part(1, "bme280", 0x76)}, transport=transport_name),
        Plan("cellar", cellar, transport=transport_name),
        Plan("workshop", replay=rows),
        Plan("pump-house", sensors=SerialSensors, interval="50ms"),
        Plan("boiler-room", sensors=MqttSensors),
    ]


class Demo:
    """One run over a site."""

    def __init__(self, site: Site, screen: Screen) -> None:
        self._site = site
        self._screen = screen
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    async def run(self) -> Result:
        """Every phase in order. Raises LabFailed when a part does not come back."""
        site = self._site
        self._say("making keys, starting a cloud and five gateways")
        await site.build()
        self._say(f"web page, for one browser: {await asyncio.to_thread(site.cloud.login_link)}")
        updates = DemoUpdates(site.cloud, self._pump_house, site.folder / "ota")
        async with self._watching(), self._beside(updates.prepare):
            await self._readings_arrive()
            anomaly = await self._bearing_fails()
            await self._network_is_cut()
            await self._agent_is_killed(site.gateways[1])
            await self._cloud_is_killed()
            self._say("counting")
            stocks = await site.take_stock()
            count = await site.count(stocks, COUNT_TIMEOUT_S)
        stored = sum((await asyncio.to_thread(site.cloud.stored)).values())
        handshakes = sum(network.traffic.connections for network in site.networks)
        false_alarms = anomaly.false_alarms(await asyncio.to_thread(site.cloud.alarms))
        wire_bytes = site.wire_bytes / max(stored, 1)
        async with self._watching():
            updated = await asyncio.to_thread(updates.run, self._say)
        return Result(
            count,
            wire_bytes,
            handshakes,
            self.seconds,
            anomaly.delay_s,
            false_alarms,
            updated.good_active,
            updated.bad_refused,
            updated.reasons,
        )

    @property
    def _pump_house(self) -> LabGateway:
        return next(each for each in self._site.gateways if isinstance(each.sensors, SerialSensors))

    async def stay(self) -> None:
        """Keep everything up, and the table fresh, until cancelled."""
        async with self._watching():
            await asyncio.get_running_loop().create_future()

    async def _readings_arrive(self) -> None:
        self._say("readings arrive")
        if not await self._until_stored({gateway.plan.name: 1 for gateway in self._site.gateways}):
            raise LabFailed(f"no reading arrived within {DRAIN_TIMEOUT_S:.0f} s. {self._logs()}")
        await asyncio.sleep(ARRIVE_S)

    async def _bearing_fails(self) -> Anomaly:
        """Once its model has calibrated and was silent for a while."""
        gateway = self._pump_house
        assert isinstance(gateway.sensors, SerialSensors)
        await asyncio.to_thread(gateway.wait_until_watched)
        self._say(f"the model of {gateway.plan.name} has seen enough of its pump, and watches")
        await asyncio.sleep(QUIET_S)
        anomaly = Anomaly(gateway.plan.name, "pump/vibration")
        anomaly.begin(await asyncio.to_thread(self._site.cloud.alarms), time.time_ns() // NS_PER_MS)
        started = time.monotonic()
        gateway.sensors.pump.wear = WEAR
        self._say("the bearing of the pump breaks")

        def told() -> bool:
            return anomaly.look(self._site.cloud.alarms(), time.monotonic() - started)

        if await asyncio.to_thread(self._site.cloud.wait_for, told, ANOMALY_TIMEOUT_S):
            self._say(f"anomaly in the cloud after {anomaly.delay_s:.1f} s: {anomaly.text}")
        else:
            self._say(f"NO ANOMALY IN THE CLOUD WITHIN {ANOMALY_TIMEOUT_S:.0f} s")
        return anomaly

    async def _network_is_cut(self) -> None:
        self._say(f"network cut for {CUT_S:.0f} s")
        self._site.set_network(Mode.CUT)
        await asyncio.sleep(CUT_S)
        taken = await self._taken()
        buffered = sum(line.buffered or 0 for line in await self._lines())
        self._say(f"network back, buffering {buffered} readings")
        await self._drained(taken)

    async def _agent_is_killed(self, gateway: LabGateway) -> None:
        self._say(f"SIGKILL to the agent of {gateway.plan.name}")
        await asyncio.to_thread(gateway.kill)
        await asyncio.to_thread(gateway.start)
        self._say("agent restarted: what the journal held is taken up again")
        await self._drained(await self._taken())

    async def _cloud_is_killed(self) -> None:
        site = self._site
        self._say(f"network cut for {BACKLOG_S:.0f} s, to have a backlog; then slow, to have it on the way")
        site.set_network(Mode.CUT)
        await asyncio.sleep(BACKLOG_S)
        for network in site.networks:
            network.delay_s = SLOW_S
        site.set_network(Mode.PASS)
        unacked = await asyncio.to_thread(self._wait_for_messages)
        await asyncio.sleep(1.5 * SLOW_S)  # what was sent first has arrived, and its acknowledgement has not
        await asyncio.to_thread(site.cloud.kill)
        self._say(f"SIGKILL to the cloud, with {unacked} bytes on the way and not acknowledged")
        for network in site.networks:
            network.delay_s = 0.0
        await asyncio.to_thread(site.restart_cloud)
        self._say("cloud restarted")
        await self._drained(await self._taken())

    def _wait_for_messages(self) -> int:
        """Until an agent has sent what the cloud has not acknowledged; its bytes."""
        end = time.monotonic() + DRAIN_TIMEOUT_S
        while time.monotonic() < end:
            for gateway in self._site.gateways:
                status = gateway.status()
                if status is not None and status["sync"]["in_flight_bytes"]:
                    return int(status["sync"]["in_flight_bytes"])
        raise LabFailed(f"no agent sent anything within {DRAIN_TIMEOUT_S:.0f} s. {self._logs()}")

    async def _taken(self) -> dict[str, int]:
        return {line.name: line.taken for line in await self._lines() if line.taken is not None}

    async def _drained(self, wanted: dict[str, int]) -> None:
        self._site.set_network(Mode.PASS)
        if not await self._until_stored(wanted):
            raise LabFailed(f"not drained within {DRAIN_TIMEOUT_S:.0f} s. {self._logs()}")
        self._say("drained")

    async def _until_stored(self, wanted: dict[str, int]) -> bool:
        cloud = self._site.cloud

        def reached() -> bool:
            stored = cloud.stored()
            return all(stored.get(name, 0) >= number for name, number in wanted.items())

        return await asyncio.to_thread(cloud.wait_for, reached, DRAIN_TIMEOUT_S)

    async def _lines(self) -> list[GatewayLine]:
        """Every gateway as it says itself, and as the cloud says."""
        stored: dict[str, int] = {}
        with contextlib.suppress(OSError):
            stored = await asyncio.to_thread(self._site.cloud.stored)
        statuses = await asyncio.gather(*(asyncio.to_thread(gateway.status) for gateway in self._site.gateways))
        lines = []
        for gateway, status in zip(self._site.gateways, statuses):
            name = gateway.plan.name
            sensors = gateway.kinds
            if status is None:
                lines.append(GatewayLine(name, sensors, None, None, None, stored.get(name)))
                continue
            buffer, sync = status["buffer"], status["sync"]
            connected = bool(sync["connected"])
            lines.append(GatewayLine(name, sensors, buffer["next_seq"], buffer["cells"], connected, stored.get(name)))
        return lines

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        """Renew the table beside the work."""

        async def watch() -> None:
            while True:
                self._screen.show(await self._lines())
                await asyncio.sleep(LOOK_S)

        task = asyncio.create_task(watch())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @asynccontextmanager
    async def _beside(self, work: Callable[[], None]) -> AsyncIterator[None]:
        """Do this on a thread beside what follows, and be done with it at the end."""
        task = asyncio.create_task(asyncio.to_thread(work))
        try:
            yield
            await task
        finally:
            await asyncio.gather(task, return_exceptions=True)

    def _say(self, text: str) -> None:
        self._screen.say(text, self.seconds)

    def _logs(self) -> str:
        logs = [self._site.cloud.log, *(gateway.log for gateway in self._site.gateways)]
        return "\n".join(["Logs end:", *(text for log in logs for text in (f"{log}:", *log_end(log)))])
