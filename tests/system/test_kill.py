"""SIGKILL of agent and of cloud at random moments: what the chips gave out against what the cloud returns."""

import asyncio
import random
import time
from pathlib import Path

import pytest

from simulator import transport
from simulator.lab.gateway import Plan
from simulator.lab.site import Site
from simulator.network import Mode
from simulator.parts import Part

AGENT_KILLS = 11
CLOUD_KILLS = 11
MOMENT_S_MAX = 1.0  # after a start that nobody waited for: also in the middle of it
DELAY_S = 0.05  # each way, so that there is always something on the way: messages, and acknowledgements
PARTS = {"north": Part(1, "bme280", 0x76), "south": Part(1, "bme280", 0x77), "attic": Part(3, "bme280", 0x76)}


async def torment(site: Site, rng: random.Random) -> None:
    """Kill in random order at random moments; most starts are waited for, some are killed on the way."""
    gateway, cloud = site.gateways[0], site.cloud
    victims = ["agent"] * AGENT_KILLS + ["cloud"] * CLOUD_KILLS
    rng.shuffle(victims)
    for victim in victims:
        await asyncio.sleep(rng.uniform(0, MOMENT_S_MAX))
        early = rng.random() < 0.4
        if victim == "agent":
            before = len(gateway.in_flight())
            await asyncio.to_thread(gateway.kill)
            assert len(gateway.in_flight()) - before <= len(PARTS), "more than one cycle of each bus was in flight"
            await asyncio.to_thread(gateway.launch if early else gateway.start)
        else:
            await asyncio.to_thread(cloud.kill)
            await asyncio.to_thread(cloud.launch if early else site.restart_cloud)
    await asyncio.to_thread(cloud.kill)
    await asyncio.to_thread(site.restart_cloud)
    await asyncio.to_thread(gateway.kill)
    await asyncio.to_thread(gateway.start)


@pytest.mark.system
@pytest.mark.timeout(180)
async def test_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    started = time.monotonic()
    name, _ = await asyncio.to_thread(transport.choose)
    plan = Plan("gw", PARTS, interval="50ms", commit_interval="500ms", batch="0s", transport=name)
    site = Site(tmp_path, [plan], seed & 0xFFFF)
    try:
        await site.build()
        site.networks[0].delay_s = DELAY_S
        await torment(site, random.Random(seed))
        site.set_network(Mode.PASS)
        stocks = await site.take_stock()
        count = await site.count(stocks, 30)
    finally:
        await site.close()
    print(f"{count}, {time.monotonic() - started:.0f} s")
    assert count.holds, f"seed {seed}: {count}"
    assert count.taken == count.stored
