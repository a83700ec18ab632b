"""From a repository to a running model: look, check what it needs, download the whole set, try it, swap it in.

Each step's outcome is written down before the next begins; a release that failed here is not tried again.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tuf.api.metadata import TargetFile

from edge_agent.detect.contract import OPSET
from edge_agent.ota.client import TufClient
from edge_agent.ota.errors import PASSING, OtaError, TargetRejected
from edge_agent.ota.gates import Verdict, try_model
from edge_agent.ota.records import Ref, Stage
from edge_agent.ota.slots import Slots
from edge_agent.version import VERSION
from wire.assignment import Assigned
from wire.release import Needs, Release, ReleaseInvalid, read_needs, read_release, release_target

RUNTIME = "onnxruntime"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a family. `reason` is empty when the release runs now, on probation."""

    family: str
    release: str
    reason: str
    text: str


class Installer:
    """Brings releases from `client` into `slots`. `tell(family, bytes)` is called as files arrive."""

    def __init__(
        self,
        client: TufClient,
        slots: Slots,
        tell: Callable[[str, int], None] = lambda family, count: None,
        trial: Callable[..., Verdict] = try_model,
        shadow: Callable[[str, Path, Needs], Verdict | None] | None = None,
    ) -> None:
        """`shadow(family, folder, needs)` compares with the active model; without it, or where it gives None, a release
        that passed its trial is swapped in.
        """
        self._client = client
        self._slots = slots
        self._tell = tell
        self._trial = trial
        self._shadow = shadow

    def install(self, families: Sequence[str] = ()) -> list[Outcome]:
        """The newest release of each family (all, when none is named) that this gateway may run.

        Raises:
            OtaError: the repository is not to be trusted, or cannot be reached. What runs goes on.
            StateBusy: another process installs.
        """
        self._client.refresh()
        with self._slots.changing():
            return [self._family(family) for family in families or self._client.roles()]

    def install_assigned(self, assigned: Assigned) -> Outcome:
        """The release that an assignment names, where the repository says the same of it. Raises StateBusy."""
        with self._slots.changing():
            return self._guarded(assigned.family, assigned.name, lambda: self._assigned(assigned))

    def _assigned(self, assigned: Assigned) -> Outcome:
        family, name = assigned.family, assigned.name
        target = self._client.find(release_target(family, assigned.counter))
        if (target.hashes.get("sha256"), target.length) != (assigned.sha256, assigned.length):
            return self._noted(family, name, "disagree", "the repository names another document under this release")
        if refusal := self._refusal(family, assigned.counter, target):
            return refusal
        self._slots.note(family, name, Stage.ASSIGNED)
        return self._take(family, assigned.counter, target)

    def _family(self, family: str) -> Outcome:
        newest = 0

        def look() -> Outcome:
            nonlocal newest
            newest = max(map(_counter, self._client.listed(family)), default=0)
            return Outcome(family, family, "no_release", "the family has no release")

        nothing = self._guarded(family, family, look)
        return self._guarded(family, f"{family}/{newest}", lambda: self._newest(family, newest)) if newest else nothing

    def _newest(self, family: str, counter: int) -> Outcome:
        target = self._client.find(release_target(family, counter))
        return self._refusal(family, counter, target) or self._take(family, counter, target)

    def _guarded(self, family: str, name: str, work: Callable[[], Outcome]) -> Outcome:
        """What `work` gives, or the error that it raised as an outcome, written down."""
        try:
            return work()
        except (OtaError, ReleaseInvalid) as error:
            reason = error.reason if isinstance(error, OtaError) else "release_invalid"
            stage = Stage.DELAYED if reason in PASSING else Stage.REFUSED
            self._slots.note(family, name, stage, reason, str(error))
            return Outcome(family, name, reason, str(error))

    def _refusal(self, family: str, counter: int, target: TargetFile) -> Outcome | None:
        """Why this release is not wanted, before anything of it is downloaded."""
        name, record = f"{family}/{counter}", self._slots.record(family)
        sha256 = target.hashes.get("sha256", "")
        if record.active is not None and record.active.sha256 == sha256:
            if self._slots.damage(record.active):
                return None  # its files are fetched anew
            return Outcome(family, name, "active", "it runs already")
        if sha256 in record.quarantine:
            text = f"it failed here before: {record.quarantine[sha256]}"
            return Outcome(family, name, "quarantined", text)
        least = max(record.counter, record.active.counter if record.active else 0)
        if counter < least:
            return self._noted(family, name, "older", f"{family}/{least} ran here; a gateway never goes back by itself")
        told_family, told_counter, _, _, needs = read_needs(target.custom)
        if (told_family, told_counter) != (family, counter):
            return self._noted(family, name, "release_invalid", f"it says that it is {told_family}/{told_counter}")
        lack = lacking(needs)
        return self._noted(family, name, "incompatible", lack) if lack else None

    def _noted(self, family: str, name: str, reason: str, text: str) -> Outcome:
        self._slots.note(family, name, Stage.REFUSED, reason, text)
        return Outcome(family, name, reason, text)

    def _take(self, family: str, counter: int, target: TargetFile) -> Outcome:
        sha256 = target.hashes["sha256"]
        document = self._slots.document(sha256)
        self._client.download(target.path, document)
        release = read_release(target.custom, document.read_bytes())
        ref = Ref(family, counter, release.version, sha256)
        place = self._slots.place(family, sha256, release.version)
        for name in sorted(release.files):
            self._file(release, name)
            self._client.download(release.file_target(name), place / name)
            self._tell(family, release.files[name].length)
        self._slots.note(family, ref.name, Stage.DOWNLOADED)
        verdict = self._trial(place, release.needs)
        if verdict.reason:
            self._slots.refuse(ref, verdict.reason, verdict.text)
            return Outcome(family, ref.name, verdict.reason, verdict.text)
        self._slots.note(family, ref.name, Stage.TESTED, text=verdict.text)
        beside = self._shadow(family, place, release.needs) if self._shadow else None
        if beside is not None:
            if beside.reason in PASSING:
                raise OtaError(beside.text, beside.reason)
            if beside.reason:
                self._slots.refuse(ref, beside.reason, beside.text)
                return Outcome(family, ref.name, beside.reason, beside.text)
            self._slots.note(family, ref.name, Stage.SHADOW, text=beside.text)
        self._slots.activate(ref)
        return Outcome(family, ref.name, "", verdict.text)

    def _file(self, release: Release, name: str) -> None:
        """Raises TargetRejected unless the signed file is the one that the release names: no set of mixed parts."""
        signed, ref = self._client.find(release.file_target(name)), release.files[name]
        if (signed.hashes.get("sha256"), signed.length) != (ref.sha256, ref.length):
            raise TargetRejected(f"{release.name}: {name} is signed, but is not the file that the release names")


def lacking(needs: Needs) -> str:
    """What this gateway lacks, in a sentence; empty when a release can run here."""
    machine = platform.machine()
    if "*" not in needs.hardware and machine not in needs.hardware:
        return f"it is for {', '.join(needs.hardware)}; this is {machine}"
    if needs.opset != OPSET:
        return f"it needs opset {needs.opset}; this agent runs {OPSET}"
    if _numbers(VERSION) < _numbers(needs.agent_min):
        return f"it needs edge-agent {needs.agent_min}; this is {VERSION}"
    try:
        runtime = version(RUNTIME)
    except PackageNotFoundError:
        return f"{RUNTIME} is not installed"
    if _numbers(runtime) < _numbers(needs.runtime_min):
        return f"it needs {RUNTIME} {needs.runtime_min}; this is {runtime}"
    return ""


def _numbers(text: str) -> tuple[int, ...]:
    """Leading numbers of a version, as PyPA's have them."""
    parts = text.partition("+")[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())


def _counter(target: str) -> int:
    """The counter in a release document's name; 0 for any other target."""
    parts = target.split("/")
    return int(parts[2]) if len(parts) == 4 and parts[3] == "release.json" and parts[2].isdigit() else 0
