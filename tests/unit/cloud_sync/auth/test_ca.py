"""The private CA's certificates."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloud_sync.auth.ca import PkiFiles, create_ca, issue_gateway, read_certificate
from cloud_sync.errors import ConfigInvalid
from wire.durable import write_new

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def files(tmp_path: Path) -> PkiFiles:
    files = PkiFiles(tmp_path)
    create_ca(files, ["cloud.example", "192.0.2.7"])
    return files


def test_a_gateway_with_any_clock_can_connect(files: PkiFiles) -> None:
    for path in (files.ca, files.server):
        facts = read_certificate(path)
        assert (facts.valid_from.year, facts.valid_until.year) == (1970, 2099)
    assert read_certificate(files.ca).authority
    assert not read_certificate(files.server).authority


def test_the_servers_names(files: PkiFiles) -> None:
    names = read_certificate(files.server).names
    assert {"localhost", "127.0.0.1", "::1", "cloud.example", "192.0.2.7"} <= set(names)


def test_keys_are_for_their_owner_only(files: PkiFiles) -> None:
    for path in (files.ca_key, files.server_key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_gateways_certificate(files: PkiFiles, tmp_path: Path) -> None:
    made = issue_gateway(files, "gw-a", NOW, 90)
    write_new(tmp_path / "cert.pem", made.issued.pem, 0o644)
    facts = read_certificate(tmp_path / "cert.pem")
    assert facts.names == ("urn:tidegate:gateway:gw-a",)
    assert facts.issuer == read_certificate(files.ca).subject
    assert (facts.valid_from, facts.valid_until) == (NOW - timedelta(hours=1), NOW + timedelta(days=90))
    assert b"PRIVATE KEY" in made.pem


def test_nothing_is_overwritten(files: PkiFiles) -> None:
    with pytest.raises(FileExistsError):
        create_ca(files, [])


def test_what_cannot_be(files: PkiFiles, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="gateway id"):
        issue_gateway(files, "Not An Id", NOW, 90)
    with pytest.raises(ConfigInvalid, match="no PEM"):
        read_certificate(files.ca_key)
    with pytest.raises(ConfigInvalid):
        issue_gateway(PkiFiles(tmp_path / "none"), "gw-a", NOW, 90)
    with pytest.raises(ConfigInvalid, match="neither"):
        create_ca(PkiFiles(tmp_path / "none"), ["bäd host"])
