"""Looks for silences and gaps, and sends what waits: one event of each webhook at a time, in order."""

from __future__ import annotations

import asyncio
import logging
import random

from cloud_sync.catalog.webhooks import Delivery, Webhooks
from cloud_sync.errors import CatalogDown
from cloud_sync.webhooks.post import NotTaken, post
from wire.clock import NS_PER_S, Clock

log = logging.getLogger(__name__)

TURN_S = 1.0
LOOK_S = 5.0
BACK_OFF_S_MAX = 900.0


def back_off_s(failures: int) -> float:
    """After so many failures in a row: doubled each time, with jitter between a half and the whole, at most 15 min."""
    return min(2.0 ** min(failures, 20), BACK_OFF_S_MAX) * random.uniform(0.5, 1.0)


class Pump:
    """Used from one event loop; what blocks runs on threads."""

    def __init__(self, webhooks: Webhooks, clock: Clock) -> None:
        self._webhooks = webhooks
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled. A catalog that is down is waited for."""
        looked_ns = 0
        while True:
            now_ns = self._clock.boottime_ns()
            try:
                if now_ns - looked_ns >= LOOK_S * NS_PER_S:
                    looked_ns = now_ns
                    await asyncio.to_thread(self._webhooks.look)
                while await self.turn():
                    pass
            except CatalogDown:
                pass  # the catalog's own log tells it
            await asyncio.sleep(TURN_S)

    async def turn(self) -> bool:
        """Try the oldest event of each webhook that may be tried; whether a receiver took one. Raises CatalogDown."""
        due = await asyncio.to_thread(self._webhooks.take)
        return any(await asyncio.gather(*(self._send(delivery) for delivery in due)))

    async def _send(self, delivery: Delivery) -> bool:
        target = delivery.target
        try:
            await post(target, delivery.event_id, delivery.body, self._clock)
        except NotTaken as error:
            if not delivery.failures:
                log.warning("a webhook's receiver does not take events webhook=%s reason=%s", target.id, error)
            await asyncio.to_thread(self._webhooks.failed, delivery, str(error), back_off_s(delivery.failures))
            return False
        if delivery.failures:
            log.info("a webhook's receiver takes events again webhook=%s failures=%d", target.id, delivery.failures)
        await asyncio.to_thread(self._webhooks.taken, delivery)
        return True
