"""One real fault after another; each is found under its id, and what comes after it is skipped with the reason."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from cloud_sync.auth.ca import PkiFiles
from edge_agent.doctor import cloud as cloud_checks
from edge_agent.doctor.examination import IDS
from edge_agent.doctor.finding import Result
from edge_agent.outbox.database import PAGE_BYTES, SUSPECT, VERSION
from edge_agent.sync import credentials
from tests.unit.edge_agent.detect import toys
from tests.unit.edge_agent.doctor.parts import Patient, assert_found, listening, of_another_ca
from tests.unit.edge_agent.outbox.parts import Gateway, Hands, noise, series_set
from wire.clock import SyncState, SystemClock

OTHER = "nobody"  # a user that owns nothing here
NOW_S = SystemClock().wall_ns() / 1e9
DAY_S = 86_400
MODELS = Path(__file__).parents[4] / "models"
MODEL = '[[model]]\nid = "watch"\nname = "{name}"\nfolder = "models"\ninputs = ["oven"]\n'


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is silent here stays silent: waiting longer finds nothing else."""
    monkeypatch.setattr(credentials, "PROBE_S_MAX", 0.5)


def filled(patient: Patient, commits: int = 40, ticks: int = 10) -> Path:
    """An outbox with a backlog, closed."""
    gateway = Gateway(patient.folder)
    recorder = gateway.start(SET)
    for at in range(commits):
        recorder.take(noise(SET, ticks, at))
        recorder.commit()
    recorder.close()
    gateway.recorder = None
    Gateway.running.discard(gateway)
    return gateway.database


SET = series_set(20)


def test_without_faults_nothing_is_found(patient: Patient) -> None:
    patient.issue()
    filled(patient)
    found = [each for each in patient.examine().findings if each.result not in (Result.OK, Result.SKIPPED)]
    assert [(each.id, each.result) for each in found] == [
        ("agent.running", Result.WARNING),
        ("cloud.joined", Result.WARNING),
    ]


def test_each_check_has_one_place(patient: Patient) -> None:
    given = [each.id for each in patient.examine().findings]
    assert sorted(given) == sorted(IDS)


def test_a_wrong_configuration_leaves_the_rest_untold(patient: Patient) -> None:
    patient.write("[clod]\n")
    examination = patient.examine()
    found = {each.id: each for each in examination.findings}
    assert_found(found["config.valid"], 'unknown table "clod"')
    assert str(patient.file) in found["config.valid"].fix
    assert found["cloud.tls"].result is Result.SKIPPED
    assert found["clock.year"].result is Result.OK
    assert sorted(found) == sorted(IDS)
    assert examination.result is Result.FAILED


def test_a_state_directory_that_is_a_file(patient: Patient) -> None:
    patient.state.rmdir()
    patient.state.write_text("")
    assert_found(patient.find("state.directory"), "is no directory")
    assert patient.find("state.space").result is Result.SKIPPED


def test_a_state_directory_that_is_not_there_yet(patient: Patient) -> None:
    patient.state.rmdir()
    assert_found(patient.find("state.directory"), "first start", result=Result.WARNING)


def test_directories_of_another_owner(patient: Patient) -> None:
    assert_found(patient.find("state.owner", OTHER), f"runs as {OTHER}")
    assert_found(patient.find("state.writable", OTHER), "may not write")
    assert_found(patient.find("state.runtime", OTHER), "may not write")
    patient.state.rmdir()
    assert_found(patient.find("state.directory", OTHER), "may not make it")


def test_a_budget_that_the_disk_does_not_hold(patient: Patient) -> None:
    patient.write(buffer='[buffer]\nmax_size = "1000000 GB"\n')
    assert_found(patient.find("state.space"), "full before", result=Result.WARNING)


def test_a_clock_at_1970(patient: Patient) -> None:
    patient.issue()
    patient.reaches("127.0.0.1:9")
    patient.clock = Hands(wall_s=60)
    assert_found(patient.find("clock.year"), "1970")
    assert patient.find("certificate.validity").result is Result.SKIPPED


