"""The power goes at every write: the files as they stand before each statement of a commit are opened again.

A new boot finds either all of a commit or nothing of it; a restart finds the rest in the journal.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.recorder import Recorder
from tests.unit.edge_agent.outbox.parts import OPTIONS, Gateway, noise, series_set, values, values_of, waiting
from wire.ranges import RangeSet
from wire.reading import LossReason, Tick

SET = series_set(6)


class Witness:
    """Copies state and runtime directories before every statement that the writer runs."""

    def __init__(self, gateway: Gateway, recorder: Recorder, to: Path) -> None:
        self.gateway = gateway
        self.to = to
        self.copies: list[Path] = []
        self.statements: list[str] = []
        recorder._outbox.database.connection.set_trace_callback(self.see)

    def see(self, statement: str) -> None:
        self.statements.append(statement.split("(", maxsplit=1)[0])
        self.copy()

    def copy(self) -> None:
        target = self.to / str(len(self.copies))
        for source in (self.gateway.state, self.gateway.runtime):
            (target / source.name).mkdir(parents=True)
            for name in ("outbox.db", "outbox.db-wal", "journal.ring"):
                if (source / name).exists():
                    shutil.copy(source / name, target / source.name / name)
        self.copies.append(target)


def after(copy: Path, *, reboot: bool) -> Gateway:
    gateway = Gateway(copy, OPTIONS)
    if reboot:
        gateway.reboot()
    gateway.start(SET)
    return gateway


def scenario(gateway: Gateway, act: Callable[[Recorder], object], to: Path) -> tuple[list[Tick], list[Tick], Witness]:
    """Five commits with acks of the second, then `act` under the witness. Returns what was committed and what waits."""
    recorder = gateway.start(SET)
    committed, waits = noise(SET, 50), noise(SET, 10, seed=3)
    for at in range(5):
        gateway.clock.sleep(5)
        recorder.take(committed[at * 10 : at * 10 + 10])
        recorder.commit()
    view = recorder.view()
    view.acked(recorder.epoch, RangeSet([(60, 120)]))
    recorder.take(waits)
    witness = Witness(gateway, recorder, to)
    act(recorder)
    witness.copy()
    assert len(witness.copies) > 5
    return committed, waits, witness


@pytest.mark.parametrize("reboot", [False, True])
def test_a_commit_is_all_or_nothing(tmp_path: Path, reboot: bool) -> None:
    gateway = Gateway(tmp_path / "live", OPTIONS)
    committed, waits, witness = scenario(gateway, lambda recorder: recorder.commit(), tmp_path / "copies")
    epoch = gateway.recorder.epoch  # type: ignore[union-attr]
    kept = committed[:10] + committed[20:]
    outcomes = set()
    for copy in witness.copies:
        again = after(copy, reboot=reboot)
        recorder = again.recorder
        assert recorder is not None
        recorder.commit()
        view = recorder.view()
        atoms = waiting(view)
        numbers = [(atom.epoch, atom.first) for atom in atoms]
        assert len(set(numbers)) == len(numbers)
        found = values(atoms)
        old = next(offer for offer in view.offers() if offer.epoch == epoch)
        whole = old.next_seq == 360
        outcomes.add(whole)
        assert old.next_seq in ((300, 360) if reboot else (360,))
        assert old.offered == RangeSet((atom.first, atom.end) for atom in atoms if atom.epoch == epoch)
        unacked = RangeSet([(60, 120)]) & old.offered
        assert unacked.count in (0, 60)  # an ack that was undone is offered again
        expected = kept + committed[10:20] * (unacked.count == 60) + waits * whole
        assert found == values_of(expected)
        if reboot:
            assert recorder.epoch != epoch
            assert recorder.stats().losses == {LossReason.POWER_CUT: 60}
        else:
            assert recorder.epoch == epoch
            assert recorder.stats().losses == {}
        again.kill()
    assert outcomes == ({False, True} if reboot else {True})


@pytest.mark.parametrize("act", ["begin_epoch", "adopt_generation", "set_aside", "close", "register"])
def test_every_other_transaction_too(tmp_path: Path, act: str) -> None:
    """Whatever the power interrupts: every Seq below next_seq is offered, settled or in a tombstone, no value twice."""
    gateway = Gateway(tmp_path / "live", OPTIONS)

    def run(recorder: Recorder) -> None:
        view = recorder.view()
        if act == "begin_epoch":
            view.begin_epoch(RangeSet([(0, 500)]))
        elif act == "adopt_generation":
            view.adopt_generation(9, [(recorder.epoch, RangeSet([(60, 120)]))])
            recorder.commit()
        elif act == "set_aside":
            view.set_aside(recorder.epoch, 120, "refused")
            recorder.commit()
        elif act == "register":
            recorder.register(series_set(2, "more"))
            recorder.commit()
        else:
            recorder.close()
            gateway.recorder = None

    committed, waits, witness = scenario(gateway, run, tmp_path / "copies")
    everything = set(values_of(committed + waits))
    for copy in witness.copies:
        again = after(copy, reboot=False)
        recorder = again.recorder
        assert recorder is not None
        recorder.commit()
        atoms = waiting(recorder.view())
        found = values(atoms)
        assert len(found) == len(set(found))
        missing = everything - set(found)
        may_miss = set(values_of(committed[10:20])) | set(values_of(committed[20:30] if act == "set_aside" else []))
        assert missing <= may_miss
        again.kill()


def test_a_wal_cut_anywhere_is_a_shorter_history(tmp_path: Path) -> None:
    """A power cut tears the last write: SQLite drops the torn commit, the new boot does not give its numbers again."""
    gateway = Gateway(tmp_path / "live", OutboxOptions(journal_bytes=64 << 10, wal_bytes=1 << 20))
    recorder = gateway.start(SET)
    committed = noise(SET, 50)
    for at in range(5):
        recorder.take(committed[at * 10 : at * 10 + 10])
        recorder.commit()
    epoch = recorder.epoch
    wal = (gateway.state / "outbox.db-wal").read_bytes()
    end = len(wal.rstrip(b"\0"))
    seen = set()
    for cut in range(end, 0, -end // 24):
        copy = tmp_path / f"cut-{cut}"
        (copy / "state").mkdir(parents=True)
        shutil.copy(gateway.database, copy / "state" / "outbox.db")
        (copy / "state" / "outbox.db-wal").write_bytes(wal[:cut] + b"\xee" * min(700, end - cut) + bytes(100))
        again = after(copy, reboot=True)
        assert again.recorder is not None
        view = again.recorder.view()
        assert again.recorder.epoch != epoch
        atoms = [atom for atom in waiting(view) if atom.epoch == epoch]
        assert values(atoms) == values_of(committed[: len(atoms) * 10])
        seen.add(len(atoms))
        again.kill()
    assert len(seen) >= 4


def test_sqlite_agrees_that_copies_are_crashes(tmp_path: Path) -> None:
    """The trick of this file holds: a copy taken between COMMITs opens as the state of the last one."""
    path = tmp_path / "a.db"
    live = sqlite3.connect(path, isolation_level=None)
    live.execute("PRAGMA journal_mode = WAL")
    live.execute("CREATE TABLE t (x)")
    live.execute("BEGIN")
    live.execute("INSERT INTO t VALUES (1)")
    for name in ("a.db", "a.db-wal"):
        shutil.copy(tmp_path / name, tmp_path / name.replace("a.db", "b.db"))
    live.execute("COMMIT")
    copy = sqlite3.connect(tmp_path / "b.db")
    assert copy.execute("SELECT count(*) FROM t").fetchone() == (0,)
    copy.close()
    live.close()
