"""A cloud, gateways, and a network between each: everything that the demonstration and the kill tests run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from simulator.lab.cloud import LabCloud
from simulator.lab.count import Count
from simulator.lab.gateway import LabGateway, Plan, Stock
from simulator.network import Mode, Proxy

T = TypeVar("T")


class Site:
    """Made with `build`, ended with `close`. Blocking work runs on threads, the networks on the caller's loop."""

    def __init__(self, folder: Path, plans: Sequence[Plan], seed: int) -> None:
        self.folder = folder
        self.cloud = LabCloud(folder / "cloud")
        self.gateways = [LabGateway(plan, folder / plan.name, seed + index) for index, plan in enumerate(plans)]
        self.networks: list[Proxy] = []

    async def build(self) -> None:
        """Cloud, networks, gateways that join it, agents. Raises LabFailed with the log of what did not start."""
        await asyncio.to_thread(self.cloud.initialise)
        await asyncio.to_thread(self.cloud.start)
        token = await asyncio.to_thread(self.cloud.token, len(self.gateways))
        for gateway in self.gateways:
            network = Proxy("127.0.0.1", self.cloud.grpc_port)
            await network.start()
            self.networks.append(network)
            gateway.configure(network.port)
        await asyncio.gather(*(asyncio.to_thread(gateway.join, token) for gateway in self.gateways))
        # A child is tied to the thread that starts it: those of the loop's own pool live as long as the loop.
        await asyncio.gather(*(asyncio.to_thread(gateway.start) for gateway in self.gateways))

    def set_network(self, mode: Mode) -> None:
        """Break or mend every gateway's network."""
        for network in self.networks:
            network.set(mode)

    def restart_cloud(self) -> None:
        """Start the cloud again after `cloud.kill`, and lead the networks to its new port."""
        self.cloud.start()
        for network in self.networks:
            network.retarget("127.0.0.1", self.cloud.grpc_port)

    @property
    def wire_bytes(self) -> int:
        """Bytes on the gateways' sockets, both ways: TLS, HTTP/2 and all."""
        return sum(network.traffic.up + network.traffic.down for network in self.networks)

    async def take_stock(self) -> list[Stock]:
        """What every gateway has given and taken up to now."""
        return await self._each(LabGateway.take_stock)

    async def count(self, stocks: Sequence[Stock], timeout_s: float) -> Count:
        """Compare with the cloud, as soon as it returns everything or the time is over."""

        def look() -> Count:
            total = Count()
            for stock in stocks:
                gateway = stock.gateway
                stored = {
                    sensor: self.cloud.cycles(gateway.plan.name, sensor, channels)
                    for sensor, channels in gateway.channels.items()
                }
                total += stock.count(stored)
            return total

        result = Count()

        def complete() -> bool:
            nonlocal result
            result = look()
            return result.holds

        await asyncio.to_thread(self.cloud.wait_for, complete, timeout_s)
        return result

    async def close(self) -> None:
        """End every process and network. Never raises for what is gone already."""
        await self._each(LabGateway.stop)
        await asyncio.to_thread(self.cloud.stop)
        for network in self.networks:
            await network.close()

    async def _each(self, action: Callable[[LabGateway], T]) -> list[T]:
        with ThreadPoolExecutor(len(self.gateways)) as pool:
            loop = asyncio.get_running_loop()
            return list(
                await asyncio.gather(*(loop.run_in_executor(pool, action, gateway) for gateway in self.gateways))
            )
