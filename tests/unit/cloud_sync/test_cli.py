"""The commands: what they make, and one clear line for what goes wrong."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cloud_sync.cli import main
from cloud_sync.cli_options import EXIT_CONFIG
from cloud_sync.data_folder import DataFolder, open_parts
from cloud_sync.errors import ConfigInvalid
from cloud_sync.ingest.ingestor import Ingestor
from cloud_sync.ledger_cli import EXIT_LOST
from cloud_sync.metrics import Metrics
from cloud_sync.storage.pack_keys import pack_key_id
from tests.servers import S3, PostgreSQL
from tests.unit.cloud_sync.gateway import EPOCH, ROOM, DialClock, hello, message
from wire.clock import SystemClock
from wire.ranges import RangeSet
from wire.reading import LossReason, Tombstone
from wire.sync.frames import EpochOffer


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def fails(code: int, *arguments: object) -> str:
    """The one line that a failing command prints."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert result.output.startswith("cloud-sync: ")
    assert result.output.count("\n") == 1
    return result.output


@pytest.fixture
def data(tmp_path: Path) -> Path:
    assert run("init", "--data", tmp_path / "data", "--host", "cloud.example").exit_code == 0
    return tmp_path / "data"


def test_version() -> None:
    assert run("version").output.startswith("cloud-sync ")


def test_init_makes_everything_and_never_overwrites(data: Path) -> None:
    DataFolder(data).require_initialised()
    keys = (data / "pki/ca.key").read_bytes()
    assert "not overwritten" in fails(EXIT_CONFIG, "init", "--data", data)
    assert (data / "pki/ca.key").read_bytes() == keys
    assert stat.S_IMODE((data / "pki").stat().st_mode) == 0o700


def test_init_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "another --data" in fails(EXIT_CONFIG, "init", "--data", tmp_path / "file" / "data")


