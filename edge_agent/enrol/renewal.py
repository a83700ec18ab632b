"""Sees to it that a running gateway's certificate stays fresh: at two thirds of its life, and after it has ended.

Dates are compared with a time that the network or the cloud told: this clock may be years off. The work is done by the
command `edge-agent renew` in a process of its own: cryptography would stay in this one's memory for good (19 MB).
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.enrol.identity import identity_of
from edge_agent.errors import AgentError

if TYPE_CHECKING:
    from edge_agent.sync.grpc_transport import SyncClient

log = logging.getLogger(__name__)

LIFE_SHARE = 2 / 3
FIRST_LOOK_S = (5.0, 20.0)  # a fleet that starts together does not ask together
LOOK_S = 60.0
ASKED_S_MAX = 900.0  # a fleet that is told to renew, because its CA goes, does not ask together
RETRY_S_MIN = 60.0
RETRY_S_MAX = 6 * 3600.0
COMMAND_S_MAX = 120.0


def renewal_due_s(valid_from_s: int, valid_until_s: int) -> float:
    """When a certificate with this life is to be renewed, seconds since 1970."""
    return valid_from_s + (valid_until_s - valid_from_s) * LIFE_SHARE


class Renewal:
    """Runs beside the sync client of a joined gateway."""

    def __init__(self, state_dir: Path, config: Path, sync: SyncClient, rng: random.Random) -> None:
        self._state_dir = state_dir
        self._command: Sequence[str] = (sys.executable, "-m", "edge_agent.cli", "renew", "-c", str(config))
        self._sync = sync
        self._rng = rng
        self._retry_s = RETRY_S_MIN
        self._asked_s = 0.0  # of ASKED_S_MAX, how long the cloud's wish still waits; 0: it has none

    async def run(self) -> None:
        """Until cancelled. What fails is said once and tried again, with growing pauses."""
        await asyncio.sleep(self._rng.uniform(*FIRST_LOOK_S))
        while True:
            wait_s = LOOK_S
            if self._is_needed() or self._is_asked():
                problem = await self._renew()
                if problem and self._retry_s == RETRY_S_MIN:
                    log.warning("the certificate is not renewed, it is tried again: %s", problem)
                wait_s = self._retry_s * self._rng.uniform(0.5, 1) if problem else LOOK_S
                self._retry_s = min(2 * self._retry_s, RETRY_S_MAX) if problem else RETRY_S_MIN
            await asyncio.sleep(wait_s)

    def _is_needed(self) -> bool:
        try:
            identity = identity_of(self._state_dir)
        except AgentError:
            return False  # the sync client says what is wrong with the files
        if identity is None:
            return False
        now, facts = self._sync.policy.utc(), identity.facts
        due_s = renewal_due_s(facts.valid_from_s, facts.valid_until_s)
        return self._sync.is_rejected or (now is not None and now.timestamp() >= due_s)

    def _is_asked(self) -> bool:
        """Does the cloud want this certificate to be replaced, and has its turn come?"""
        if not self._sync.learning.wants_renewal:
            self._asked_s = 0.0
            return False
        if not self._asked_s:
            self._asked_s = self._rng.uniform(0, ASKED_S_MAX) + LOOK_S
        self._asked_s = max(self._asked_s - LOOK_S, 0.0)
        return not self._asked_s

    async def _renew(self) -> str:
        """Run the command; what it said when it failed, or empty."""
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(*self._command, stdout=asyncio.subprocess.DEVNULL, stderr=pipe)
        try:
            async with asyncio.timeout(COMMAND_S_MAX):
                _, said = await child.communicate()
        except TimeoutError:
            return f"no answer within {COMMAND_S_MAX:.0f} s"
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode:
            return said.decode("utf-8", "replace").strip().removeprefix("edge-agent: ")[-500:]
        log.info("the certificate is renewed")
        self._sync.reconnect()
        return ""
