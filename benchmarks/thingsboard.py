"""ThingsBoard gateway (PyPI `thingsboard-gateway`, Apache-2.0) with its SQLite store, drained into a stub MQTT broker.

It is installed into an environment of its own, which is kept in the user's cache folder.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

VERSION = "3.8.5"
READY_S_MAX = 60.0
DRAIN_S_MAX = 300.0
TELEMETRY = "v1/gateway/telemetry"
ASK = "v1/devices/me/rpc/request/"  # it asks its server for limits, and sends nothing before the answer
FREE = "0:0,"  # no rate limit
KINDS = ("messages", "telemetryMessages", "telemetryDataPoints")
LIMITS = {
    "maxPayloadSize": 65_536,
    "maxInflightMessages": 100,
    "rateLimits": dict.fromkeys(KINDS, FREE),
    "gatewayRateLimits": dict.fromkeys(KINDS, FREE),
}
CONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, PING, DISCONNECT = 1, 3, 8, 10, 12, 14  # MQTT 5, 2.1.2
CONNACK, PUBACK, SUBACK, UNSUBACK, PONG = b"\x20", b"\x40", b"\x90", b"\xb0", b"\xd0"


class NoPeer(Exception):
    """It cannot be installed or does not start; the text says why."""


@dataclass(slots=True)
class Broker:
    """Takes everything and acknowledges it at once. Counts values of telemetry."""

    port: int = 0
    values: int = 0
    first_s: float | None = None
    last_s: float = 0.0
    size: int = 0  # bytes of telemetry

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):  # the loop ends
            while True:
                head = (await reader.readexactly(1))[0]
                body = await reader.readexactly(await _length(reader))
                kind = head >> 4
                if kind == CONNECT:
                    writer.write(CONNACK + b"\x03\x00\x00\x00")
                elif kind == PUBLISH:
                    writer.write(self._published(head, body))
                elif kind in (SUBSCRIBE, UNSUBSCRIBE):
                    writer.write((SUBACK if kind == SUBSCRIBE else UNSUBACK) + b"\x04" + body[:2] + b"\x00\x00")
                elif kind == PING:
                    writer.write(PONG + b"\x00")
                elif kind == DISCONNECT:
                    break
                await writer.drain()
        writer.close()

    def _published(self, head: int, body: bytes) -> bytes:
        length = int.from_bytes(body[:2], "big")
        topic, rest = body[2 : 2 + length].decode(), body[2 + length :]
        qos = head >> 1 & 3
        identifier, rest = (rest[:2], rest[2:]) if qos else (b"", rest)
        ack = PUBACK + b"\x02" + identifier if qos else b""
        payload = rest[1 + rest[0] :]  # after its properties, few enough for one byte of length
        if topic.startswith(ASK):
            answer = _text(topic.replace("request", "response")) + b"\x00" + json.dumps(LIMITS).encode()
            return ack + bytes([PUBLISH << 4]) + _packed(len(answer)) + answer
        if topic == TELEMETRY:
            self.last_s = time.monotonic()
            self.first_s = self.first_s or self.last_s
            self.size += len(body)
            for device, items in json.loads(payload).items():
                if device.startswith("bench"):
                    self.values += sum(len(item["values"]) for item in items)
        return ack


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def _packed(length: int) -> bytes:
    """MQTT 5, 1.5.5, for less than 16,384."""
    return bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])


async def _length(reader: asyncio.StreamReader) -> int:
    """MQTT 5, 1.5.5."""
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            return length


@contextmanager
def broker() -> Iterator[Broker]:
    """One on a free port, on a thread of its own."""
    loop = asyncio.new_event_loop()
    made = Broker()

    async def start() -> None:
        server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
        made.port = server.sockets[0].getsockname()[1]

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, name="broker", daemon=True)
    thread.start()
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def environment() -> Path:
    """The interpreter of an environment that has it. Raises NoPeer."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "tidegate-bench" / f"thingsboard-gateway-{VERSION}"
    python, ready = folder / "bin" / "python", folder / ".ready"
    if not ready.exists():
        steps = (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", f"thingsboard-gateway=={VERSION}"],
        )
        for step in steps:
            done = subprocess.run(step, check=False, capture_output=True, text=True)
            if done.returncode:
                raise NoPeer(f"{' '.join(step)}: {(done.stderr or done.stdout).strip()[-300:]}")
        ready.touch()
    return python


def prepare(folder: Path, rows: list[tuple[int, dict[str, float]]], port: int) -> None:
    """Its configuration, and a store that holds these rows (milliseconds, values by name) as it would have written."""
    data = folder / "data"
    data.mkdir(parents=True)
    limits = ("rateLimits", "dpRateLimits", "messagesRateLimits", "deviceMessagesRateLimits", "deviceRateLimits")
    server = {
        "host": "127.0.0.1",
        "port": port,
        "remoteShell": False,
        "remoteConfiguration": False,
        "statistics": {"enable": False},
        "maxPayloadSizeBytes": 65_000,
        "minPackSendDelayMS": 0,
        "minPackSizeToSend": 500,
        "security": {"type": "accessToken", "accessToken": "bench"},
        "qos": 1,
        **dict.fromkeys((*limits, "deviceDpRateLimits"), FREE),
    }
    storage = {"type": "sqlite", "data_file_path": f"{data}/", "max_read_records_count": 1000, "size_limit": 1024}
    config = {"thingsboard": server, "storage": storage, "grpc": {"enabled": False}, "connectors": []}
    (folder / "tb_gateway.json").write_text(json.dumps(config))
    (folder / "logs.json").write_text(
        json.dumps({"version": 1, "disable_existing_loggers": False, "root": {"level": "ERROR", "handlers": []}})
    )
    store = sqlite3.connect(data / "data.db")
    store.execute(
        "CREATE TABLE messages "
        "(id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp INTEGER NOT NULL, message TEXT NOT NULL)"
    )
    events = (
        (
            stamp,
            json.dumps({"deviceName": "bench", "deviceType": "default", "telemetry": [{"ts": stamp, "values": row}]}),
        )
        for stamp, row in rows
    )
    store.executemany("INSERT INTO messages (timestamp, message) VALUES (?, ?)", events)
    store.commit()
    store.close()


def drain(folder: Path, rows: list[tuple[int, dict[str, float]]]) -> tuple[float, float]:
    """Values per second from its first message to its last, and payload bytes per value. Raises NoPeer."""
    python = environment()
    count = sum(len(row) for _, row in rows)
    with broker() as stub:
        prepare(folder, rows, stub.port)
        main = "from thingsboard_gateway.gateway.tb_gateway_service import TBGatewayService as Gateway; "
        main += f"Gateway('{folder}/tb_gateway.json')"
        child = subprocess.Popen(
            [str(python), "-c", main], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            deadline = time.monotonic() + READY_S_MAX
            while stub.values < count:
                if child.poll() is not None or time.monotonic() > deadline:
                    said = child.communicate()[1][-300:] if child.poll() is not None else ""
                    raise NoPeer(f"{stub.values} of {count} values came. {said}")
                if stub.first_s is not None:
                    deadline = stub.last_s + READY_S_MAX
                time.sleep(0.05)
        finally:
            child.send_signal(signal.SIGKILL)
            child.communicate()
    assert stub.first_s is not None
    return count / (stub.last_s - stub.first_s), stub.size / count
