"""The faults of a real network, by name, and how long each lasts: the same for our agent and for others."""

from __future__ import annotations

import asyncio
import random

from simulator.network import Mode, Proxy

NETWORK_FAULTS = {  # weights
    "cut": 4.0,
    "cut at answer": 3.0,
    "stall": 3.0,
    "mute": 3.0,
    "unanswered": 3.0,
    "slow": 2.0,
    "late answers": 2.0,
}


async def break_network(network: Proxy, kind: str, rng: random.Random) -> None:
    """Returns when the fault is over; "cut at answer" waits for an answer and not here."""
    match kind:
        case "cut":
            await _be(network, Mode.CUT, rng.uniform(0.05, 4.0))
        case "cut at answer":
            network.cut_at_answer()
        case "slow":
            network.delay_s = rng.uniform(0.05, 0.8)
            await asyncio.sleep(rng.uniform(1.0, 5.0))
            network.delay_s = 0.0
        case "late answers":
            network.answer_delay_s = rng.uniform(0.5, 4.0)
            await asyncio.sleep(rng.uniform(1.0, 6.0))
            network.answer_delay_s = 0.0
        case _:
            await _be(network, Mode(kind), rng.uniform(1.0, 6.0))


async def _be(network: Proxy, mode: Mode, seconds: float) -> None:
    network.set(mode)
    await asyncio.sleep(seconds)
    network.set(Mode.PASS)
