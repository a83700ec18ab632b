"""Bytes that reach the flash per reading: `python -m benchmarks.flash [--json FILE] [--seconds N]`. Needs root.

Each store works on a loop device of its own with ext4, and what is counted is what the block layer writes to it:
SQLite's log and checkpoints, ext4's journal and metadata. Ours is the real recorder under a clock that is set by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.columns import COLUMNS, Column, NoData, batches, data_directory, decimal_columns
from benchmarks.report import OURS, Report
from edge_agent.detect.contract import load_model
from edge_agent.detect.detector import Detector, channels_of
from edge_agent.detect.library import find_model
from edge_agent.detect.rules import Rule, RuleKind
from edge_agent.detect.runner import Runner
from edge_agent.detect.session import Session
from edge_agent.detect.watched import Watch
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.recorder import Recorder
from wire.alarm import Severity
from wire.clock import NS_PER_S, SyncState
from wire.ranges import RangeSet
from wire.reading import Tick
from wire.series import SeriesSet, StampUnit

MIB = 1 << 20
IMAGE_BYTES = 128 * MIB
SECTOR_BYTES = 512  # of /sys/block/*/stat, whatever the device's own
SECONDS = 3600  # measured, of virtual time, after as long a warm-up as the log needs to be written over
WARM_UP_COMMITS = 200
WARM_UP_S = (
    3600  # the model has learnt and seen all of the record, so that the commits of alarms are as few as they should be
)
CASES = {"1 s": 1, "5 s": 5, "10 s": 10}
RECORDED_ROWS = 1800  # of each series, read forwards and backwards
JOURNAL_S = 5  # ext4(5): commit=5, counted from the first change; the timer is rounded up to a whole second
WRITE_BACK_S = 30  # vm.dirty_expire_centisecs
CALIBRATION_ROWS = 1200
METHOD = f"""\
{COLUMNS} recorded series (`benchmarks.columns`, decimal), one reading a second each, forwards and backwards in
turn. Each store has a loop device with ext4 (blocks of 4 KiB, noatime); bytes_per_reading is the growth of the
device's written sectors (/sys/block/loopN/stat) over {SECONDS} s of virtual time, after a warm-up of at least
{WARM_UP_COMMITS} commits and {WARM_UP_S} s, divided by the readings of that time; it begins and ends with a
sync. fsyncs are real. What the kernel does by its own clock is done by the virtual one: a commit of ext4's
journal {JOURNAL_S} s after the first change since the last, and write-back of dirty pages (a mapped index of
the log, ext4's metadata) after {WRITE_BACK_S} s, between two transactions. Ours: the recorder with its detector
(value-novelty on all series, {CALIBRATION_ROWS} rows to learn, and a threshold rule), its state in each commit;
each commit's atoms are acknowledged and deleted with the next; alarms commit at once. rows: SQLite in WAL mode,
synchronous=FULL, one row (time, series, real) per reading and one commit per interval, which deletes what came
two commits before. JSON rows: the same with (topic, ISO time, payload) as text."""

Store = Callable[[Path, "Source", int, "Kernel"], None]


def recorded() -> tuple[Column, ...]:
    """The series that are read. Raises NoData."""
    data = data_directory()
    return next(batches(data, decimal_columns(data), RECORDED_ROWS, 1)).columns


class Source:
    """Recorded rows without an end: forwards, then backwards, so that no step is made up."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.set = SeriesSet(tuple(column.series for column in columns))
        self._rows = np.array([column.raw for column in columns]).T

    def raw(self, second: int) -> tuple[int, ...]:
        """The row of a second, at the series' resolutions."""
        count = len(self._rows)
        at = second % (2 * count)
        return tuple(self._rows[at if at < count else 2 * count - 1 - at].tolist())


class Kernel:
    """What the kernel writes by its own clock, done by a virtual one; counts what the device was given."""

    def __init__(self, mount: Path, device: str, warm_up_s: int, end_s: int) -> None:
        self._mount = mount
        self._store = mount / "store"
        self._store.mkdir()
        self._seen_ns = 0
        self._device = Path("/dev") / device
        self._warm_up_s = warm_up_s
        self._end_s = end_s
        self._before = 0
        self.bytes = 0

    def seconds(self) -> Iterator[int]:
        """Virtual seconds of the whole run; what is due of the kernel is done at the end of each."""
        begun: int | None = None  # ext4's running transaction
        written_back = 0
        for second in range(self._end_s):
            if second == self._warm_up_s:
                self._before = self._written()
            yield second
            if begun is None and self._changed():
                begun = second
            if begun is not None and second - begun >= JOURNAL_S:
                self._commit_journal()
                begun = None
            if begun is None and second - written_back >= WRITE_BACK_S:
                self._write_back()  # what a running transaction holds would not be written
                written_back = second
            if begun is None:
                self._seen_ns = self._newest_ns()
        self.bytes = self._written() - self._before

    def _changed(self) -> bool:
        """Whether a file was written since the last commit of the journal."""
        return self._newest_ns() != self._seen_ns

    def _newest_ns(self) -> int:
        return max((path.stat().st_mtime_ns for path in self._store.iterdir()), default=0)

    def _commit_journal(self) -> None:
        """An fsync of a changed inode commits ext4's running transaction, with the times of all files in it.

        The folder's inode is in the block of its files', so that it adds none.
        """
        os.utime(self._store)
        descriptor = os.open(self._store, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _write_back(self) -> None:
        """Dirty pages of files (the log's shared memory), and of the device (ext4's metadata)."""
        for path in (*self._store.iterdir(), self._device):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)

    def _written(self) -> int:
        return written_bytes(self._mount, self._device.name)


def written_bytes(mount: Path, device: str) -> int:
    """What the block layer has given to the device since it was made; all of the file system is synced first."""
    subprocess.run(["sync", "-f", str(mount)], check=True)
    return int(Path(f"/sys/block/{device}/stat").read_text(encoding="ascii").split()[6]) * SECTOR_BYTES


class VirtualClock:
    """A `Clock` whose time is set."""

    def __init__(self) -> None:
        self.second = 0

    def boottime_ns(self) -> int:
        return (1000 + self.second) * NS_PER_S

    def wall_ns(self) -> int:
        return 1_700_000_000 * NS_PER_S + self.boottime_ns()

    def sync_state(self) -> SyncState:
        return SyncState(True, 500)

    def sleep(self, seconds: float) -> None:
        self.second += round(seconds)


def ours(folder: Path, source: Source, interval_s: int, kernel: Kernel) -> None:
    """The recorder, its detector, and a cloud that acknowledges each commit before the next."""
    clock = VirtualClock()
    options = OutboxOptions(commit_interval_s=float(interval_s), alarm_interval_s=1.0)
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="flash-") as ram:
        recorder = Recorder.open(folder, Path(ram), clock, "boot", "machine", options)
        recorder.register(source.set)
        recorder.detect(detector_for(source.set))
        view = recorder.view()
        stamps_per_s = 1000 if source.set.stamp_unit is StampUnit.MS else 1_000_000
        for second in kernel.seconds():
            clock.second = second
            recorder.take([Tick(source.set.id, (1000 + second) * stamps_per_s, source.raw(second))])
            recorder.look()
            if recorder.due(clock.boottime_ns() + NS_PER_S):  # its last second is over
                clock.second = second + 1
                recorder.commit()
                (offer,) = view.offers()
                atoms = view.pending(offer.epoch, 0, offer.next_seq, None, RangeSet(), 1 << 40)
                view.acked(offer.epoch, RangeSet((atom.first, atom.end) for atom in atoms))
                view.tombstones_acked([stone.key for stone in view.tombstones(1000)])
                view.alarms_acked([alarm.key for _, alarm in view.alarms(1000)])
        if recorder.detection[0]:
            raise SystemExit(f"the detector does not work: {recorder.detection[0]}")
        recorder.close()


