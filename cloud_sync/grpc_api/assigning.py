"""Tells gateways on open streams what they shall run: when they come, when it changes, and before it expires."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cloud_sync.catalog.assignments import Assignments, Desired
from cloud_sync.errors import CatalogDown, CloudError
from cloud_sync.rollout.director import Director
from cloud_sync.rollout.shelf import Shelf
from wire.assignment import LIFE_S
from wire.clock import NS_PER_S, Clock
from wire.errors import ProtocolViolation
from wire.fetching import FETCH_METHOD, FetchRequest, encode_piece
from wire.sync.updates import Report

log = logging.getLogger(__name__)

LOOK_S = 1.0  # how long a change waits
LOOK_OVERLAP_US = 30_000_000  # a change is dated before it is committed
RENEW_S = LIFE_S / 2
WITHHELD_S = 30.0  # between two tries while the gateway may be told nothing, or nothing can be signed


@dataclass(eq=False, slots=True)
class Listener:
    """An open stream that takes assignments. `send` puts a document on it, unless it must be withheld."""

    gateway: str
    nonce: bytes
    send: Callable[[bytes], Awaitable[bool]]
    again_at_s: float = field(default=0.0)  # tell it again then, if nothing changes before
    counter: int = field(default=0)  # as last told


class Assigning:
    """On the event loop. `run_blocking` runs a call off it."""

    def __init__(
        self,
        assignments: Assignments,
        director: Director,
        clock: Clock,
        run_blocking: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        self._assignments = assignments
        self._director = director
        self._clock = clock
        self._run_blocking = run_blocking
        self._listeners: dict[str, list[Listener]] = {}
        self._problem = ""

    async def enter(self, listener: Listener) -> None:
        """Tell it what is assigned now, and what changes until it leaves."""
        self._listeners.setdefault(listener.gateway, []).append(listener)
        await self._tell([listener])

    def leave(self, listener: Listener) -> None:
        """The stream ends."""
        there = self._listeners.get(listener.gateway, [])
        if listener in there:
            there.remove(listener)
        if not there:
            self._listeners.pop(listener.gateway, None)

    def record_reports(self, gateway: str, reports: Sequence[Report]) -> None:
        """Steps of updates; durable on return. Raises CatalogDown."""
        self._assignments.record_reports(gateway, reports)

    async def run(self) -> None:
        """Look for changes until cancelled."""
        since_us = 0
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._listeners:
                continue
            look = partial(self._assignments.changed, set(self._listeners), since_us)
            try:
                changed, newest_us = await self._run_blocking(look)
            except CatalogDown:
                continue  # said once where it failed; looked at again
            since_us = newest_us - LOOK_OVERLAP_US
            now_s = self._now_s()
            there = [each for listeners in self._listeners.values() for each in listeners]
            await self._tell([each for each in there if each.gateway in changed or now_s >= each.again_at_s])

    async def _tell(self, listeners: list[Listener]) -> None:
        """Failures are told once and tried again."""
        problem = ""
        for listener in listeners:
            try:
                await self._tell_one(listener)
            except (CloudError, OSError) as error:
                problem = str(error)
                listener.again_at_s = self._now_s() + WITHHELD_S
        if problem and problem != self._problem:
            log.warning("assignments are not sent error=%s", problem)
        self._problem = problem

    async def _tell_one(self, listener: Listener) -> None:
        if not self._director.has_key:
            listener.again_at_s = self._now_s() + WITHHELD_S
            return
        desired: Desired | None = await self._run_blocking(partial(self._assignments.of, listener.gateway))
        now_s = self._now_s()
        if desired is None or (desired.counter == listener.counter and now_s < listener.again_at_s):
            listener.again_at_s = max(listener.again_at_s, now_s + RENEW_S)
            return
        if await listener.send(self._director.document(listener.gateway, listener.nonce, desired)):
            listener.again_at_s, listener.counter = now_s + RENEW_S, desired.counter
        else:
            listener.again_at_s = now_s + WITHHELD_S

    def _now_s(self) -> float:
        return self._clock.boottime_ns() / NS_PER_S


class UpdateDesk:
    """Answers `UpdateService`: any gateway may read any file of the repository, a piece at a time."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    @property
    def methods(self) -> dict[str, Callable[[object, bytes], Awaitable[bytes]]]:
        """By full name, for `GrpcServer`."""
        return {FETCH_METHOD: self._fetch}

    async def _fetch(self, peer: object, data: bytes) -> bytes:
        try:
            request = FetchRequest.decode(data)
        except ProtocolViolation:
            return encode_piece(None)
        return encode_piece(await asyncio.to_thread(self._shelf.piece, request))