def test_a_clock_that_nobody_sets(patient: Patient) -> None:
    patient.clock.state = SyncState(synchronised=False, uncertainty_us=0)
    assert_found(patient.find("clock.synchronised"), result=Result.WARNING)


def test_a_bus_without_a_node(patient: Patient) -> None:
    patient.write('[bus.i2c-99]\nkind = "i2c"\n')
    assert_found(patient.find("bus.device"), "/dev/i2c-99 is not there")
    assert patient.find("bus.access").result is Result.SKIPPED
    assert patient.find("bus.device").subject == "i2c-99"


def test_a_bus_that_is_no_device(patient: Patient) -> None:
    patient.write(f'[bus.rs485]\nkind = "serial"\nport = "{patient.file}"\n')
    assert_found(patient.find("bus.device"), "is no device")


def test_a_bus_that_the_account_may_not_open(patient: Patient) -> None:
    ours, theirs = os.openpty()
    try:
        patient.write(f'[bus.rs485]\nkind = "serial"\nport = "{os.ttyname(theirs)}"\n')
        assert patient.find("bus.access").result is Result.OK
        assert_found(patient.find("bus.access", OTHER), f"{OTHER} may not open")
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_name_without_an_address(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_checks, "DNS_S_MAX", 1.0)
    patient.reaches("cloud.invalid:8443")
    assert_found(patient.find("cloud.dns"), "cloud.invalid")
    assert [patient.find(f"cloud.{step}").result for step in ("tcp", "tls", "mtls")] == [Result.SKIPPED] * 3


def test_a_port_where_nobody_listens(patient: Patient) -> None:
    patient.reaches("127.0.0.1:9")
    assert_found(patient.find("cloud.tcp"), "refused")
    assert patient.find("cloud.tls").result is Result.SKIPPED


def test_a_listener_that_is_silent(patient: Patient) -> None:
    patient.issue()
    with listening(None) as address:
        patient.reaches(address)
        found = {each.id: each for each in patient.examine().findings}
    assert found["cloud.tcp"].result is Result.OK
    assert_found(found["cloud.tls"], "speaks no TLS")
    assert found["cloud.mtls"].result is Result.SKIPPED


def test_a_server_of_another_ca(patient: Patient) -> None:
    patient.issue()
    with listening(of_another_ca(patient.folder / "other")) as address:
        patient.reaches(address)
        found = {each.id: each for each in patient.examine().findings}
    assert_found(found["cloud.tls"], "no certificate of")
    assert found["cloud.mtls"].result is Result.SKIPPED


def test_an_expired_certificate(patient: Patient) -> None:
    patient.issue(days=30, clock=Hands(wall_s=NOW_S - 40 * DAY_S))
    patient.reaches("127.0.0.1:9")
    assert_found(patient.find("certificate.validity"), "ended on")
    assert patient.find("certificate.renewal").result is Result.SKIPPED


def test_a_certificate_of_the_future(patient: Patient) -> None:
    patient.issue(clock=Hands(wall_s=NOW_S + 40 * DAY_S))
    patient.reaches("127.0.0.1:9")
    assert_found(patient.find("certificate.validity"), "only from")


def test_a_renewal_that_did_not_come(patient: Patient) -> None:
    patient.issue(days=90, clock=Hands(wall_s=NOW_S - 80 * DAY_S))
    patient.reaches("127.0.0.1:9")
    assert_found(patient.find("certificate.renewal"), "is due since", "ends in", result=Result.WARNING)
    assert patient.find("certificate.validity").result is Result.OK


def test_a_key_of_another_certificate(patient: Patient) -> None:
    patient.issue()
    other = Patient.__new__(Patient)
    other.folder, other.keys = patient.folder / "second", patient.folder / "second-keys"
    other.issue()
    shutil.copy(other.keys / "key.pem", patient.keys / "key.pem")
    patient.reaches("127.0.0.1:9")
    assert_found(patient.find("certificate.key"), "are no certificate and its key")
    assert patient.find("certificate.chain").result is Result.SKIPPED


