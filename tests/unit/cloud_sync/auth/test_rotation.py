"""Replacing the CA: what each step leaves, also one that was cut short, and what it refuses."""

from __future__ import annotations

import ssl
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from cloud_sync.auth import rotation
from cloud_sync.auth.authority import Authority
from cloud_sync.auth.ca import PkiFiles, create_ca, issue_gateway, read_certificate
from cloud_sync.auth.rotation import Standing, Step, behind, introduce, retire, standing, switch
from cloud_sync.errors import ConfigInvalid
from wire.durable import replace_file

NOW = datetime.now(UTC)
STEPS: list[tuple[Callable[[PkiFiles], Standing], Step]] = [
    (introduce, Step.INTRODUCED),
    (switch, Step.SWITCHED),
    (retire, Step.SETTLED),
]


@pytest.fixture
def files(tmp_path: Path) -> PkiFiles:
    files = PkiFiles(tmp_path / "pki")
    files.folder.mkdir()
    create_ca(files, ["cloud.example"])
    return files


def server_is_of(files: PkiFiles, ca: x509.Certificate) -> bool:
    try:
        x509.load_pem_x509_certificate(files.server.read_bytes()).verify_directly_issued_by(ca)
    except ValueError:
        return False
    return True


def test_the_steps(files: PkiFiles) -> None:
    names = read_certificate(files.server).names
    first = standing(files)
    before = issue_gateway(files, "gw-before", NOW, 90).issued.pem
    assert (first.step, first.old) == (Step.SETTLED, first.new)
    introduced = introduce(files)
    assert (introduced.step, introduced.old) == (Step.INTRODUCED, first.old)
    assert introduced.new.subject != introduced.old.subject, "OpenSSL looks an issuer up by its name"
    assert behind(introduced, {"gw": issue_gateway(files, "gw", NOW, 90).issued.pem}) == ["gw"]
    switched = switch(files)
    assert (switched.step, switched.trusted) == (Step.SWITCHED, introduced.trusted)
    after = issue_gateway(files, "gw-after", NOW, 90).issued.pem
    assert behind(switched, {"before": before, "after": after}) == ["before"]
    assert server_is_of(files, switched.old)
    retired = retire(files)
    assert (retired.step, retired.trusted) == (Step.SETTLED, (switched.new,))
    assert server_is_of(files, retired.new)
    assert read_certificate(files.server).names == names
    assert behind(retired, {"before": before, "after": after}) == ["before"]
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.server, files.server_key)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (files.ca_key, files.server_key)} == {0o600}
    assert sorted(path.name for path in files.folder.iterdir()) == ["ca.key", "ca.pem", "server.key", "server.pem"]


def test_a_new_key_is_for_its_owner_only(files: PkiFiles) -> None:
    introduce(files)
    assert stat.S_IMODE(files.next_key.stat().st_mode) == 0o600


@pytest.mark.parametrize("renames", range(5))
def test_a_step_that_was_cut_short_is_ended_by_doing_it_again(
    files: PkiFiles, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """After any number of the files that it replaces, the service has a CA and its key, and the step can be done."""

    class Cut(Exception):
        pass

    for step, then in STEPS:
        left = renames

        def cutting(path: Path, data: bytes, mode: int) -> None:
            nonlocal left
            if not left:
                raise Cut
            left -= 1
            replace_file(path, data, mode)

        with monkeypatch.context() as patch:
            patch.setattr(rotation, "replace_file", cutting)
            try:
                step(files)
            except Cut:
                Authority.load(files.ca, files.ca_key)
        if standing(files).step is not then:
            step(files)
        assert standing(files).step is then


@pytest.mark.parametrize("done", range(3))
def test_steps_out_of_order(files: PkiFiles, done: int) -> None:
    for step, _ in STEPS[:done]:
        step(files)
    for step, _ in (each for number, each in enumerate(STEPS) if number != done):
        with pytest.raises(ConfigInvalid, match=f"Try: cloud-sync ca {STEPS[done][0].__name__}"):
            step(files)


def test_files_that_do_not_belong_together(files: PkiFiles, tmp_path: Path) -> None:
    other = PkiFiles(tmp_path / "other")
    other.folder.mkdir()
    create_ca(other, [])
    introduce(files)
    files.next_key.write_bytes(other.ca_key.read_bytes())
    with pytest.raises(ConfigInvalid, match="not the new CA's key"):
        switch(files)
    files.ca_key.write_bytes(other.ca_key.read_bytes())
    with pytest.raises(ConfigInvalid, match="not as the steps"):
        standing(files)
    with pytest.raises(ConfigInvalid, match="is the key of no CA in"):
        Authority.load(files.ca, files.ca_key)
    files.ca_key.unlink()
    with pytest.raises(ConfigInvalid, match=r"ca\.key cannot be read"):
        standing(files)
