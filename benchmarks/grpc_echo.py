"""The floor for `benchmarks.ingest`: a grpc.aio server with mutual TLS that answers each message and stores nothing.

python -m benchmarks.grpc_echo PKI_FOLDER
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from wire.messages import SYNC_METHOD

ANSWER = bytes(16)


async def echo(_: object, context: Any) -> None:
    """One answer per message."""
    while (await context.read()) is not grpc.aio.EOF:
        await context.write(ANSWER)


async def serve(pki: Path) -> None:
    """Until SIGTERM."""
    server = grpc.aio.server(options=(("grpc.http2.bdp_probe", 0),))
    service, _, method = SYNC_METHOD.strip("/").partition("/")
    handler = grpc.stream_stream_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    pair = (pki / "server.key").read_bytes(), (pki / "server.pem").read_bytes()
    tls = grpc.ssl_server_credentials([pair], (pki / "ca.pem").read_bytes(), require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", tls)
    await server.start()
    print(f"grpc=127.0.0.1:{port}", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
