"""`edge-agent doctor` beside a real agent and a real cloud: nothing false, and what only they can show."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.footprint import cloud
from edge_agent.doctor.examination import IDS
from edge_agent.doctor.models import SWITCHES
from tests.unit.edge_agent.doctor.parts import Patient
from tests.unit.edge_agent.test_agent import ROOT, call, end, running, status
from wire.clock import SystemClock

pytestmark = pytest.mark.system

MODEL = '[[model]]\nid = "watch"\nname = "value-novelty"\ninputs = ["oven"]\n'
PAGE = ROOT / "docs/operating/doctor.md"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("cloud")
    with cloud(folder) as address:
        yield address, folder / "keys"


@pytest.fixture
def patient(tmp_path: Path, served: tuple[str, Path]) -> Patient:
    made = Patient(tmp_path)
    shutil.copytree(served[1], made.keys)
    made.reaches(served[0], MODEL)
    return made


def doctor(patient: Patient, *arguments: str, **environment: str) -> tuple[int, dict[str, Any]]:
    done = call("doctor", "--json", "-c", str(patient.file), *arguments, **environment)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def wrong(document: dict[str, Any]) -> dict[str, str]:
    """What is not well, by id. That nobody sets this machine's clock is no fault of ours, and true."""
    true = {"ok", "skipped"} | ({"warning"} if not SystemClock().sync_state().synchronised else set())
    return {
        each["id"]: each["text"]
        for each in document["checks"]
        if each["result"] not in (true if each["id"] == "clock.synchronised" else ("ok", "skipped"))
    }


def wait_until_well(patient: Patient) -> None:
    deadline = time.monotonic() + 30
    while (document := status(patient.file))["health"] != "healthy" or not document["sync"]["connected"]:
        assert time.monotonic() < deadline, document["reasons"]
        time.sleep(0.1)


def test_a_clean_system_has_no_finding(patient: Patient) -> None:
    with running(patient.file) as agent:
        wait_until_well(patient)
        code, document = doctor(patient)
        human = call("doctor", "-c", str(patient.file))
        end(agent)
    assert wrong(document) == {}
    assert code == human.returncode == 0
    skipped = {each["id"] for each in document["checks"] if each["result"] == "skipped"}
    assert skipped <= {"bus.device", "bus.access", "unit.hardening"}
    assert document["schema_version"] == 1
    assert set(document) == {"schema_version", "result", "counts", "version", "config", "account", "checks"}
    assert all(set(each) == {"id", "result", "text", "fix", "subject"} for each in document["checks"])
    assert "\x1b" not in human.stdout
    assert all(each in human.stdout for each in IDS)


def test_a_certificate_that_the_cloud_does_not_take(patient: Patient, tmp_path: Path) -> None:
    stranger = Patient.__new__(Patient)
    stranger.folder, stranger.keys = tmp_path / "stranger", tmp_path / "stranger-keys"
    stranger.issue()
    for name in ("cert.pem", "key.pem"):
        shutil.copy(stranger.keys / name, patient.keys / name)
    code, document = doctor(patient)
    found = wrong(document)
    assert code == 1
    assert set(found) == {"agent.running", "cloud.mtls", "certificate.chain"}
    assert "refuses" in found["cloud.mtls"]


def test_an_agent_that_is_not_well(patient: Patient) -> None:
    patient.reaches("127.0.0.1:9")
    with running(patient.file) as agent:
        deadline = time.monotonic() + 30
        while status(patient.file)["health"] == "healthy":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        code, document = doctor(patient)
        end(agent)
    assert code == 1
    assert set(wrong(document)) == {"agent.healthy", "cloud.tcp"}


def test_a_runtime_that_came_before_its_switches(patient: Patient) -> None:
    code = "import onnxruntime; from edge_agent.cli import main; main()"
    clean = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    command = [sys.executable, "-c", code, "doctor", "--json", "-c", str(patient.file)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean, cwd=ROOT, timeout=60, check=False)
    assert "telemetry.off" in wrong(json.loads(done.stdout))


def test_a_user_that_is_not_there_is_wrong_use(patient: Patient) -> None:
    done = call("doctor", "--user", "no-such-user", "-c", str(patient.file))
    assert done.returncode == 2
    assert 'there is no user "no-such-user"' in done.stderr


def test_every_check_is_documented() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [each for each in IDS if f"`{each}`" not in page] == []
