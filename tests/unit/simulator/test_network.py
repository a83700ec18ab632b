"""The proxy: what passes is whole and counted; what is cut, stalled or muted does not pass."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from simulator.lab.network_faults import NETWORK_FAULTS, break_network
from simulator.network import Mode, PlannedMode, Proxy, parse_address, parse_plan, serve

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def echo_behind_proxy(delay_s: float = 0.0) -> AsyncIterator[Proxy]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = Proxy("127.0.0.1", server.sockets[0].getsockname()[1], delay_s)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def exchange(streams: Streams, data: bytes) -> bytes:
    reader, writer = streams
    writer.write(data)
    return await asyncio.wait_for(reader.readexactly(len(data)), 5)


async def test_bytes_pass_whole_and_are_counted() -> None:
    data = bytes(range(256)) * 4000
    async with echo_behind_proxy() as proxy, connected(proxy) as streams:
        assert await exchange(streams, data) == data
        assert (proxy.traffic.up, proxy.traffic.down, proxy.traffic.connections) == (len(data), len(data), 1)
        streams[1].write_eof()
        assert await asyncio.wait_for(streams[0].read(), 5) == b""


async def test_a_cut_resets_open_and_new_connections() -> None:
    async with echo_behind_proxy() as proxy, connected(proxy) as streams:
        await exchange(streams, b"x")
        proxy.set(Mode.CUT)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await exchange(streams, b"y" * 100_000)
        async with connected(proxy) as late:
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await exchange(late, b"z" * 100_000)
        proxy.set(Mode.PASS)
        async with connected(proxy) as again:
            assert await exchange(again, b"back") == b"back"


async def test_a_stall_holds_everything_and_loses_nothing() -> None:
    async with echo_behind_proxy() as proxy, connected(proxy) as streams:
        await exchange(streams, b"x")
        proxy.set(Mode.STALL)
        streams[1].write(b"held")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(streams[0].read(1), 0.1)
        assert proxy.traffic.up == 1
        proxy.set(Mode.PASS)
        assert await asyncio.wait_for(streams[0].readexactly(4), 5) == b"held"


async def test_a_stalled_sender_is_held_up() -> None:
    async with echo_behind_proxy() as proxy, connected(proxy) as (_, writer):
        proxy.set(Mode.STALL)
        writer.write(bytes(32 << 20))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 0.2)


async def test_a_mute_network_takes_all_and_its_connections_end() -> None:
    async with echo_behind_proxy() as proxy, connected(proxy) as streams:
        await exchange(streams, b"x")
        proxy.set(Mode.MUTE)
        streams[1].write(b"y" * 1_000_000)
        await asyncio.wait_for(streams[1].drain(), 5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(streams[0].read(1), 0.1)
        assert proxy.traffic.up == 1
        proxy.set(Mode.PASS)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(streams[0].readexactly(1), 5)


async def test_a_delay_is_kept_both_ways_and_does_not_limit_the_rate() -> None:
    async with echo_behind_proxy(delay_s=0.1) as proxy, connected(proxy) as streams:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await exchange(streams, b"x")
        assert loop.time() - started >= 0.2
        started = loop.time()
        await exchange(streams, bytes(2_000_000))
        assert loop.time() - started < 3


async def test_a_target_that_is_down_closes_the_connection() -> None:
    async with echo_behind_proxy() as proxy:
        down = Proxy("127.0.0.1", 1)
        await down.start()
        async with connected(down) as streams:
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await exchange(streams, b"x" * 100_000)
        await down.close()
        assert proxy.mode is Mode.PASS


async def test_a_plan_is_followed_and_the_traffic_told() -> None:
    said: list[str] = []
    async with echo_behind_proxy() as inner:
        plan = [parse_plan("cut@0.05-0.1")]
        task = asyncio.create_task(serve(("127.0.0.1", 0), ("127.0.0.1", inner.port), 0.0, plan, said.append))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [line.split(":")[0] for line in said[1:3]] == ["cut", "pass"]
    assert said[-1] == "0 connections, 0 bytes up, 0 bytes down"


def test_plans_and_addresses_are_read_or_refused() -> None:
    assert parse_plan("stall@1.5-2") == PlannedMode(Mode.STALL, 1.5, 2.0)
    assert parse_address("8443") == ("127.0.0.1", 8443)
    assert parse_address("[::1]:1") == ("::1", 1)
    for text in ("", "cut", "pass@1-2", "cut@2-1"):
        with pytest.raises(ValueError, match="write"):
            parse_plan(text)
    for text in ("", "host", "host:", "1:99999"):
        with pytest.raises(ValueError, match="write"):
            parse_address(text)


async def test_the_connection_ends_at_the_next_answer() -> None:
    async with echo_behind_proxy() as proxy, connected(proxy) as first, connected(proxy) as second:
        await exchange(first, b"a")
        proxy.cut_at_answer()
        with pytest.raises((asyncio.IncompleteReadError, OSError)):
            await exchange(first, b"b")
        assert proxy.traffic.down == 1
        assert await exchange(second, b"c") == b"c"
        proxy.cut_at_answer()
        proxy.mend()
        assert await exchange(second, b"d") == b"d"


async def test_answers_alone_are_late() -> None:
    async with echo_behind_proxy() as proxy, connected(proxy) as streams:
        proxy.answer_delay_s = 0.1
        start = asyncio.get_running_loop().time()
        assert await exchange(streams, b"a") == b"a"
        assert asyncio.get_running_loop().time() - start >= 0.1
        assert (proxy.traffic.up, proxy.traffic.down) == (1, 1)


@pytest.mark.parametrize("kind", NETWORK_FAULTS)
async def test_every_fault_of_the_network_is_injected_and_ends(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does is seen while it lasts; nothing of it is left after `mend`."""
    seen: list[tuple[Mode, float, float]] = []
    async with echo_behind_proxy() as proxy:

        async def look(seconds: float) -> None:
            seen.append((proxy.mode, proxy.delay_s, proxy.answer_delay_s))

        monkeypatch.setattr("simulator.lab.network_faults.asyncio.sleep", look)
        await break_network(proxy, kind, random.Random(1))
        monkeypatch.undo()
        if kind != "cut at answer":
            assert seen[0] != (Mode.PASS, 0.0, 0.0)
        proxy.mend()
        assert (proxy.mode, proxy.delay_s, proxy.answer_delay_s) == (Mode.PASS, 0.0, 0.0)
        async with connected(proxy) as streams:
            assert await exchange(streams, b"a") == b"a"
