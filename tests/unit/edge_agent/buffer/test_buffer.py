"""`edge-agent buffer` over the file of an agent that does not run: told, exported, checked, pruned; every refusal."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge_agent import exits
from edge_agent.cli import main
from edge_agent.outbox.buffer_file import PAGE_ATOMS_MAX, BufferFile
from edge_agent.outbox.lock import StateLock
from edge_agent.outbox.options import OutboxOptions
from tests.unit.edge_agent.outbox.parts import Gateway, series_set
from wire.clock import SyncState
from wire.ranges import RangeSet
from wire.reading import CellState, LossReason, Priority, Quality, Tick, Tombstone
from wire.series import SeriesDef, SeriesSet, ValueType

KIB = 1024
HEAT = SeriesDef("oven", "heat", "Cel", num=1, den=100)
LOAD = SeriesDef("oven", "load", "%", value_type=ValueType.FLOAT64)
OVEN = SeriesSet((HEAT, LOAD))
LOW = series_set(1, "low")
OPTIONS = OutboxOptions(journal_bytes=256 * KIB, wal_bytes=256 * KIB, history_bytes=1 << 30)
WALL = "2023-11-14T22:13:2"  # 1,700,000,000 s and a few


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path, OPTIONS)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "agent.toml"
    file.write_text(f'[agent]\nstate_dir = "{tmp_path}/state"\nruntime_dir = "{tmp_path}/run-1"\n')
    return file


@pytest.fixture
def filled(gateway: Gateway) -> Gateway:
    """Three atoms: one in the cloud, two not; a loss; a gap, a doubt and an opaque float."""
    recorder = gateway.start(OVEN)
    recorder.register(LOW, Priority.LOW)
    stamp = gateway.clock.boottime // 10**6
    recorder.take([Tick(OVEN.id, stamp, (2001, 7.25)), Tick(OVEN.id, stamp + 1000, (2002, float("nan")))])
    recorder.commit()
    gateway.clock.sleep(2)
    timeout = bytes([0, CellState.TIMEOUT])
    recorder.take([Tick(OVEN.id, stamp + 2000, (-5, 0.0), timeout, bytes([Quality.RANGE, 0]))])
    recorder.take([Tick(LOW.id, stamp + 2500, (9,))])
    recorder.commit()
    recorder.view().acked(recorder.epoch, RangeSet([(0, 4)]))
    recorder.commit()
    with recorder._outbox.database.transaction():
        recorder._outbox.add_tombstone(Tombstone(recorder.epoch, 7, 7, LossReason.JOURNAL_FULL, 12))
    recorder.close()
    gateway.recorder = None
    return gateway


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["buffer", *(str(argument) for argument in arguments)])


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_stats_tell_what_waits_what_stays_and_what_is_lost(filled: Gateway, file: Path) -> None:
    done = run("stats", "-c", file, "--json")
    assert done.exit_code == exits.OK, done.output
    told = json.loads(done.stdout)
    assert (told["schema_version"], told["agent_running"]) == (1, False)
    assert (told["waiting"]["atoms"], told["waiting"]["cells"], told["history"]["atoms"]) == (2, 3, 1)
    assert {name: part["cells"] for name, part in told["classes"].items()} == {"normal": 2, "low": 1}
    assert told["losses"] == {"journal_full": 12}
    assert [stone["reason"] for stone in told["tombstones"]] == ["journal_full"]
    (boot,) = told["epochs"]
    assert (boot["number"], boot["next_seq"], boot["synchronised"]) == (1, 7, True)
    assert boot["oldest_us"] == 102_000_000
    text = run("stats", "-c", file).stdout
    assert "waiting  3 readings in 2 atoms" in text
    assert f"boot 1 {boot['epoch']}: 3 readings wait, the oldest of {WALL}2+00:00" in text
    assert "lost     12 journal_full" in text
    assert "1 records of it wait for the cloud" in text


def test_export_gives_every_reading_with_its_time_gap_and_doubt(filled: Gateway, file: Path) -> None:
    done = run("export", "-c", file)
    assert done.exit_code == exits.OK, done.output
    assert done.stderr == "readings: 7\n"
    found = rows(done.stdout)
    assert [(row["seq"], row["series"], row["value"], row["gap"], row["delivered"]) for row in found] == [
        ("0", "oven/heat", "20.01", "", "1"),
        ("1", "oven/load", "7.25", "", "1"),
        ("2", "oven/heat", "20.02", "", "1"),
        ("3", "oven/load", "nan", "", "1"),
        ("4", "oven/heat", "-0.05", "", "0"),
        ("5", "oven/load", "", "timeout", "0"),
        ("6", "low/c0", "9.0", "", "0"),
    ]
    assert found[0]["time"] == f"{WALL}0+00:00"
    assert [row["quality"] for row in found] == ["", "", "", "", "range", "", ""]
    assert {row["unit"] for row in found if row["series"] == "oven/heat"} == {"Cel"}


@pytest.mark.parametrize(
    ("options", "seqs"),
    [
        (["--which", "waiting"], [4, 5, 6]),
        (["--which", "history"], [0, 1, 2, 3]),
        (["--series", "*/heat", "--series", "low/*"], [0, 2, 4, 6]),
        (["--from", f"{WALL}1Z"], [2, 3, 4, 5, 6]),
        (["--from", f"{WALL}1Z", "--to", f"{WALL}2Z"], [2, 3]),
        (["--series", "nothing"], []),
    ],
)
def test_export_of_a_part(filled: Gateway, file: Path, options: list[str], seqs: list[int]) -> None:
    assert [int(row["seq"]) for row in rows(run("export", "-c", file, *options).stdout)] == seqs


def test_export_as_json_lines_into_a_file_that_must_be_new(filled: Gateway, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.jsonl"
    assert run("export", "-c", file, "--format", "jsonl", "--out", out).exit_code == exits.OK
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines[4]["quality"] == ["range"]
    assert (lines[5]["gap"], lines[5]["value"], lines[3]["value"]) == ("timeout", None, "nan")
    again = run("export", "-c", file, "--out", out)
    assert (again.exit_code, again.stderr) == (exits.FAILED, f"edge-agent: {out}: File exists\n")


def test_verify_finds_nothing_then_everything_that_was_damaged(filled: Gateway, file: Path) -> None:
    done = run("verify", "-c", file)
    assert (done.exit_code, done.stdout) == (exits.OK, "looked at 3 atoms, 7 readings and every page\n")
    damage(filled, "UPDATE atoms SET data = zeroblob(40) WHERE id & 4398046511103 = 0")
    damage(filled, "UPDATE atoms SET count = 3 WHERE id & 4398046511103 = 4")
    damage(filled, "UPDATE epochs SET next_seq = 9")
    done = run("verify", "-c", file, "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["good"], told["problems_count"]) == (exits.FAILED, False, 3)
    assert "40 bytes that do not start with 0x9c" in told["problems"][0]
    assert "its key says Seq, count, class (4, 3, 1)" in told["problems"][1]
    assert "Seq 7..9 are owed to the cloud and in no atom" in told["problems"][2]
    assert "wrong in all: 3" in run("verify", "-c", file).stdout
    exported = run("export", "-c", file)
    assert exported.exit_code == exits.FAILED
    assert "1 damaged atoms were left out" in exported.stderr


def damage(gateway: Gateway, statement: str) -> None:
    file = BufferFile(gateway.database)
    file._connection.execute("PRAGMA query_only = OFF")
    file._connection.execute(statement)
    file.close()


def test_verify_reads_the_pages(filled: Gateway, file: Path) -> None:
    run("stats", "-c", file)  # the WAL is in the database
    content = bytearray(filled.database.read_bytes())
    for page in range(2, len(content) // 1024):
        content[page * 1024] = 77  # no page has this type
    filled.database.write_bytes(content)
    done = run("verify", "-c", file)
    assert done.exit_code != exits.OK, done.output


def test_prune_takes_what_the_cloud_has_and_nothing_else(filled: Gateway, file: Path) -> None:
    (filled.state / "outbox.db.corrupt").write_bytes(b"x")
    nothing = run("prune", "-c", file)
    assert nothing.exit_code == exits.USAGE
    assert "say what shall go" in nothing.stderr
    kept = run("prune", "-c", file, "--keep", "1 MB")
    assert kept.stdout == "deleted: 0 atoms of history, 0 refused atoms, no copy of a damaged outbox\n"
    done = json.loads(run("prune", "-c", file, "--history", "--set-aside", "--damaged", "--json").stdout)
    assert done == {"schema_version": 1, "history": 1, "set_aside": 0, "damaged": True}
    assert [row["seq"] for row in rows(run("export", "-c", file).stdout)] == ["4", "5", "6"]
    assert not (filled.state / "outbox.db.corrupt").exists()
    assert run("prune", "-c", file, "--keep", "much").exit_code == exits.USAGE
    recorder = filled.start(OVEN)
    assert (recorder.stats().atoms, recorder.stats().history_atoms) == (2, 0)


def test_a_long_outbox_is_read_in_pages(gateway: Gateway, file: Path) -> None:
    recorder = gateway.start(OVEN)
    for at in range(PAGE_ATOMS_MAX + 5):
        gateway.clock.sleep(0.01)
        recorder.take([Tick(OVEN.id, gateway.clock.boottime // 10**6, (at, 0.5))])
        recorder.alarm() if at % 2 else None
        recorder.commit()
    recorder.close()
    gateway.recorder = None
    found = rows(run("export", "-c", file, "--series", "oven/heat").stdout)
    assert sorted(round(float(row["value"]) * 100) for row in found) == list(range(PAGE_ATOMS_MAX + 5))


def test_refusals_say_what_helps(gateway: Gateway, file: Path, tmp_path: Path) -> None:
    done = run("stats", "-c", file)
    assert done.exit_code == exits.FAILED
    assert done.stderr == (
        f"edge-agent: {tmp_path}/state/outbox.db: there is no outbox. Has the agent ever run with this configuration?\n"
    )
    assert not (tmp_path / "state").exists()
    gateway.start(OVEN)  # an agent without a control socket: it is just starting
    busy = run("stats", "-c", file)
    assert busy.exit_code == exits.TRY_AGAIN
    assert "is in use by process" in busy.stderr
    gateway.kill()
    damage(gateway, "PRAGMA user_version = 99")
    newer = run("export", "-c", file)
    assert newer.exit_code == exits.FAILED
    assert "schema version 99, this program reads" in newer.stderr
    assert run("export", "-c", file, "--from", "yesterday").exit_code == exits.USAGE


def test_an_agent_cannot_start_while_the_file_is_read(filled: Gateway, file: Path, monkeypatch: Any) -> None:
    from edge_agent.buffer import source

    locked: list[bool] = []

    def look(of: source.Source) -> Iterator[tuple[int, bool, int, bytes]]:
        try:
            StateLock(filled.state, "lock").release()
        except Exception:
            locked.append(True)
        return iter(())

    monkeypatch.setattr("edge_agent.buffer.export.atoms", look)
    assert run("export", "-c", file).exit_code == exits.OK
    assert locked == [True]
    StateLock(filled.state, "lock").release()


def test_a_clock_that_was_not_set_is_told(gateway: Gateway, file: Path) -> None:
    gateway.clock.state = SyncState(False, 0)
    gateway.clock.offset = 0
    recorder = gateway.start(OVEN)
    recorder.take([Tick(OVEN.id, gateway.clock.boottime // 10**6, (1, 0.5))])
    recorder.close()
    gateway.recorder = None
    assert rows(run("export", "-c", file).stdout)[0]["synchronised"] == "0"
    assert "by a clock that was not set" in run("stats", "-c", file).stdout


def test_roll_ups_are_exported_checked_and_counted(gateway: Gateway, file: Path) -> None:
    gateway.options = OutboxOptions(journal_bytes=256 * KIB, wal_bytes=256 * KIB, bytes_max=830 * KIB)
    recorder = gateway.start(OVEN)
    for at in range(150):
        gateway.clock.sleep(5)
        stamp = gateway.clock.boottime // 10**6
        chance = random.Random(at)
        recorder.take([Tick(OVEN.id, stamp + 10 * tick, (tick, chance.random())) for tick in range(100)])
        recorder.commit()
    assert set(recorder.stats().losses) == {LossReason.THINNED}
    recorder.close()
    gateway.recorder = None
    told = json.loads(run("stats", "-c", file, "--json").stdout)
    assert told["classes"]["rollup"]["atoms"] > 0
    assert run("verify", "-c", file).exit_code == exits.OK
    found = rows(run("export", "-c", file, "--series", "oven/load").stdout)
    means = [row for row in found if row["count"]]
    assert sum(int(row["count"]) for row in means) + len(found) - len(means) == 150 * 100
    assert all(float(row["min"]) <= float(row["value"]) <= float(row["max"]) for row in means)
