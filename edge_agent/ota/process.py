"""The process that installs, as the agent sees it: started, fed from the connection to the cloud, ended with it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from edge_agent.errors import LinkDown
from wire.clock import NS_PER_S, Clock
from wire.errors import ProtocolViolation
from wire.fetching import FETCH_METHOD, FetchRequest, decode_piece
from wire.sync.leave import Leave

PROGRAM = "edge_agent.ota.installing"
PIECE_S_MIN, PIECE_BYTES_PER_S_MIN = 20.0, 1000  # a piece may take so long, and its length over that rate
INSTALL_S_MAX = 7 * 3600.0  # a download may take six hours
LINE_BYTES_MAX = 1 << 20


class Line(Protocol):
    """The connection to the cloud."""

    async def call(self, method: str, data: bytes, timeout_s: float) -> bytes:
        """One call. Raises LinkDown."""
        ...

    def leave(self) -> Leave:
        """What may leave now."""
        ...

    def reported(self) -> None:
        """There are new reports."""
        ...


async def run_job(
    job: dict[str, Any], line: Line, clock: Clock, look: Callable[[Line], Awaitable[None]]
) -> dict[str, Any]:
    """Run the process over a `Job`, and fetch for it; what it says at its end (`Done`). `look` is called as it goes on.

    When the caller is cancelled, so is the process.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        PROGRAM,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(INSTALL_S_MAX):
            return await _serve(process, job, line, clock, look)
    except (TimeoutError, OSError, ValueError, KeyError) as error:
        text = f"the installing process: {type(error).__name__} {error}"
        return {"outcomes": [], "reason": "ended", "text": text}
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _serve(
    process: asyncio.subprocess.Process,
    job: dict[str, Any],
    line: Line,
    clock: Clock,
    look: Callable[[Line], Awaitable[None]],
) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(job) + b"\n")
    while told := await process.stdout.readline():
        question = msgspec.json.decode(told)
        if "done" in question:
            done: dict[str, Any] = question["done"]
            return done
        answer, data = await _fetch(FetchRequest(**question["fetch"]), line, clock)
        process.stdin.write(msgspec.json.encode(answer) + b"\n" + data)
        await process.stdin.drain()
        await look(line)
    raise ValueError("it ended without a word")


async def _fetch(request: FetchRequest, line: Line, clock: Clock) -> tuple[dict[str, Any], bytes]:
    leave = line.leave()
    if not leave.bulk:
        return {"error": "held", "text": leave.why}, b""
    timeout_s = PIECE_S_MIN + request.length / PIECE_BYTES_PER_S_MIN
    began_ns = clock.boottime_ns()
    try:
        piece = decode_piece(await line.call(FETCH_METHOD, request.encode(), timeout_s), request.length)
    except LinkDown as error:
        late = clock.boottime_ns() - began_ns >= timeout_s * NS_PER_S
        return {"error": "too_slow" if late else "unreachable", "text": str(error)}, b""
    except ProtocolViolation as error:
        return {"error": "refused", "text": str(error)}, b""
    if piece is None:
        return {"error": "missing", "text": ""}, b""
    return {"length": len(piece.data), "total": piece.total}, piece.data
