"""The smallest MQTT broker that a peer can be tested with: it counts what arrives, and gives what it is told to give.

MQTT 3.1.1 and 5 (OASIS standards); QoS 0 and 1. As a sink it remembers every number in a payload. As a source it
sends numbers to whoever has subscribed, and a number counts as accepted when its PUBACK has come.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 8, 9
UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 10, 11, 12, 13, 14
PACKET_BYTES_MAX = 1 << 20
IN_FLIGHT_MAX = 20
FIRST_MS = 1_780_000_000_000
Reply = Callable[[str, bytes], tuple[str, bytes] | None]
_NUMBER = re.compile(rb'"n"\s*:\s*(\d{1,18})(?!\d)')


class MqttStub:
    """Start with `start`; `port` is then known."""

    def __init__(self, reply: Reply = lambda topic, payload: None) -> None:
        """`reply`: what to say to a message, as topic and payload, at QoS 0; None for nothing."""
        self.delivered: Counter[int] = Counter()  # numbers that arrived, and how often
        self.accepted: set[int] = set()  # numbers that a subscriber has acknowledged
        self._reply = reply
        self._server: asyncio.Server | None = None
        self._subscribers: list[_Client] = []
        self._clients: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None, "the stub is not started"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def has_subscriber(self) -> bool:
        """Somebody wants numbers."""
        return bool(self._subscribers)

    async def start(self) -> None:
        """Listen on a free port of the loopback."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def close(self) -> None:
        """Stop listening and drop everyone."""
        assert self._server is not None
        self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def give(self, number: int) -> bool:
        """Send a number to the newest subscriber; False when there is none or it has too much unanswered."""
        return bool(self._subscribers) and self._subscribers[-1].give(number)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        client = _Client(writer, self._heard, self.accepted.add, self._reply)
        try:
            with suppress(OSError, EOFError, IndexError, ValueError, asyncio.CancelledError):  # gone, or no MQTT
                while await client.answer(reader):
                    if client.topic and client not in self._subscribers:
                        self._subscribers.append(client)
        finally:
            if client in self._subscribers:
                self._subscribers.remove(client)
            self._clients.discard(task)
            writer.transport.abort()

    def _heard(self, payload: bytes) -> None:
        self.delivered.update(int(number) for number in _NUMBER.findall(payload))


class _Client:
    """One connection."""

    def __init__(
        self,
        writer: asyncio.StreamWriter,
        heard: Callable[[bytes], None],
        accepted: Callable[[int], None],
        reply: Reply,
    ) -> None:
        self.topic = ""  # subscribed to
        self._writer = writer
        self._heard = heard
        self._accepted = accepted
        self._reply = reply
        self._is_v5 = False
        self._packet_id = 0
        self._unanswered: dict[int, int] = {}  # number by packet id

    def give(self, number: int) -> bool:
        """Send one number at QoS 1."""
        if len(self._unanswered) >= IN_FLIGHT_MAX:
            return False
        self._packet_id = self._packet_id % 0xFFFF + 1
        self._unanswered[self._packet_id] = number
        topic = self.topic.encode()
        head = len(topic).to_bytes(2, "big") + topic + self._packet_id.to_bytes(2, "big") + self._no_properties
        payload = json.dumps({"n": number, "ts": FIRST_MS + number})  # a millisecond each: none replaces another
        self._send(PUBLISH << 4 | 1 << 1, head + payload.encode())
        return True

    async def answer(self, reader: asyncio.StreamReader) -> bool:
        """Read one packet and answer it; False at the end. Raises IncompleteReadError, OSError."""
        first = (await reader.readexactly(1))[0]
        size = await _length(reader)
        if size > PACKET_BYTES_MAX:
            return False
        body = await reader.readexactly(size)
        match first >> 4:
            case 1:  # CONNECT: protocol name, level
                at = 2 + int.from_bytes(body[:2], "big")
                self._is_v5 = body[at] & 0x7F == 5
                self._send(CONNACK << 4, b"\0\0" + self._no_properties)
            case 3:
                self._take(first, body)
            case 4:
                number = self._unanswered.pop(int.from_bytes(body[:2], "big"), None)
                if number is not None:
                    self._accepted(number)
            case 8:
                self._subscribe(body)
            case 10:
                self._send(UNSUBACK << 4, body[:2] + (b"\0\0" if self._is_v5 else b""))
            case 12:
                self._send(PINGRESP << 4, b"")
            case 14:
                return False
        await self._writer.drain()
        return True

    @property
    def _no_properties(self) -> bytes:
        return b"\0" if self._is_v5 else b""

    def _take(self, first: int, body: bytes) -> None:
        at = 2 + int.from_bytes(body[:2], "big")
        topic, packet_id = body[2:at].decode(), body[at : at + 2]
        self._heard(body[at:])
        if first >> 1 & 3:
            self._send(PUBACK << 4, packet_id)
        said = self._reply(topic, body[at:])
        if said is not None:
            name = said[0].encode()
            self._send(PUBLISH << 4, len(name).to_bytes(2, "big") + name + self._no_properties + said[1])

    def _subscribe(self, body: bytes) -> None:
        """Every filter is granted with QoS 1; the first without a wildcard and not of the broker's own is served."""
        at = 2
        if self._is_v5:
            at += 1 + body[at]  # properties, shorter than 128 bytes in every client tested
        granted = 0
        while at < len(body):
            size = int.from_bytes(body[at : at + 2], "big")
            name = body[at + 2 : at + 2 + size].decode()
            at += 3 + size
            granted += 1
            if not self.topic and name.startswith("lab/"):
                self.topic = name
        self._send(SUBACK << 4, body[:2] + self._no_properties + b"\1" * granted)

    def _send(self, first: int, body: bytes) -> None:
        size = len(body)
        length = bytearray()
        while True:
            size, low = divmod(size, 128)
            length.append(low | (0x80 if size else 0))
            if not size:
                break
        self._writer.write(bytes([first]) + bytes(length) + body)


async def _length(reader: asyncio.StreamReader) -> int:
    """Remaining length: up to four groups of seven bits."""
    value = 0
    for place in range(4):
        byte = (await reader.readexactly(1))[0]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    return value
