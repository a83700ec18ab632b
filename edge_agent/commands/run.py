"""`edge-agent run`."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from pathlib import Path

from edge_agent import exits, log
from edge_agent.config.load import load
from edge_agent.errors import AgentError

M_ARENA_MAX = -8  # mallopt(3), malloc.h
ARENAS = 2  # a heap per thread costs more memory than the waiting it saves: benchmarks/footprint.py


def run_agent(file: Path) -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    try:
        config = load(file)
        log.set_up(config.agent.log_level)
        limit_arenas()
        from edge_agent.app import Agent
        from wire.clock import SystemClock

        agent = Agent(config, SystemClock())
        gc.collect()
        gc.freeze()  # what is imported by now stays: no need to look at it in every collection
        asyncio.run(agent.run())
    except AgentError as error:
        return exits.fail(error)
    return exits.OK


def limit_arenas() -> None:
    """Few malloc heaps for many threads, as MALLOC_ARENA_MAX would; glibc only, elsewhere nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, ARENAS)