def test_a_certificate_of_another_ca(patient: Patient) -> None:
    patient.issue()
    of_another_ca(patient.folder / "other")
    shutil.copy(PkiFiles(patient.folder / "other").ca, patient.keys / "ca.pem")
    patient.reaches("127.0.0.1:9")
    assert_found(patient.find("certificate.chain"), "is not of the CA")


def test_a_key_that_others_may_read(patient: Patient) -> None:
    patient.issue()
    (patient.keys / "key.pem").chmod(0o644)
    patient.reaches("127.0.0.1:9")
    assert_found(patient.find("certificate.permissions"), "0644")


def test_a_key_that_is_gone(patient: Patient) -> None:
    patient.issue()
    (patient.keys / "key.pem").unlink()
    patient.reaches("127.0.0.1:9")
    assert_found(patient.find("certificate.files"), "key.pem is not there")


def test_a_damaged_page(patient: Patient) -> None:
    database = filled(patient)
    data = bytearray(database.read_bytes())
    data[4 * PAGE_BYTES : 5 * PAGE_BYTES] = os.urandom(PAGE_BYTES)
    database.write_bytes(data)
    assert_found(patient.find("buffer.integrity"), str(database))
    assert database.read_bytes() == data


def test_a_page_that_was_met_damaged(patient: Patient) -> None:
    filled(patient).with_name(SUSPECT).touch()
    assert_found(patient.find("buffer.integrity"), "a damaged page was met")


def test_an_outbox_of_a_newer_version(patient: Patient) -> None:
    database = filled(patient)
    with sqlite3.connect(database) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    assert_found(patient.find("buffer.integrity"), "schema version")


def test_what_is_left_of_earlier_damage(patient: Patient) -> None:
    database = filled(patient)
    database.with_name("outbox.db.corrupt").touch()
    assert_found(patient.find("buffer.salvaged"), "was damaged", result=Result.WARNING)


def test_an_outbox_that_is_full(patient: Patient) -> None:
    patient.write(buffer='[buffer]\nmax_size = "8 MB"\n')
    filled(patient, 70, 300)
    assert_found(patient.find("buffer.trend"), "of 8 MB are taken")


def test_looking_changes_no_file_of_the_state_directory(patient: Patient) -> None:
    filled(patient)
    before = {each.name: (each.stat().st_mtime_ns, each.read_bytes()) for each in patient.state.iterdir()}
    patient.examine()
    assert {each.name: (each.stat().st_mtime_ns, each.read_bytes()) for each in patient.state.iterdir()} == before


def test_a_model_that_is_not_installed(patient: Patient) -> None:
    (patient.folder / "models").mkdir()
    patient.write(MODEL.format(name="value-novelty"))
    assert_found(patient.find("model.installed"), "value-novelty")
    assert patient.find("model.fits").result is Result.SKIPPED


def test_a_damaged_model(patient: Patient) -> None:
    shutil.copytree(MODELS, patient.folder / "models")
    onnx = patient.folder / "models/value-novelty/1/model.onnx"
    onnx.write_bytes(onnx.read_bytes()[:-1] + b"\0")
    patient.write(MODEL.format(name="value-novelty"))
    assert_found(patient.find("model.valid"), "sha256")


def test_a_model_for_other_intervals(patient: Patient) -> None:
    toys.write(patient.folder / "models")
    patient.write(MODEL.format(name="toy"), agent='interval = "5m"')
    assert_found(patient.find("model.valid"), "golden")
    assert_found(patient.find("model.fits"), "intervals of 0.01 to 60 s")


def test_no_secret_is_told(patient: Patient) -> None:
    patient.issue()
    (patient.keys / "cert.pem").write_text("nonsense")
    patient.reaches("operator:hunter2@127.0.0.1:9")
    told = json.dumps([(each.text, each.fix) for each in patient.examine().findings])
    assert "hunter2" not in told
    assert not any(line in told for line in (patient.keys / "key.pem").read_text().splitlines() if len(line) > 30)
