"""SIGKILL at random moments: what `take` returned for is in the journal or in an atom, once, with its value."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_agent.outbox.journal import Journal
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.recorder import Recorder
from tests.unit.edge_agent.outbox.parts import Gateway, series_set, ticks, values, values_of, waiting
from wire.clock import SystemClock
from wire.ranges import RangeSet

SET = series_set(8)
OPTIONS = OutboxOptions(commit_interval_s=0.02, alarm_interval_s=0.01, journal_bytes=256 << 10, wal_bytes=256 << 10)
ROOT = Path(__file__).resolve().parents[4]


def child(root: Path, start: int) -> None:
    """An agent: one thread takes ticks and tells the stamp of each on stdout once it is taken, one commits."""
    import threading

    gateway = Gateway(root, OPTIONS)
    recorder = Recorder.open(gateway.state, gateway.runtime, SystemClock(), "boot-1", "machine-1", OPTIONS)
    recorder.register(SET)
    view = recorder.view()

    def write() -> None:
        while True:
            if recorder.due(SystemClock().boottime_ns()):
                recorder.commit()
                half = view.next_seq() // 2
                view.acked(recorder.epoch, RangeSet([(half // 3, half)]))
            time.sleep(0.002)

    threading.Thread(target=write, daemon=True).start()
    for stamp in itertools.count(start):
        recorder.take(ticks(SET, 1, start=stamp))
        sys.stdout.write(f"{stamp}\n")
        sys.stdout.flush()
        time.sleep(0.0005)


def test_nothing_taken_is_lost(tmp_path: Path) -> None:
    chance = random.Random(20)
    start = 0
    gateway = Gateway(tmp_path, OPTIONS)
    for life in range(8):
        code = f"from pathlib import Path; from {__name__} import child; child(Path({str(tmp_path)!r}), {start})"
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.random() * 0.25)
        process.kill()
        with process.stdout as output:
            lines = output.read().split(b"\n")
        process.wait()
        told = max((int(line) for line in lines[:-1]), default=start) + 1
        ring = [tick.stamp for tick in Journal.scan(gateway.runtime / "journal.ring", ring_owner(gateway), 0)]
        recorder = gateway.start(SET)
        recorder.commit()
        view = recorder.view()
        atoms = waiting(view)
        found = values(atoms)
        assert len(found) == len(set(found)), f"life {life}: doubled"
        offered = view.offers()[0].offered
        assert RangeSet((atom.first, atom.end) for atom in atoms) == offered
        # Acked atoms are gone; every other cell of every told tick is here, and at most the tick in flight beside.
        taken = recorder._outbox.current().next_seq // 8
        assert told <= taken <= told + 1, f"life {life}: {told} told, {taken} taken, ring to {ring[-1:]}"
        kept = [tick for tick in ticks(SET, taken) if offered.contains(tick.stamp * 8, tick.stamp * 8 + 8)]
        assert found == values_of(kept), f"life {life}"
        assert recorder.stats().losses == {}
        gateway.kill()
        start = taken


def ring_owner(gateway: Gateway) -> int:
    head = Journal.head(gateway.runtime / "journal.ring")
    assert head is not None
    return head.outbox


@pytest.mark.parametrize("moment_s", [0.0, 0.02, 0.05])
def test_killed_while_it_opens(tmp_path: Path, moment_s: float) -> None:
    """The outbox is being made: whatever is there, the next start goes on from it."""
    gateway = Gateway(tmp_path, OPTIONS)
    code = f"import {__name__} as t; from pathlib import Path; print(flush=True); t.child(Path({str(tmp_path)!r}), 0)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(moment_s)
    process.kill()
    process.stdout.close()
    process.wait()
    recorder = gateway.start(SET)
    recorder.take(ticks(SET, 1, start=10**6))
    recorder.commit()
    assert set(values_of(ticks(SET, 1, start=10**6))) <= set(values(waiting(recorder.view())))
    assert not (gateway.state / "outbox.db.corrupt").exists()
