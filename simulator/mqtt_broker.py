"""An MQTT broker on a free port: mosquitto where it is installed, else amqtt, in pure Python and without MQTT 5."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simulator.lab.processes import LabFailed, Process

START_S_MAX = 20.0
QUEUED_MAX = 100_000  # messages that mosquitto keeps for a session that is away; its default is 1000


@dataclass(frozen=True, slots=True)
class BrokerTls:
    """PEM files of a broker that asks its clients for certificates."""

    ca: Path
    cert: Path
    key: Path


def mosquitto() -> str | None:
    """The program, where it is installed; Debian has it in /usr/sbin."""
    return shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


class MqttBroker:
    """One broker as a process. Killed and started again it keeps its port and, with mosquitto, its sessions.

    Everyone may come; with `tls`, everyone with a certificate of its CA. `options`: further lines of mosquitto.conf.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tls: BrokerTls | None = None,
        options: Sequence[str] = (),
        pure_python: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.tls = tls
        self._folder = folder
        self._options = tuple(options)
        self._program = None if pure_python else mosquitto()
        if self._program is None and (tls or options):
            raise LabFailed("this needs a real broker. Try: apt-get install mosquitto")
        self._process: Process | None = None

    @property
    def kind(self) -> str:
        """For the screen: which broker it is."""
        if self._program is not None:
            return "mosquitto"
        why = "asked for" if mosquitto() else "mosquitto is not installed"
        return f"amqtt, in pure Python, MQTT 3.1.1 ({why})"

    @property
    def url(self) -> str:
        """For an agent's [mqtt.NAME]."""
        return f"{'mqtts' if self.tls else 'mqtt'}://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What it said."""
        return self._folder / "broker.log"

    def start(self) -> None:
        """Start and wait until it listens. Raises LabFailed."""
        process = self._process = Process("broker", self._command(), self.log)
        end = time.monotonic() + START_S_MAX
        while not listens(self.port):
            if process.exit_code is not None or time.monotonic() > end:
                raise process.failed("the broker did not start")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: what it had not written is gone."""
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        """SIGTERM: mosquitto writes its sessions first."""
        if self._process is not None:
            self._process.stop()

    def _command(self) -> list[str]:
        if self._program is None:
            return [sys.executable, "-m", "simulator.mqtt_broker", str(self.port)]
        lines = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {self._folder}/",
            "autosave_interval 1",
            f"max_queued_messages {QUEUED_MAX}",
            *self._options,
        ]
        if os.getuid() == 0:
            lines.append("user root")  # else it becomes the user mosquitto, who may not read our folder
        if self.tls is not None:
            lines += [f"cafile {self.tls.ca}", f"certfile {self.tls.cert}", f"keyfile {self.tls.key}"]
            lines += ["require_certificate true", "use_identity_as_username true"]
        if not any(line.startswith(("allow_anonymous", "password_file")) for line in lines) and self.tls is None:
            lines.append("allow_anonymous true")
        file = self._folder / "mosquitto.conf"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [self._program, "-c", str(file)]


def free_port() -> int:
    """A port of the loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody answers there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


async def serve(port: int) -> None:
    """amqtt, until the process ends."""
    from amqtt.broker import Broker

    listener = {"type": "tcp", "bind": f"127.0.0.1:{port}"}
    plugin = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    broker = Broker({"listeners": {"default": listener}, "plugins": plugin})
    await broker.start()
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