def detector_for(series_set: SeriesSet) -> Detector:
    """One model on all series, and a rule that stays silent."""
    session = Session(load_model(find_model("value-novelty")))
    lane = Runner(session, calibration_rows=CALIBRATION_ROWS).add(channels_of(series_set.series))
    series = series_set.series[0]
    rule = Rule(1, series.name, series.unit, RuleKind.HIGH, 1e12, 0.0, 0.0, Severity.WARNING)
    return Detector(1, [Watch(series_set, [(lane, tuple(range(len(series_set.series))))], (rule,))])


def rows(folder: Path, source: Source, interval_s: int, kernel: Kernel) -> None:
    """A row per reading."""
    table = "CREATE TABLE readings (id INTEGER PRIMARY KEY, time INTEGER, series INTEGER, value REAL)"

    def made(second: int, values: list[float]) -> list[tuple[object, ...]]:
        return [(second * 1000, at, value) for at, value in enumerate(values)]

    _rows(folder, source, interval_s, kernel, table, made)


def json_rows(folder: Path, source: Source, interval_s: int, kernel: Kernel) -> None:
    """A row of text per reading."""
    table = "CREATE TABLE readings (id INTEGER PRIMARY KEY, topic TEXT, time TEXT, payload TEXT)"
    names = [series.name for series in source.set.series]

    def made(second: int, values: list[float]) -> list[tuple[object, ...]]:
        time = datetime.fromtimestamp(1_700_000_000 + second, UTC).isoformat()
        return [
            (f"gateway/{name}", time, json.dumps({"ts": time, "value": value})) for name, value in zip(names, values)
        ]

    _rows(folder, source, interval_s, kernel, table, made)