def test_cert_issue_and_show(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "keys"
    assert run("cert", "issue", "gw-a", "--data", data, "--out", out, "--days", 5).exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    assert stat.S_IMODE((out / "key.pem").stat().st_mode) == 0o600
    facts = json.loads(run("cert", "show", out / "cert.pem", "--json").output)
    assert facts["names"] == ["urn:tidegate:gateway:gw-a"]
    assert "urn:tidegate:gateway:gw-a" in run("cert", "show", out / "cert.pem").output
    assert "not overwritten" in fails(EXIT_CONFIG, "cert", "issue", "gw-a", "--data", data, "--out", out)
    assert "gateway id" in fails(EXIT_CONFIG, "cert", "issue", "Gw_A", "--data", data, "--out", tmp_path / "k")
    assert "cloud-sync init" in fails(EXIT_CONFIG, "cert", "issue", "gw-a", "--data", tmp_path, "--out", out)
    assert "no PEM certificate" in fails(EXIT_CONFIG, "cert", "show", data / "pki/ca.key")
    assert "No such file" in fails(EXIT_CONFIG, "cert", "show", tmp_path / "none.pem")


def test_serve_says_what_is_missing(tmp_path: Path) -> None:
    assert f"Try: cloud-sync init --data {tmp_path}" in fails(EXIT_CONFIG, "serve", "--data", tmp_path)


@pytest.mark.parametrize("grpc", ["8443", "host:", "host:99999", ":1", "host:x"])
def test_an_address_that_is_none(data: Path, grpc: str) -> None:
    assert "--grpc" in (said := fails(EXIT_CONFIG, "serve", "--data", data, "--grpc", grpc))
    assert "HOST:PORT" in said


def serve_process(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from cloud_sync.cli import main; main()", "serve", "--data", str(data)]
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    return subprocess.run(
        [*command, "--log-level", "error", *arguments],
        capture_output=True, text=True, timeout=30, check=False, env=environment,
    )  # fmt: skip


@pytest.mark.parametrize("port_of", ["grpc", "enrol", "http"])
def test_a_port_in_use_is_one_line(data: Path, port_of: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        addresses = dict.fromkeys(("grpc", "enrol", "http"), "127.0.0.1:0") | {port_of: taken}
        done = serve_process(data, *(word for name, at in addresses.items() for word in (f"--{name}", at)))
    assert done.returncode == EXIT_CONFIG
    assert done.stderr.startswith("cloud-sync: ")
    assert done.stderr.count("\n") == 1  # gRPC's core adds nothing
    assert taken in done.stderr


def test_a_key_of_another_certificate_is_no_port_in_use(data: Path) -> None:
    key = data / "pki/server.key"
    key.write_bytes((data / "pki/ca.key").read_bytes())
    said = fails(EXIT_CONFIG, "serve", "--data", data, "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")
    assert f"{key} are no certificate and its key" in said
    assert "port" not in said


def test_two_services_cannot_share_a_folder(data: Path) -> None:
    with DataFolder(data).lock():
        assert "in use by process" in fails(EXIT_CONFIG, "serve", "--data", data)
        assert "in use by process" in fails(EXIT_CONFIG, "restored", "--data", data)


def test_a_catalog_and_a_store_of_different_generations(data: Path) -> None:
    for key in (data / "objects/meta").iterdir():
        key.rename(key.with_name(f"generation-{123:016x}"))
    assert "cloud-sync restored" in fails(EXIT_CONFIG, "serve", "--data", data)
    assert run("restored", "--data", data).output.startswith("generation ")
    catalog, _ = open_parts(DataFolder(data), DialClock())
    catalog.close()


def test_restored_starts_a_new_generation(data: Path) -> None:
    catalog, _ = open_parts(DataFolder(data), DialClock())
    before = catalog.generation()
    catalog.close()
    told = run("restored", "--data", data).output.split()[1]
    catalog, _ = open_parts(DataFolder(data), DialClock())
    assert catalog.generation() == int(told, 16) != before
    catalog.close()


def write_packs(data: Path, *firsts: int) -> None:
    """One pack per message, each by a start of its own."""
    for first in firsts:
        catalog, store = open_parts(DataFolder(data), SystemClock())
        ingestor = Ingestor(catalog, store, SystemClock(), Metrics())
        ingestor.put_series_sets("gw-a", [ROOM])
        ingestor.write([("gw-a", message(1, first))])
        catalog.close()


def test_an_older_catalog_is_refused_and_restored_takes_its_packs_in_again(data: Path, tmp_path: Path) -> None:
    sqlite = sqlite3.connect(data / "catalog.sqlite")
    backup = sqlite3.connect(tmp_path / "backup")
    sqlite.backup(backup)
    write_packs(data, 0, 10, 20)
    backup.backup(sqlite)
    backup.close()
    sqlite.close()
    told = fails(EXIT_CONFIG, "serve", "--data", data)
    assert "older copy" in told
    assert f"cloud-sync restored --data {data}" in told
    assert "3 messages of 3 packs" in run("restored", "--data", data).output
    catalog, store = open_parts(DataFolder(data), SystemClock())
    assert [(row.t_min_us >= 0, len(store.get(row.pack_key, row.offset, row.length)) > 0)
            for row in catalog.messages("gw-a", [ROOM.id], 0, 2**62)] == [(True, True)] * 3  # fmt: skip
    assert list(catalog.hello("gw-a", hello()).coverage[0].stored) == [(0, 30)]
    assert catalog.open_pack().pack_id > max(pack_key_id(key) or 0 for key in store.list("packs/"))
    catalog.close()
    assert "0 messages of 0 packs" in run("restored", "--data", data).output
    write_packs(data, 30)


def test_ledger_and_pack(data: Path) -> None:
    catalog, store = open_parts(DataFolder(data), DialClock())
    ingestor = Ingestor(catalog, store, DialClock(), Metrics())
    ingestor.put_series_sets("gw-a", [ROOM])
    ingestor.write([("gw-a", message(1, 0))])
    ingestor.record_tombstones("gw-a", [Tombstone(EPOCH, 12, 14, LossReason.EVICTED, 2)])
    [key] = store.list("packs/")
    catalog.close()
    document = json.loads(run("ledger", "gw-a", "--data", data, "--json").output)
    assert [document[name] for name in ("taken", "stored", "tombstoned", "pending")] == [14, 10, 2, 2]
    assert document["epochs"][0]["tombstones"] == [{"first": 12, "end": 14, "reason": "evicted", "count": 2}]
    assert "evicted: 2 at 12..14" in run("ledger", "gw-a", "--data", data).output
    assert "those that have: gw-a" in fails(EXIT_CONFIG, "ledger", "gw-x", "--data", data)
    assert json.loads(run("ledger", "--data", data, "--json").output)["lost"] == 2
    assert "gw-a" in run("ledger", "--data", data).output
    for which in ("gw-a",), ():
        assert run("ledger", *which, "--data", data, "--check").exit_code == EXIT_LOST
    pack = json.loads(run("pack", data / "objects" / key, "--json").output)
    assert [(m["gateway"], m["cells"], m["seq"]) for m in pack["messages"]] == [("gw-a", 10, [0, 10])]
    assert "gw-a" in run("pack", data / "objects" / key).output
    assert f"{data / 'pki/ca.pem'}: " in fails(1, "pack", data / "pki/ca.pem")


def test_a_truncated_catalog_is_said_once(data: Path) -> None:
    with (data / "catalog.sqlite").open("r+b") as file:
        file.truncate(10_000)
    assert "catalog.sqlite" in fails(EXIT_CONFIG, "serve", "--data", data)


def test_the_folder_is_free_again(data: Path) -> None:
    folder = DataFolder(data)
    with folder.lock():
        pass
    with folder.lock(), pytest.raises(ConfigInvalid), folder.lock():
        pass


# -- PostgreSQL and S3 ----------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(postgresql_server: PostgreSQL, s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Options that put catalog and objects into an empty schema and prefix."""
    for name, value in s3_server.credentials.items():
        monkeypatch.setenv(name, value)
    return "--catalog", postgresql_server.empty(), "--object-store", s3_server.url(f"cli/{secrets.token_hex(6)}")


def test_init_elsewhere_makes_only_keys_here(tmp_path: Path, elsewhere: tuple[str, ...]) -> None:
    assert run("init", "--data", tmp_path / "a", *elsewhere).exit_code == 0
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["pki"]
    catalog, store = open_parts(DataFolder(tmp_path / "a", elsewhere[1], elsewhere[3]), DialClock())
    assert list(store.list()) == [f"meta/generation-{catalog.generation():016x}"]
    catalog.close()


def test_init_elsewhere_overwrites_nothing(tmp_path: Path, elsewhere: tuple[str, ...], s3_server: S3) -> None:
    assert run("init", "--data", tmp_path / "a", *elsewhere).exit_code == 0
    assert "database is not empty" in fails(EXIT_CONFIG, "init", "--data", tmp_path / "b", *elsewhere)
    assert "another prefix" in fails(EXIT_CONFIG, "init", "--data", tmp_path / "b", *elsewhere[2:])
    assert not (tmp_path / "b").exists()


def test_init_elsewhere_makes_nothing_when_one_of_them_refuses(
    tmp_path: Path, elsewhere: tuple[str, ...], s3_server: S3, postgresql_server: PostgreSQL
) -> None:
    missing = ("--object-store", s3_server.url(bucket="no-such-bucket"))
    assert "make the bucket" in fails(EXIT_CONFIG, "init", "--data", tmp_path / "a", *elsewhere[:2], *missing)
    wrong = ("--catalog", postgresql_server.url("nowhere"))
    assert "does not exist" in fails(EXIT_CONFIG, "init", "--data", tmp_path / "a", *wrong, *elsewhere[2:])
    assert not (tmp_path / "a").exists()
    assert run("init", "--data", tmp_path / "a", *elsewhere).exit_code == 0


def test_a_server_that_is_away_may_be_tried_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"postgresql://u:secret@127.0.0.1:{port}/d"
    assert "secret" not in fails(1, "init", "--data", tmp_path / "a", "--catalog", url)


def test_serve_needs_the_places_that_init_was_given(tmp_path: Path, elsewhere: tuple[str, ...]) -> None:
    assert run("init", "--data", tmp_path / "a", *elsewhere).exit_code == 0
    assert "--catalog" in fails(EXIT_CONFIG, "serve", "--data", tmp_path / "a")
    assert "none" in fails(EXIT_CONFIG, "serve", "--data", tmp_path / "a", *elsewhere[:2])


def test_a_gap_and_a_clone_are_told_until_they_end(data: Path) -> None:
    catalog = DataFolder(data).open_catalog(DialClock())
    told = replace(hello(), generation_seen=catalog.generation())
    catalog.hello("gw-a", replace(told, epochs=(EpochOffer(EPOCH, 10, RangeSet([(0, 10)])),)))
    assert run("ledger", "gw-a", "--data", data, "--check").exit_code == 0
    catalog.hello("gw-a", replace(told, epochs=(EpochOffer(EPOCH + 1, 0, RangeSet()),)))
    assert run("ledger", "gw-a", "--data", data, "--check").exit_code == EXIT_LOST
    table = run("ledger", "gw-a", "--data", data).output
    assert "10 at 0..10" in table
    assert f"  {EPOCH:016x}\n" in table + "\n", "end unknown"
    catalog.hello("gw-a", replace(told, machine=b"clone", epochs=(EpochOffer(EPOCH + 2, 0, RangeSet()),)))
    assert "CLONED" in run("ledger", "gw-a", "--data", data).output
    assert "CLONED" in run("ledger", "--data", data).output
    assert "in use" in run("machine", "list", "gw-a", "--data", data).output
    machines = json.loads(run("machine", "list", "gw-a", "--data", data, "--json").output)
    assert [each["retired"] for each in machines] == [False, False]
    assert "is retired" in run("machine", "retire", "gw-a", b"clone".hex(), "--data", data).output
    assert "CLONED" not in run("ledger", "gw-a", "--data", data).output
    assert (b"m" * 16).hex() in fails(EXIT_CONFIG, "machine", "retire", "gw-a", b"clone".hex(), "--data", data)
    catalog.close()


def test_ledger_and_restored_elsewhere(tmp_path: Path, elsewhere: tuple[str, ...]) -> None:
    data = tmp_path / "a"
    assert run("init", "--data", data, *elsewhere).exit_code == 0
    catalog, store = open_parts(DataFolder(data, elsewhere[1], elsewhere[3]), DialClock())
    before = catalog.generation()
    catalog.put_series_sets("gw-a", [ROOM])
    Ingestor(catalog, store, DialClock(), Metrics()).write([("gw-a", message(1, 0))])
    catalog.close()
    assert json.loads(run("ledger", "gw-a", "--data", data, *elsewhere[:2], "--json").output)["stored"] == 10
    assert run("restored", "--data", data, *elsewhere).exit_code == 0
    catalog, _ = open_parts(DataFolder(data, elsewhere[1], elsewhere[3]), DialClock())
    assert catalog.generation() != before
    catalog.close()
