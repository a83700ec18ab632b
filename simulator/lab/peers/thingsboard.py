"""ThingsBoard IoT Gateway, as its package installs it: MQTT connector in, SQLite storage, MQTT to the server out.

It runs in an environment of its own, which `install` makes. A reading is accepted when its MQTT connector has answered
it with PUBACK (QoS 1). Limits of rate are switched off; everything else is its own default, except the storage, which
is SQLite instead of memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from simulator.lab.peers.mqtt_stub import MqttStub
from simulator.lab.processes import LabFailed, Process

VERSION = "3.8.5"
TOPIC = "lab/readings"
REQUEST, REPLY = "v1/devices/me/rpc/request/", "v1/devices/me/rpc/response/"
INSTALL_S_MAX = 600
SETTINGS = "storage sqlite, QoS 1, rate limits off, remote configuration and statistics off, all else default"
PACKAGE = f"thingsboard-gateway=={VERSION}"


def python_of(folder: Path) -> Path:
    """The Python of the environment that `install` made."""
    return folder / "thingsboard" / "bin" / "python"


def install(folder: Path) -> None:
    """Into an environment below `folder`. Raises LabFailed."""
    python = python_of(folder)
    commands = (
        [sys.executable, "-m", "venv", str(folder / "thingsboard")],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False)
        if done.returncode:
            raise LabFailed(f"{PACKAGE} cannot be installed: {done.stderr.strip()[-500:]}")


class ThingsboardPeer:
    """See `Peer`."""

    def __init__(self, folder: Path, python: Path, source: MqttStub) -> None:
        """`source`: a started stub, from which its connector reads."""
        self._folder = folder
        self._python = python
        self._source = source
        self._process: Process | None = None

    @property
    def accepted(self) -> set[int]:
        """See `Peer`."""
        return set(self._source.accepted)

    def reply(self, topic: str, payload: bytes) -> tuple[str, bytes] | None:
        """See `Peer`: it sends nothing until its server has named the limits of the session. There are none."""
        if not topic.startswith(REQUEST) or b"getSessionLimits" not in payload:
            return None
        return REPLY + topic.removeprefix(REQUEST), json.dumps(_SESSION).encode()

    def start(self, port: int) -> None:
        """See `Peer`."""
        config = self._folder / "config"
        config.mkdir(exist_ok=True)
        (self._folder / "logs").mkdir(exist_ok=True)
        (config / "tb_gateway.json").write_text(json.dumps(self._general(port)), encoding="utf-8")
        (config / "mqtt.json").write_text(json.dumps(self._connector()), encoding="utf-8")
        (config / "logs.json").write_text(json.dumps(_LOGS), encoding="utf-8")
        code = "from thingsboard_gateway.tb_gateway import main; main()"
        environment = {"TB_GW_CONFIG_DIR": str(config), "PYTHONPATH": "", **_OFFLINE}
        command = [str(self._python), "-c", code]
        self._process = Process("thingsboard", command, self._folder / "log", environment, folder=self._folder)

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
        """See `Peer`."""
        return self._source.give(number)

    async def ready(self) -> bool:
        """See `Peer`."""
        return self._source.has_subscriber

    async def close(self) -> None:
        """See `Peer`. It does not end on SIGTERM within any useful time."""
        if self._process is not None:
            self._process.kill()
        await self._source.close()

    def _general(self, port: int) -> dict[str, object]:
        return {
            "thingsboard": {
                "host": "127.0.0.1",
                "port": port,
                "remoteShell": False,
                "remoteConfiguration": False,
                "statistics": {"enable": False},
                "maxPayloadSizeBytes": 8196,
                "minPackSendDelayMS": 50,
                "minPackSizeToSend": 500,
                "checkConnectorsConfigurationInSeconds": 60,
                "security": {"type": "accessToken", "accessToken": "lab"},
                "qos": 1,
                **dict.fromkeys(_LIMITS, "0:0,"),
            },
            "storage": {"type": "sqlite", "data_file_path": f"{self._folder}/data/"},
            "grpc": {"enabled": False},
            "connectors": [{"name": "lab", "type": "mqtt", "configuration": "mqtt.json"}],
        }

    def _connector(self) -> dict[str, object]:
        device = {
            "deviceNameExpressionSource": "constant",
            "deviceNameExpression": "lab",
            "deviceProfileExpressionSource": "constant",
            "deviceProfileExpression": "default",
        }
        converter = {
            "type": "json",
            "deviceInfo": device,
            "sendDataOnlyOnChange": False,
            "timeout": 60000,
            "timeseries": [{"type": "integer", "key": "n", "value": "${n}", "tsField": "${ts}"}],
        }
        broker = {
            "host": "127.0.0.1",
            "port": self._source.port,
            "clientId": "lab-gateway",
            "version": 5,
            "maxMessageNumberPerWorker": 10,
            "maxNumberOfWorkers": 100,
            "security": {"type": "anonymous"},
        }
        mapping = [{"topicFilter": TOPIC, "subscriptionQos": 1, "converter": converter}]
        return {"broker": broker, "mapping": mapping}


_LIMITS = (
    "rateLimits",
    "dpRateLimits",
    "messagesRateLimits",
    "deviceMessagesRateLimits",
    "deviceRateLimits",
    "deviceDpRateLimits",
)
_NO_LIMITS = {"messages": "", "telemetryMessages": "", "telemetryDataPoints": ""}
_SESSION = {
    "maxPayloadSize": 65536,
    "maxInflightMessages": 100,
    "rateLimits": _NO_LIMITS,
    "gatewayRateLimits": _NO_LIMITS,
}
_OFFLINE = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}  # it asks its vendor for updates
_LOGS = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
    "root": {"level": "WARNING", "handlers": ["console"]},
}