def _rows(
    folder: Path,
    source: Source,
    interval_s: int,
    kernel: Kernel,
    table: str,
    made: Callable[[int, list[float]], list[tuple[object, ...]]],
) -> None:
    with closing(sqlite3.connect(folder / "rows.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(table)
        waiting: list[tuple[object, ...]] = []
        sent = 0
        for second in kernel.seconds():
            values = [
                float(series.values(np.array([raw]))[0]) for series, raw in zip(source.set.series, source.raw(second))
            ]
            waiting += made(second, values)
            if second % interval_s == interval_s - 1:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("DELETE FROM readings WHERE id <= ?", (sent,))
                sent = connection.execute("SELECT coalesce(max(id), 0) FROM readings").fetchone()[0]
                connection.executemany("INSERT INTO readings VALUES (NULL, ?, ?, ?)", waiting)
                connection.execute("COMMIT")
                waiting.clear()


STORES: dict[str, Store] = {OURS: ours, "rows": rows, "JSON rows": json_rows}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write JSON where told."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flash", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="virtual time that is measured")
    parser.add_argument("--case", choices=CASES, action="append", help="only this commit interval (default: all)")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        print(
            "flash mounts loop devices, which needs root. Try: sudo .venv/bin/python -m benchmarks.flash",
            file=sys.stderr,
        )
        return 1
    try:
        columns = recorded()
    except NoData as error:
        print(error, file=sys.stderr)
        return 1
    source = Source(columns)
    report = Report("flash", METHOD, ("numpy", "pcodec", "onnxruntime"))
    for case in options.case or CASES:
        for name, store in STORES.items():
            written = measure(store, source, CASES[case], options.seconds)
            report.add(name, case, "bytes_per_reading", written / (options.seconds * COLUMNS), "B")
    report.finish(options.json)
    return 0


def measure(store: Store, source: Source, interval_s: int, seconds: int) -> int:
    """Bytes that the device was given in the measured time."""
    warm_up_s = -(-max(WARM_UP_S, WARM_UP_COMMITS * interval_s) // WRITE_BACK_S) * WRITE_BACK_S
    with ext4() as (mount, device):
        kernel = Kernel(mount, device, warm_up_s, warm_up_s + seconds)
        store(mount / "store", source, interval_s, kernel)
        return kernel.bytes


@contextmanager
def ext4() -> Iterator[tuple[Path, str]]:
    """An empty ext4 on a loop device: where it is mounted, and the device's name."""
    with tempfile.TemporaryDirectory(prefix="flash-") as folder:
        image, mount = Path(folder) / "image", Path(folder) / "mount"
        mount.mkdir()
        with image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-b", "4096", str(image)], check=True)
        device = _said("losetup", "--find", "--show", str(image))
        try:
            subprocess.run(["mount", "-t", "ext4", "-o", "noatime", device, str(mount)], check=True)
            try:
                yield mount, Path(device).name
            finally:
                subprocess.run(["umount", str(mount)], check=True)
        finally:
            subprocess.run(["losetup", "--detach", device], check=True)


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    raise SystemExit(main())
