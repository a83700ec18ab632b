"""Offline keys on a PKCS#11 token: SoftHSM as the token, the ceremony and a gateway as they are."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from cloud_sync.rollout.repository import Repository
from cloud_sync.storage.local_store import LocalStore
from tests.unit.cloud_sync.test_ota_cli import place as place  # noqa: PLC0414 - a fixture
from tests.unit.cloud_sync.test_ota_cli import run

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "1234"
pkcs11 = pytest.importorskip("pkcs11", reason="the extra hsm is not installed")
pytestmark = pytest.mark.skipif(
    not MODULE.exists() or not shutil.which("softhsm2-util"), reason="softhsm2 is not installed"
)


@pytest.fixture
def token(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An initialised token with a P-256 key under id 1; its label."""
    folder = place / "tokens"
    folder.mkdir()
    config = place / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {folder}\nobjectstore.backend = file\nlog.level = ERROR\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(config))
    monkeypatch.setenv("EDGE_OTA_PIN", PIN)
    label = "root-1"
    make = ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "5678", "--pin", PIN]
    subprocess.run(make, check=True, capture_output=True)
    library = pkcs11.lib(str(MODULE))
    library.reinitialize()
    with library.get_token(token_label=label).open(user_pin=PIN, rw=True) as session:
        from pkcs11.util.ec import encode_named_curve_parameters

        curve = session.create_domain_parameters(
            pkcs11.KeyType.EC,
            {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")},
            local=True,
        )
        curve.generate_keypair(store=True, id=b"\x01", label="ota")
    return label


def test_a_root_key_on_a_token_signs_with_the_others(token: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = run(f"edge-ota key token root --keys keys --module {MODULE} --id 1 --label {token}")
    assert told.stdout == f"keys/root-1.key: key 1 on {token}\n"
    written = (place / "keys/root-1.key").read_text()
    assert json.loads(written)["kind"] == "tidegate-token-1"
    run("edge-ota key init --keys keys --data data --family value-novelty --threshold 2 --of 2")
    root = Repository(LocalStore(place / "data/objects")).root()
    assert json.loads(written)["keyid"] in root.signed.roles["root"].keyids
    run("edge-ota model push models/value-novelty/1 --keys keys --data data")
    assert run("edge-ota model verify --root keys/root.json --data data").stdout == "good\n"
    run("edge-ota key rotate timestamp --keys keys --data data")
    run("edge-ota export --usb stick --data data")
    run("python -m edge_agent.ota --metadata-dir trusted init keys/root.json")
    run("python -m edge_agent.ota --metadata-dir trusted --folder stick refresh")
    monkeypatch.setenv("EDGE_OTA_PIN", "0000")
    refused = run("edge-ota key rotate timestamp --keys keys --data data", 1).stderr
    assert "keys/root-1.key: the token does not sign" in refused
    monkeypatch.delenv("EDGE_OTA_PIN")
    assert "a PIN is needed" in run("edge-ota key rotate timestamp --keys keys --data data", 1).stderr


def test_what_is_not_there_is_told(token: str, place: Path) -> None:
    base = f"edge-ota key token root --keys keys --label {token}"
    assert "Try: pkcs11-tool" in run(f"{base} --module {MODULE} --id 7", 1).stderr
    assert "nowhere.so" in run(f"{base} --module nowhere.so --id 1", 1).stderr
    assert not (place / "keys/root-1.key").exists()


def test_a_damaged_file_is_no_key(token: str, place: Path) -> None:
    run(f"edge-ota key token root --keys keys --module {MODULE} --id 1 --label {token}")
    file = place / "keys/root-1.key"
    file.write_text(json.dumps({**json.loads(file.read_text()), "uri": "file:/etc/passwd"}))
    assert "is no key file" in run("edge-ota key init --keys keys --data data --threshold 1 --of 1", 1).stderr
