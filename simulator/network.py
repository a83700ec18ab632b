"""A TCP proxy that stands for the network: it cuts, stalls, goes mute, delays, and counts bytes both ways."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

READ_BYTES = 65_536
IN_FLIGHT_MAX = 64  # reads that a delay may hold per direction


class Mode(StrEnum):
    """What the network does now."""

    PASS = "pass"
    CUT = "cut"  # every connection is reset, new ones too
    STALL = "stall"  # nothing is read any more: the sender's buffers fill
    MUTE = "mute"  # everything is read, nothing arrives; such a connection is reset when the mode ends
    UNANSWERED = "unanswered"  # as mute, but what clients send arrives: only the answers do not


@dataclass(slots=True)
class Traffic:
    """Bytes of TCP payload since the start, and connections that reached the target."""

    up: int = 0
    down: int = 0
    connections: int = 0


class Proxy:
    """Forwards connections on `port` to one target. All methods belong to the loop that called `start`."""

    def __init__(self, host: str, port: int, delay_s: float = 0.0) -> None:
        self.traffic = Traffic()
        self.delay_s = delay_s
        self.answer_delay_s = 0.0  # of what the target says, on top
        self._cuts_answer = False
        self._target = (host, port)
        self._mode = Mode.PASS
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    @property
    def mode(self) -> Mode:
        """What the network does now."""
        return self._mode

    @property
    def port(self) -> int:
        """Where clients connect."""
        assert self._server is not None, "the proxy is not started"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> None:
        """Listen. Raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._accept, host, port)

    def set(self, mode: Mode) -> None:
        """Change what the network does, for open connections and new ones."""
        if mode is not self._mode:
            self._reset(lambda connection: connection.loses["up"] or connection.loses["down"])
        self._mode = mode
        if mode is Mode.STALL:
            self._flowing.clear()
        else:
            self._flowing.set()
        if mode is Mode.CUT:
            self._reset(lambda _: True)

    def cut_at_answer(self) -> None:
        """Reset the connection on which the target speaks next; what it says does not arrive."""
        self._cuts_answer = True

    def mend(self) -> None:
        """Let everything through from now on."""
        self._cuts_answer = False
        self.set(Mode.PASS)

    def retarget(self, host: str, port: int) -> None:
        """Lead new connections elsewhere."""
        self._target = (host, port)

    async def close(self) -> None:
        """Reset every connection and stop listening."""
        if self._server is None:
            return
        self._server.close()
        self._mode = Mode.CUT
        self._flowing.set()
        self._reset(lambda _: True)
        await asyncio.gather(*(connection.task for connection in self._connections), return_exceptions=True)
        await self._server.wait_closed()

    async def forward(self, data: bytes, connection: _Connection, way: str) -> bytes:
        """What comes out at the other end of the wire."""
        if self._mode is Mode.MUTE or (self._mode is Mode.UNANSWERED and way == "down"):
            connection.loses[way] = True
        elif way == "down" and self._cuts_answer:
            self._cuts_answer = False
            connection.loses[way] = True
            connection.task.cancel()
        return b"" if connection.loses[way] else data

    async def flowing(self) -> None:
        """Wait until the network lets data through."""
        await self._flowing.wait()

    def _reset(self, which: Callable[[_Connection], bool]) -> None:
        for connection in list(self._connections):
            if which(connection):
                connection.task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode is Mode.CUT:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        connection = _Connection(self, task)
        self._connections.add(connection)
        try:
            await connection.run(reader, writer, self._target)
        except asyncio.CancelledError:
            return  # reset by `set` or `close`
        finally:
            writer.transport.abort()
            self._connections.discard(connection)


class _Connection:
    def __init__(self, proxy: Proxy, task: asyncio.Task[None]) -> None:
        self.task = task
        self.loses = {"up": False, "down": False}  # what came this way once, so that nothing may follow it
        self._proxy = proxy

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: tuple[str, int]) -> None:
        """Until both ends have closed, or either fails."""
        try:
            far_reader, far_writer = await asyncio.open_connection(*target)
        except OSError:
            return
        traffic = self._proxy.traffic
        traffic.connections += 1

        def up(count: int) -> None:
            traffic.up += count

        def down(count: int) -> None:
            traffic.down += count

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer, "up", up))
                group.create_task(self._pump(far_reader, writer, "down", down))
        except* OSError:
            pass  # either end was reset: so is the other
        finally:
            far_writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str, count: Callable[[int], None]
    ) -> None:
        """One direction: a reader and a writer with a queue of what the delay holds between them."""
        loop = asyncio.get_running_loop()
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(IN_FLIGHT_MAX)

        async def deliver() -> None:
            while True:
                due, data = await held.get()
                await asyncio.sleep(due - loop.time())
                await self._proxy.flowing()
                if not data:
                    writer.write_eof()
                    return
                arrived = await self._proxy.forward(data, self, way)
                count(len(arrived))
                writer.write(arrived)
                await writer.drain()

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            while True:
                await self._proxy.flowing()
                data = await reader.read(READ_BYTES)
                late_s = self._proxy.answer_delay_s if way == "down" else 0.0
                await held.put((loop.time() + self._proxy.delay_s + late_s, data))
                if not data:
                    return


@dataclass(frozen=True, slots=True)
class PlannedMode:
    """A mode of the network from one moment to another, seconds after the start."""

    mode: Mode
    start_s: float
    end_s: float


def parse_plan(text: str) -> PlannedMode:
    """`cut@10-20`. Raises ValueError with the form."""
    match = re.fullmatch(r"(cut|stall|mute|unanswered)@(\d+\.?\d*)-(\d+\.?\d*)", text)
    if match is None or float(match[3]) <= float(match[2]):
        modes = ", ".join(mode for mode in Mode if mode is not Mode.PASS)
        raise ValueError(f"{text!r}: write MODE@START-END in seconds, as in cut@10-20; modes: {modes}")
    return PlannedMode(Mode(match[1]), float(match[2]), float(match[3]))


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT`, or a port on this machine. Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"{text!r}: write HOST:PORT or PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


async def serve(
    listen: tuple[str, int],
    target: tuple[str, int],
    delay_s: float,
    plan: Sequence[PlannedMode],
    say: Callable[[str], None],
) -> None:
    """Run a proxy by a plan until cancelled; `say` gets a line for each change and the traffic at the end."""
    proxy = Proxy(*target, delay_s)
    await proxy.start(listen[1], listen[0])
    say(f"{listen[0]}:{proxy.port} -> {target[0]}:{target[1]}")
    loop = asyncio.get_running_loop()

    def change(mode: Mode) -> None:
        proxy.set(mode)
        say(f"{mode.value}: {proxy.traffic.up} bytes up, {proxy.traffic.down} down so far")

    for step in plan:
        loop.call_later(step.start_s, change, step.mode)
        loop.call_later(step.end_s, change, Mode.PASS)
    try:
        await loop.create_future()
    finally:
        await proxy.close()
        traffic = proxy.traffic
        say(f"{traffic.connections} connections, {traffic.up} bytes up, {traffic.down} bytes down")
