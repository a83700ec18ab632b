"""Which release of a model family runs here: active, previous, candidate, factory; and how it came to that.

A family's link in the models folder points to the files of its active release; without a link the model that came with
the package runs (factory). Swapping the link is the one step that changes what runs. All else is a record of it,
written before or after, which a crash between the two cannot make false: at the next look the link is believed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from edge_agent.ota.durable import make_folder, write_durable
from edge_agent.ota.errors import OtaError, StorageFailed
from edge_agent.ota.records import Event, Record, Ref, Stage
from edge_agent.outbox.lock import StateLock
from wire.assignment import Mark
from wire.clock import NS_PER_S, Clock
from wire.durable import fsync_folder
from wire.release import FILES, check_family

EVENTS_KEPT = 50
TEXT_LENGTH_MAX = 500
ID_MAX = (1 << 63) - 1
ATTEMPTS_MAX = 3  # starts of the agent with a release on probation
PROBATION_S = 600.0
RECORD_BYTES_MAX = 1 << 20
DOCUMENT = "release.json"


class Slots:
    """Records and files under `state_dir/ota`, links under `state_dir/models`. One process at a time changes them."""

    def __init__(self, state_dir: Path, clock: Clock) -> None:
        self.models = state_dir / "models"
        self.folder = state_dir / "ota"
        self._records = self.folder / "slots"
        self._releases = self.folder / "releases"
        self._mark = self.folder / "assignment.json"
        self._clock = clock

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock. Raises StateBusy, StateUnusable."""
        lock = StateLock(self.folder, "slots.lock")
        try:
            yield
        finally:
            lock.release()

    def families(self) -> list[str]:
        """Every family with a record."""
        return sorted(path.stem for path in self._records.glob("*.json"))

    def record(self, family: str) -> Record:
        """A family's record, as the link has it. A damaged one begins anew."""
        try:
            with self._path(family).open("rb") as file:
                record = msgspec.json.decode(file.read(RECORD_BYTES_MAX), type=Record)
        except FileNotFoundError:
            record = Record()
        except (msgspec.DecodeError, OSError):
            record = Record()
            self._note(record, family, Stage.ROLLED_BACK, "record_damaged", "slots and quarantine were forgotten")
        linked = self._linked(family)
        if linked != (record.active.sha256 if record.active else None):
            self._follow_link(record, family, linked)
        return record

    def _follow_link(self, record: Record, family: str, linked: str | None) -> None:
        """A crash came between the swap and its record, or somebody changed the link."""
        candidate = record.candidate
        if candidate is not None and candidate.sha256 == linked:
            record.previous, record.active, record.candidate = record.active, candidate, None
            record.stage, record.attempts = Stage.PROBATION, 0
        elif record.previous is not None and record.previous.sha256 == linked:
            record.active, record.previous, record.stage = record.previous, None, Stage.COMMITTED
        else:
            record.active, record.stage = self._ref_of(family, linked), Stage.COMMITTED

    def place(self, family: str, sha256: str, version: int) -> Path:
        """Where the files of a release belong; its document lies two folders up."""
        return self._releases / sha256 / check_family(family) / str(version)

    def document(self, sha256: str) -> Path:
        """Where a release's document lies."""
        return self._releases / sha256 / DOCUMENT

    def note(self, family: str, release: str, stage: Stage, reason: str = "", text: str = "") -> None:
        """Write down what happened to a release that does not run (yet); the same again is no news."""
        record = self.record(family)
        last = record.events[-1] if record.events else None
        if last is not None and (last.release, last.stage, last.reason) == (release, stage, reason):
            return
        record.stage = stage if record.stage not in {Stage.PROBATION, Stage.COMMITTED} else record.stage
        self._note(record, release, stage, reason, text)
        self._save(family, record)

    def refuse(self, ref: Ref, reason: str, text: str) -> None:
        """A release that failed here: it is not tried again, and its files go."""
        record = self.record(ref.family)
        record.quarantine[ref.sha256] = reason
        record.candidate = None
        self._note(record, ref.name, Stage.REFUSED, reason, text)
        self._save(ref.family, record)
        remove_tree(self._releases / ref.sha256)

    def activate(self, ref: Ref) -> None:
        """Run this release from now on, on probation; what ran is the previous one.

        Raises:
            OtaError: its files are damaged, or a folder that somebody put there stands in the link's place.
            StorageFailed: nothing has changed.
        """
        if problem := self.damage(ref):
            raise OtaError(problem, "damaged")
        record = self.record(ref.family)
        record.candidate = ref
        self._note(record, ref.name, Stage.STAGED)
        self._save(ref.family, record)
        self._link(ref.family, ref)
        record = self.record(ref.family)  # which follows the link
        self._note(record, ref.name, Stage.PROBATION)
        self._save(ref.family, record)
        self._sweep(ref.family)

    def roll_back(self, family: str, reason: str, text: str = "") -> Ref | None:
        """Run the previous release again, or where it is damaged or missing the factory's (None).

        The one that ran is not tried again. Raises StorageFailed; then nothing has changed.
        """
        record = self.record(family)
        failed, target = record.active, record.previous
        if target is not None and self.damage(target):
            target = None
        if failed is not None:
            record.quarantine[failed.sha256] = reason
            self._note(record, failed.name, Stage.ROLLED_BACK, reason, text)
        record.candidate = None
        self._save(family, record)
        self._link(family, target)
        record.active, record.previous, record.attempts = target, None, 0
        record.stage = Stage.ROLLED_BACK
        self._save(family, record)
        return target

    def begin(self) -> list[str]:
        """At each start of the agent, before any model is loaded: count the attempt, go back where one ran out.

        Returns what was done, one sentence each. An active release whose files are damaged goes back too.
        """
        done = []
        for family in self.families():
            record = self.record(family)
            active = record.active
            if active is None:
                continue
            if problem := self.damage(active):
                done.append(self._told(family, "damaged", problem))
            elif record.stage is Stage.PROBATION:
                if record.attempts >= ATTEMPTS_MAX:
                    text = f"{record.attempts} starts and no {PROBATION_S:g} s of good work"
                    done.append(self._told(family, "crash_loop", text))
                else:
                    record.attempts += 1
                    self._save(family, record)
        return done

    def _told(self, family: str, reason: str, text: str) -> str:
        target = self.roll_back(family, reason, text)
        return f"{family}: {text}; back to {target.name if target else 'the factory model'}"

    def commit(self, family: str) -> None:
        """The probation is passed."""
        record = self.record(family)
        if record.active is None or record.stage is not Stage.PROBATION:
            return
        record.stage, record.attempts = Stage.COMMITTED, 0
        record.counter = max(record.counter, record.active.counter)
        self._note(record, record.active.name, Stage.COMMITTED)
        self._save(family, record)

    def changed_ns(self) -> int:
        """Grows with each change of a record."""
        return max((path.stat().st_mtime_ns for path in self._records.glob("*.json")), default=0)

    def untold(self) -> list[tuple[str, Event]]:
        """Events that the cloud does not have, each with its family, oldest first."""
        found = [
            (family, event)
            for family in self.families()
            for event in self.record(family).events
            if event.id and not event.told
        ]
        return sorted(found, key=lambda each: each[1].at)

    def tell(self, ids: Collection[int]) -> None:
        """The cloud has these events. Raises StorageFailed: it is told them again."""
        for family in self.families():
            record = self.record(family)
            if any(event.id in ids for event in record.events):
                record.events = [
                    msgspec.structs.replace(event, told=True) if event.id in ids else event for event in record.events
                ]
                self._save(family, record)

    def mark(self) -> Mark:
        """The last assignment that was taken."""
        try:
            with self._mark.open("rb") as file:
                return msgspec.json.decode(file.read(RECORD_BYTES_MAX), type=Mark)
        except FileNotFoundError:
            return Mark()
        except (msgspec.DecodeError, OSError) as error:
            raise StorageFailed(f"{self._mark}: {error}. Try: rm {self._mark}", "disk") from error

    def remember(self, mark: Mark) -> None:
        """Before anything of an assignment is done. Raises StorageFailed."""
        if mark != self.mark():
            write_durable(self._mark, msgspec.json.encode(mark))

    def damage(self, ref: Ref) -> str:
        """What is wrong with the files of a release; empty when every byte is as signed."""
        try:
            document = self.document(ref.sha256).read_bytes()
            if hashlib.sha256(document).hexdigest() != ref.sha256:
                return f"{ref.name}: its document is damaged"
            files = msgspec.json.decode(document)["files"]
            for name in FILES:
                data = (self.place(ref.family, ref.sha256, ref.version) / name).read_bytes()
                if hashlib.sha256(data).hexdigest() != files[name]["sha256"]:
                    return f"{ref.name}: {name} is damaged"
        except (OSError, msgspec.DecodeError, KeyError, TypeError) as error:
            return f"{ref.name}: {error}"
        return ""

    def _link(self, family: str, ref: Ref | None) -> None:
        """The swap: one rename, then durable."""
        link, beside = self.models / family, self.models / f".{family}.new"
        if link.is_dir() and not link.is_symlink():
            raise OtaError(f"{link} is a folder that was put there by hand. Try: mv {link} elsewhere", "hand_made")
        try:
            make_folder(self.models)
            with suppress(FileNotFoundError):
                os.unlink(beside)
            if ref is None:
                with suppress(FileNotFoundError):
                    os.unlink(link)
            else:
                os.symlink(os.path.relpath(self._releases / ref.sha256 / family, self.models), beside)
                os.rename(beside, link)
            fsync_folder(self.models)
        except OSError as error:
            raise StorageFailed.of(link, error) from error

    def _linked(self, family: str) -> str | None:
        """The hash in the link's target; None without a link."""
        try:
            return Path(os.readlink(self.models / family)).parent.name
        except OSError:
            return None

    def _ref_of(self, family: str, sha256: str | None) -> Ref | None:
        """A release by its files alone."""
        if sha256 is None:
            return None
        try:
            told = msgspec.json.decode(self.document(sha256).read_bytes())
            version = next(path.name for path in (self._releases / sha256 / family).iterdir() if path.name.isdigit())
            return Ref(family, int(told["release_counter"]), int(version), sha256)
        except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError, StopIteration):
            return None

    def _sweep(self, family: str) -> None:
        """Delete releases of the family that no slot holds."""
        record = self.record(family)
        held = {ref.sha256 for ref in (record.active, record.previous, record.candidate) if ref is not None}
        for folder in self._releases.iterdir():
            if folder.name not in held and (folder / family).is_dir():
                remove_tree(folder)

    def _path(self, family: str) -> Path:
        return self._records / f"{check_family(family)}.json"

    def _save(self, family: str, record: Record) -> None:
        try:
            make_folder(self._records)
        except OSError as error:
            raise StorageFailed.of(self._records, error) from error
        write_durable(self._path(family), msgspec.json.format(msgspec.json.encode(record), indent=1))

    def _note(self, record: Record, release: str, stage: Stage, reason: str = "", text: str = "") -> None:
        at = datetime.fromtimestamp(self._clock.wall_ns() // NS_PER_S, UTC).isoformat()
        event = Event(at, release, stage, reason, text[:TEXT_LENGTH_MAX], 1 + secrets.randbelow(ID_MAX))
        record.events = [*record.events, event][-EVENTS_KEPT:]


def remove_tree(folder: Path) -> None:
    """A folder with all that is in it, as far as that can be."""
    import shutil  # brings three compressors with it, which an agent at work does not need

    shutil.rmtree(folder, ignore_errors=True)
