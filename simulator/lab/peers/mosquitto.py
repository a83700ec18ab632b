"""mosquitto as a store-and-forward gateway: a bridge to the far broker, with persistence and no limit of its queue.

Its settings are the most careful that it has: QoS 1 all the way, a session that is kept, its state written every
second, no limit to queued messages. A reading is accepted when the local mosquitto has answered it with PUBACK.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

from simulator.lab.processes import LabFailed, Process
from simulator.mqtt_broker import free_port, listens, mosquitto
from simulator.mqtt_sensor import MqttSensor

TOPIC = "lab/readings"
SETTINGS = "bridge QoS 1, cleansession false, persistence true, autosave_interval 1, max_queued_messages 0"


class MosquittoPeer:
    """See `Peer`."""

    def __init__(self, folder: Path) -> None:
        program = mosquitto()
        if program is None:
            raise LabFailed("mosquitto is not installed. Try: apt-get install mosquitto")
        self._program = program
        self._folder = folder
        self._port = free_port()
        self._process: Process | None = None
        self._sensor = MqttSensor(self._port, TOPIC, folder / "accepted", 1.0)

    @property
    def accepted(self) -> set[int]:
        """See `Peer`."""
        return set(self._sensor.given_out)

    def reply(self, topic: str, payload: bytes) -> None:
        """See `Peer`: a broker says nothing of itself."""

    def start(self, port: int) -> None:
        """See `Peer`."""
        file = self._folder / "mosquitto.conf"
        lines = [
            f"listener {self._port} 127.0.0.1",
            "allow_anonymous true",
            "persistence true",
            f"persistence_location {self._folder}/data/",
            "autosave_interval 1",
            "max_queued_messages 0",
            "connection far",
            f"address 127.0.0.1:{port}",
            f"topic {TOPIC} out 1",
            "cleansession false",
            "notifications false",
            "try_private false",
            "restart_timeout 1",
            "keepalive_interval 5",
        ]
        if os.getuid() == 0:
            lines.append("user root")
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        first = self._process is None
        self._process = Process("mosquitto", [self._program, "-c", str(file)], self._folder / "log")
        if first:
            self._sensor.connect()

    def kill(self) -> None:
        """See `Peer`."""
        assert self._process is not None
        self._process.kill()

    def signal(self, number: int) -> None:
        """See `Peer`."""
        assert self._process is not None
        self._process.signal(number)

    @property
    def has_ended(self) -> bool:
        """See `Peer`."""
        return self._process is not None and self._process.exit_code is not None

    async def give(self, number: int) -> bool:
        """See `Peer`. The sensor keeps what is not acknowledged and gives it again, as MQTT clients do."""
        self._sensor.publish()
        return True

    async def ready(self) -> bool:
        """See `Peer`."""
        return await asyncio.to_thread(listens, self._port)

    async def close(self) -> None:
        """See `Peer`."""
        await asyncio.to_thread(self._sensor.stop, 1.0)
        if self._process is not None:
            await asyncio.to_thread(self._process.stop, 5.0)


def version() -> str:
    """Of the mosquitto that is installed."""
    program = mosquitto()
    if program is None:
        return "not installed"
    said = subprocess.run([program, "-h"], capture_output=True, text=True, check=False).stdout
    return said.splitlines()[0].removeprefix("mosquitto version ").strip() if said else "unknown"
