"""One connection to the cloud: how it is opened, and calls and errors on it in our words."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core writes to stderr what the log says once and better
import grpc
import grpc.aio

from edge_agent.errors import LinkDown
from edge_agent.sync.credentials import Credentials
from wire.messages import FRAME_BYTES_MAX

REASON_LOST = "Internal error from Core"  # a write met the end of the stream (grpc issue 36066, grpcio 1.85)
_OPTIONS = (
    ("grpc.http2.bdp_probe", 0),  # its pings cost the data plan
    ("grpc.max_receive_message_length", FRAME_BYTES_MAX),
    ("grpc.max_send_message_length", FRAME_BYTES_MAX),
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 30_000),
    ("grpc.enable_retries", 0),  # the machine's back-off is the only one
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),  # a new connection for each attempt, with the credentials of now
)


def open_channel(address: str, server_name: str, credentials: Credentials) -> grpc.aio.Channel:
    """With the credentials as they are now. `server_name`: in the server's certificate; empty: the host.

    Raises as `Credentials.read` does.
    """
    ca, certificate, key = credentials.read()
    tls = grpc.ssl_channel_credentials(ca, key, certificate)
    options: list[tuple[str, str | int]] = [*_OPTIONS]
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    return grpc.aio.secure_channel(address, tls, options=options)


async def call_once(channel: grpc.aio.Channel, method: str, data: bytes, timeout_s: float) -> bytes:
    """One unary call. Raises LinkDown."""
    name = method.rpartition("/")[2]
    try:
        return bytes(await channel.unary_unary(method)(data, timeout=timeout_s))
    except grpc.aio.AioRpcError as error:
        raise LinkDown(f"{name}: {error.code().name}: {brief(error.details() or '')}") from error
    except (grpc.aio.UsageError, asyncio.InvalidStateError) as error:
        raise LinkDown(f"{name}: the connection is closed: {error}") from error


def brief(detail: str) -> str:
    """The last, most telling part of gRPC's nested words: the operating system's reason."""
    if detail == REASON_LOST:
        return "gRPC lost the cloud's reason; the next try asks again"
    return detail.rpartition("; last error: ")[2].rpartition("UNKNOWN: ")[2] or detail


async def first_done(*jobs: Coroutine[Any, Any, None]) -> None:
    """Run jobs until one ends, end the others, and raise what the first one raised."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
