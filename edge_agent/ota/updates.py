"""Updates in the running agent: takes what the cloud assigns, has it installed by a process, reports each step.

On the event loop; files are touched on threads. The process gets the repository's files from here, over the sync
stream's connection, so that meter, data plan and windows hold for them.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.errors import AgentError
from edge_agent.ota.errors import PASSING
from edge_agent.ota.live import Live
from edge_agent.ota.process import Line, run_job
from edge_agent.ota.records import Event, Stage
from edge_agent.ota.slots import Slots
from wire.assignment import Assigned, Assignment, AssignmentRefused, peek
from wire.clock import NS_PER_S, NS_PER_US, US_PER_S, Clock
from wire.sync.updates import Report

log = logging.getLogger(__name__)

NONCE_BYTES = 16
RETRY_S_MIN, RETRY_S_MAX = 60.0, 3600.0
WAIT_S = 60.0  # between two looks while something may not be fetched or installed yet
DOCUMENTS_REFUSED_KEPT = 16


class UpdateService:
    """See the module; the port of `wire.sync.updates`. `installed` is called when another release is to be loaded."""

    def __init__(
        self, state_dir: Path, certificate: Path, clock: Clock, installed: Callable[[], None], live: Live
    ) -> None:
        self._slots = Slots(state_dir, clock)
        self._state_dir = state_dir
        self._certificate = certificate
        self._clock = clock
        self._installed = installed
        self._live = live
        self._document: tuple[bytes, bytes] | None = None  # and the nonce of its stream
        self._settled: dict[tuple[str, str], str] = {}  # (release, hash) → why it is not wanted, until the next start
        self._reports: list[Report] = []
        self._refused: list[Report] = []  # of documents; these do not outlive the process
        self._told: set[int] = set()  # ids that the cloud has acknowledged, to be written down
        self._fresh = False  # a document that was not looked at
        self._seen_ns = -1
        self._changed = asyncio.Event()

    # The port

    def nonce(self) -> bytes:
        """See `Updates`."""
        self._document = None  # it was good for the stream before
        return secrets.token_bytes(NONCE_BYTES)

    def running(self) -> tuple[tuple[str, str], ...]:
        """See `Updates`."""
        try:
            records = {family: self._slots.record(family) for family in self._slots.families()}
        except (AgentError, OSError):
            return ()  # told where it is worked on
        return tuple((family, record.active.name) for family, record in records.items() if record.active)

    def reports(self) -> list[Report]:
        """See `Updates`."""
        return self._refused + self._reports

    def reports_acked(self, ids: Iterable[int]) -> None:
        """See `Updates`."""
        gone = set(ids)
        self._refused = [report for report in self._refused if report.id not in gone]
        self._told |= {report.id for report in self._reports if report.id in gone}
        self._reports = [report for report in self._reports if report.id not in gone]
        self._changed.set()

    def assigned(self, document: bytes, nonce: bytes) -> None:
        """See `Updates`."""
        self._document = document, nonce
        self._fresh = True
        self._changed.set()

    # The work

    async def run(self, line: Line) -> None:
        """Until cancelled. A failing update is never an error of the agent's."""
        retry_s = RETRY_S_MIN
        due_ns: int | None = None
        while True:
            self._changed.clear()
            await self._note_told()
            await self.look(line)
            now_ns = self._clock.boottime_ns()
            if self._fresh or (due_ns is not None and now_ns >= due_ns):
                if self._fresh:
                    retry_s = RETRY_S_MIN
                self._fresh = False
                wait_s, reason = await self._round(line)
                if reason in PASSING:
                    wait_s, retry_s = WAIT_S if reason == "held" else retry_s, min(2 * retry_s, RETRY_S_MAX)
                due_ns = None if wait_s is None else self._clock.boottime_ns() + int(wait_s * NS_PER_S)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(None if due_ns is None else (due_ns - now_ns) / NS_PER_S):
                    await self._changed.wait()

    async def look(self, line: Line) -> None:
        """Whether there are steps to report that were not known of: this process, a command or a trial wrote them."""
        try:
            changed_ns = await asyncio.to_thread(self._slots.changed_ns)
            if changed_ns == self._seen_ns:
                return
            self._seen_ns = changed_ns
            found = await asyncio.to_thread(self._slots.untold)
        except (AgentError, OSError) as error:
            log.warning("steps of updates cannot be read: %s", error)
            return
        self._reports = [_report(family, event) for family, event in found if event.id not in self._told]
        if self._reports:
            line.reported()

    async def _note_told(self) -> None:
        """Keep what the cloud knows; a failure is harmless: it is told again after a restart."""
        ids, self._told = self._told, set()
        try:
            if ids:
                await asyncio.to_thread(self._mark_told, ids)
        except (AgentError, OSError) as error:
            log.warning("what the cloud knows of updates is not noted: %s", error)

    def _mark_told(self, ids: set[int]) -> None:
        with self._slots.changing():
            self._slots.tell(ids)

    async def _round(self, line: Line) -> tuple[float | None, str]:
        """One look at what is assigned: seconds until the next, None for when something changes; why it failed."""
        if self._document is None:
            return None, ""
        document, nonce = self._document
        try:
            assignment = peek(document)
            if assignment.nonce != nonce:
                raise AssignmentRefused("replayed", "it was made for another stream than this")
        except AssignmentRefused as error:
            self._refuse(error.reason, str(error), line)
            return None, ""
        wanted, waiting = await asyncio.to_thread(self._wanted, assignment)
        if not wanted:
            return (WAIT_S if waiting else None), ""
        leave = line.leave()
        if not leave.bulk:
            return WAIT_S, "held"
        job = {
            "state_dir": str(self._state_dir),
            "certificate": str(self._certificate),
            "document": document,
            "nonce": nonce,
            "server_time_us": assignment.server_time_us,
            "live": msgspec.to_builtins(self._live),
        }
        done = await run_job(job, line, self._clock, self.look)
        return None, self._done(done, {one.name: one for one in assignment.releases}, line)

    def _wanted(self, assignment: Assignment) -> tuple[list[Assigned], bool]:
        """What is to be installed now, and whether something waits for its time. Nothing here is trusted: it is only
        seen that there is nothing to do."""
        now_us = max(self._clock.wall_ns() // NS_PER_US, assignment.server_time_us)
        wanted, waiting = [], False
        for one in assignment.releases:
            record = self._slots.record(one.family)
            runs = record.active is not None and record.active.sha256 == one.sha256
            if runs or one.sha256 in record.quarantine or (one.name, one.sha256) in self._settled:
                continue
            if one.is_due(now_us):
                wanted.append(one)
            waiting |= one.from_us > now_us
        return wanted, waiting

    def _done(self, done: dict[str, Any], assigned: dict[str, Assigned], line: Line) -> str:
        """Take note of what the process says; the reason why it is to be tried again, or nothing."""
        if done["reason"]:
            if done["reason"] not in PASSING or done["reason"] in {"signature", "malformed"}:
                self._refuse(done["reason"], done["text"], line)
            log.warning("assigned releases are not installed: %s", done["text"])
            return str(done["reason"])
        again = ""
        for outcome in done["outcomes"]:
            name, reason = outcome["release"], outcome["reason"]
            if not reason:
                log.info("%s runs from now on, on probation: %s", name, outcome["text"])
                self._installed()
            elif reason in PASSING:
                again = reason
            elif name in assigned:
                self._settled[name, assigned[name].sha256] = reason
            if reason not in ("", "active"):
                log.warning("%s is not installed: %s: %s", name, reason, outcome["text"])
        return again

    def _refuse(self, reason: str, text: str, line: Line) -> None:
        """Tell of a document that is not taken; nothing of it is done."""
        log.warning("assignment refused: %s", text)
        now_us = self._clock.wall_ns() // NS_PER_US
        report = Report(1 + secrets.randbelow(1 << 62), now_us, "", "", Stage.REFUSED, reason, text[:500])
        self._refused = [*self._refused, report][-DOCUMENTS_REFUSED_KEPT:]
        line.reported()


def _report(family: str, event: Event) -> Report:
    at_us = int(datetime.fromisoformat(event.at).timestamp()) * US_PER_S
    return Report(event.id, at_us, family, event.release, event.stage.value, event.reason, event.text)
