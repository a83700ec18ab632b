"""`cloud-sync token`, `gateway`, `audit`: what they print, and one clear line for what goes wrong."""

from __future__ import annotations

import hashlib
import json
import ssl
from pathlib import Path

import pytest

from cloud_sync.cli_options import EXIT_CONFIG
from tests.unit.cloud_sync.test_cli import data as data  # noqa: PLC0414 - a fixture
from tests.unit.cloud_sync.test_cli import fails, run
from wire.join import JoinToken


def created(data: Path, *options: object) -> JoinToken:
    result = run("token", "create", "--data", data, *options)
    assert result.exit_code == 0, result.output
    return JoinToken.parse(result.stdout)


def listed(data: Path, what: str, name: str) -> list[dict[str, object]]:
    document = json.loads(run(what, "list", "--data", data, "--json").stdout)
    assert document["schema_version"] == 1
    found: list[dict[str, object]] = document[name]
    return found


def test_a_token_names_the_ca_and_the_clouds_first_name(data: Path) -> None:
    token = created(data, "--label", "site=oslo", "--uses", 3)
    der = ssl.PEM_cert_to_DER_cert((data / "pki/ca.pem").read_text())
    assert token.ca_sha256 == hashlib.sha256(der).digest()
    assert token.address == "cloud.example:8444"
    assert created(data, "--address", "[::1]:1").address == "[::1]:1"
    (data / "run").mkdir()
    (data / "run/addresses.json").write_text('{"enrol": "0.0.0.0:4711"}')
    assert created(data).address == "cloud.example:4711"
    document = json.loads(run("token", "create", "--data", data, "--json").stdout)
    assert JoinToken.parse(document["token"]).id == document["id"]


def test_secrets_are_nowhere(data: Path) -> None:
    token = created(data)
    rows = run("token", "list", "--data", data).output + run("audit", "--data", data).output
    assert token.id in rows
    assert token.secret not in rows
    assert all(token.secret.encode() not in path.read_bytes() for path in data.rglob("*") if path.is_file())


def test_revoking_a_token(data: Path) -> None:
    token = created(data)
    assert run("token", "revoke", token.id, "--data", data).exit_code == 0
    assert [row["state"] for row in listed(data, "token", "tokens")] == ["revoked"]
    assert "no token 'nosuch'" in fails(1, "token", "revoke", "nosuch", "--data", data)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ttl", "soon"], "--ttl 'soon' is no duration"),
        (["--ttl", "366d"], "outside 1s to 365d"),
        (["--gateway", "Not An Id"], "--gateway: gateway id"),
        (["--gateway", "a", "--uses", "2"], "one id is one device"),
        (["--label", "oslo"], "is not NAME=VALUE"),
        (["--address", "host:0"], "--address: 'host:0' is not HOST:PORT"),
        (["--config", "/no/such.toml"], "--config /no/such.toml"),
    ],
)
def test_options_that_cannot_be(data: Path, options: list[str], words: str) -> None:
    assert words in fails(EXIT_CONFIG, "token", "create", "--data", data, *options)
    assert listed(data, "token", "tokens") == []


def test_a_first_configuration_must_be_toml(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "first.toml"
    file.write_text("[[sensor")
    assert "edge-agent config check" in fails(EXIT_CONFIG, "token", "create", "--data", data, "--config", file)
    file.write_text("# " + "x" * 40_000)
    assert "over 32768 bytes" in fails(EXIT_CONFIG, "token", "create", "--data", data, "--config", file)


def test_gateways(data: Path, tmp_path: Path) -> None:
    assert "no gateway has joined" in run("gateway", "list", "--data", data).output
    assert run("cert", "issue", "gw-a", "--data", data, "--out", tmp_path / "keys").exit_code == 0
    assert [(row["id"], row["state"]) for row in listed(data, "gateway", "gateways")] == [("gw-a", "active")]
    assert "is revoked" in run("gateway", "revoke", "gw-a", "--reason", "lost", "--data", data).output
    (row,) = listed(data, "gateway", "gateways")
    assert (row["state"], row["reason"]) == ("revoked", "lost")
    assert "gw-a" in run("gateway", "list", "--data", data).output
    assert "cloud-sync gateway list" in fails(1, "gateway", "revoke", "nosuch", "--data", data)
    assert "cloud-sync gateway list" in fails(1, "gateway", "approve", "nosuch", "--data", data)
    assert "cloud-sync init" in fails(EXIT_CONFIG, "gateway", "list", "--data", tmp_path)
    actions = [row["action"] for row in json.loads(run("audit", "--data", data, "--json").stdout)["changes"]]
    assert actions == ["gateway.revoke", "gateway.issue", "link.create", "cloud.init"]


def test_a_changed_audit_is_told(data: Path) -> None:
    import sqlite3
    from contextlib import closing

    created(data)
    created(data)
    with closing(sqlite3.connect(data / "catalog.sqlite")) as connection, connection:
        connection.execute("DROP TRIGGER audit_no_update")
        connection.execute("UPDATE audit SET actor = 'nobody' WHERE id = 1")
    result = run("audit", "--data", data)
    assert result.exit_code == 1
    assert "audit row 1 is not as it was written" in result.stderr
