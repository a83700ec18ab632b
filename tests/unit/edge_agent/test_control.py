from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent import control
from edge_agent.asking import RequestRefused, ask
from edge_agent.control import ControlServer
from edge_agent.errors import NotRunning, StateBusy, StateUnusable


def refuse(request: Any) -> object:
    raise RequestRefused(f"no sensor {request['sensor']}")


@pytest.fixture
async def runtime_dir(tmp_path: Path) -> AsyncIterator[Path]:
    server = ControlServer(tmp_path, {"status": lambda request: {"n": 1}, "read": refuse})
    server.bind()
    task = asyncio.create_task(server.run())
    await asyncio.sleep(0)
    yield tmp_path
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not server.path.exists()


async def talk(folder: Path, data: bytes) -> list[dict[str, Any]]:
    """Send the bytes, end our half, and return the answers."""
    reader, writer = await asyncio.open_unix_connection(folder / "control.sock")
    writer.write(data)
    writer.write_eof()
    lines = (await asyncio.wait_for(reader.read(), 5)).splitlines()
    writer.close()
    await writer.wait_closed()
    return [json.loads(line) for line in lines]


async def test_one_answer_per_line(runtime_dir: Path) -> None:
    ok = {"ok": True, "result": {"n": 1}}
    assert await talk(runtime_dir, b'{"op": "status"}\n{"op": "status"}\n') == [ok, ok]


async def test_the_client_of_the_command_line(runtime_dir: Path) -> None:
    assert await asyncio.to_thread(ask, runtime_dir, {"op": "status"}) == {"n": 1}
    with pytest.raises(RequestRefused, match="no sensor x"):
        await asyncio.to_thread(ask, runtime_dir, {"op": "read", "sensor": "x"})


@pytest.mark.parametrize(
    "line", [b"\xff\xfe", b"[]", b"3", b"{", b"null", b'{"op": 3}', b'{"op": []}', b'{"op": "sh"}', b"[" * 4000]
)
async def test_garbage_is_answered_and_the_connection_lives(runtime_dir: Path, line: bytes) -> None:
    answers = await talk(runtime_dir, line + b'\n{"op": "status"}\n')
    assert [answer["ok"] for answer in answers] == [False, True]


async def test_a_huge_line_is_refused_before_it_is_read(runtime_dir: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(runtime_dir / "control.sock")
    writer.write(b"x" * 1_000_000)
    answer = json.loads(await asyncio.wait_for(reader.readline(), 5))
    assert "at most 4096 bytes" in answer["error"]
    writer.close()
    assert await talk(runtime_dir, b'{"op": "status"}\n') == [{"ok": True, "result": {"n": 1}}]


async def test_a_client_that_ends_in_the_middle_of_a_line(runtime_dir: Path) -> None:
    assert await talk(runtime_dir, b'{"op": "sta') == []


async def test_clients_are_bounded(runtime_dir: Path) -> None:
    idle = [await asyncio.open_unix_connection(runtime_dir / "control.sock") for _ in range(control.CLIENTS_MAX)]
    (answer,) = await talk(runtime_dir, b'{"op": "status"}\n')
    assert "16 clients" in answer["error"]
    for _, writer in idle:
        writer.close()


async def test_an_idle_client_is_sent_away(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "IDLE_S_MAX", 0.05)
    reader, writer = await asyncio.open_unix_connection(runtime_dir / "control.sock")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_only_owner_and_group_may_connect(runtime_dir: Path) -> None:
    assert stat.S_IMODE(os.stat(runtime_dir / "control.sock").st_mode) == 0o660


async def test_a_second_agent_is_refused(runtime_dir: Path) -> None:
    with pytest.raises(StateBusy, match="another agent answers"):
        ControlServer(runtime_dir, {}).bind()


def test_a_socket_that_a_dead_agent_left_is_taken_over(tmp_path: Path) -> None:
    first = ControlServer(tmp_path, {})
    first.bind()
    assert first._listener is not None
    first._listener.close()
    second = ControlServer(tmp_path, {})
    second.bind()
    assert second._listener is not None
    second._listener.close()


def test_paths_that_cannot_hold_a_socket(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable, match="at most 107 bytes"):
        ControlServer(tmp_path / ("x" * 120), {}).bind()
    with pytest.raises(StateUnusable, match="runtime_dir writable"):
        ControlServer(tmp_path / "missing", {}).bind()


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="edge-agent run"):
        ask(tmp_path, {"op": "status"})


def test_what_answers_is_no_agent(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "control.sock"))
        listener.listen(1)

        async def both() -> None:
            asking = asyncio.create_task(asyncio.to_thread(ask, tmp_path, {"op": "status"}))
            connection, _ = await asyncio.get_running_loop().run_in_executor(None, listener.accept)
            connection.sendall(b"HTTP/1.1 400\n")
            with pytest.raises(NotRunning, match="no edge-agent"):
                await asking
            connection.close()

        asyncio.run(both())
