"""Slots cut at every step, and a release's first minutes in the agent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import ota
from benchmarks.disk_steps import Steps
from edge_agent.ota.client import TufClient
from edge_agent.ota.errors import OtaError, StorageFailed
from edge_agent.ota.folder import METADATA, TARGETS, FolderFetcher
from edge_agent.ota.gates import Verdict
from edge_agent.ota.installer import Installer
from edge_agent.ota.probation import Probation
from edge_agent.ota.records import Stage
from edge_agent.ota.slots import PROBATION_S, Slots
from tests.unit.edge_agent.ota.releases import Gateway, write_model
from wire.assignment import Assigned, Mark
from wire.clock import SystemClock
from wire.release import release_target


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """Release 1 is committed, release 2 on probation."""
    gateway = Gateway(tmp_path)
    for version in (1, 2):
        gateway.publish(write_model(tmp_path / f"v{version}", version))
        assert gateway.install().reason == ""
        if version == 1:
            gateway.slots.commit("toy")
    return gateway


def install(device: Path, site: ota.Site, target: str) -> None:
    """As the process does that installs what was assigned, without the trial: it changes nothing on the disk."""
    clock = SystemClock()
    slots = Slots(device, clock)
    client = TufClient(device / "ota/metadata", METADATA, TARGETS, FolderFetcher(site.folder), clock)
    client.init(site.root)
    client.refresh()
    counter = int(target.split("/")[2])
    document = client.find(release_target(ota.FAMILY, counter))
    with slots.changing():
        slots.remember(Mark(counter, "digest"))
    assigned = Assigned(ota.FAMILY, counter, document.hashes["sha256"], document.length)
    outcome = Installer(client, slots, trial=lambda *_: Verdict("", "")).install_assigned(assigned)
    if outcome.reason not in {"", "active"}:
        raise OtaError(outcome.text, outcome.reason)
    assert slots.mark().counter == counter
    if problems := slots.begin():
        raise OtaError(problems[0], "damaged")


class SlotMatrix(ota.Matrix):
    """What runs is what the link leads to."""

    @staticmethod
    def _model(device: Path) -> bytes:
        found = list((device / "models" / ota.FAMILY).glob("*/model.onnx"))
        return found[0].read_bytes() if found else b""


@pytest.mark.parametrize(
    ("case", "every"),
    [pytest.param(case, 1, marks=[pytest.mark.nightly, pytest.mark.timeout(600)]) for case in ota.CASES]
    + [(case, 7) for case in ota.CASES],
)
def test_row_18_and_19_an_installation_cut_at_any_step(tmp_path: Path, case: str, every: int) -> None:
    before, after = ota.sites(tmp_path / "sites")
    client = ota.Client("installer", install, ota.clients()[0].errors)
    count = SlotMatrix(client, before, after, tmp_path / "devices").run(case, every)
    assert count.states >= 60 // every
    assert (count.dead, count.torn) == (0, 0)


def test_a_release_that_works_stays(gateway: Gateway) -> None:
    probation = Probation(gateway.slots, gateway.clock)
    probation.begin()
    assert not probation.look([("toy", "")])
    gateway.clock.sleep(PROBATION_S - 1)
    assert not probation.look([("toy", "")])
    assert gateway.slots.record("toy").stage is Stage.PROBATION
    gateway.clock.sleep(1)
    assert not probation.look([("toy", "")])
    record = gateway.slots.record("toy")
    assert (record.stage, record.counter, record.attempts) == (Stage.COMMITTED, 2, 0)
    assert not probation.look([("toy", "stopped much later")])
    assert gateway.active() == "2"


def test_row_21_a_release_that_stops_goes_back(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    probation = Probation(gateway.slots, gateway.clock)
    probation.begin()
    assert not probation.look([("toy", ""), ("other", "has stopped")])
    assert probation.look([("toy", ""), ("toy", "output is not finite")])
    assert gateway.active() == "1"
    record = gateway.slots.record("toy")
    assert record.active is not None
    assert (record.active.name, record.events[-1].reason) == ("toy/1", "stopped")
    assert "toy/2 went back to toy/1: output is not finite" in caplog.text
    assert gateway.install().reason == "quarantined"


def test_a_model_that_does_not_run_here_is_not_judged(gateway: Gateway) -> None:
    probation = Probation(gateway.slots, gateway.clock)
    gateway.clock.sleep(PROBATION_S * 2)
    assert not probation.look([])
    assert gateway.slots.record("toy").stage is Stage.PROBATION


def test_a_disk_that_refuses_is_told_once(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    probation = Probation(gateway.slots, gateway.clock)
    steps = Steps(gateway.state, 28, 0)
    with steps.watching():
        for _ in range(3):
            assert not probation.look([("toy", "stopped")])
    assert caplog.text.count("cannot be looked after") == 1
    assert gateway.active() == "2"
    assert probation.look([("toy", "stopped")])
    assert gateway.active() == "1"


def test_a_folder_that_was_put_there_by_hand_is_left_alone(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    write_model(gateway.state / "models", 7)
    gateway.publish(write_model(tmp_path / "v1"))
    outcome = gateway.install()
    assert outcome.reason == "hand_made"
    assert "mv " in outcome.text
    assert (gateway.state / "models/toy/7/model.onnx").exists()


def test_the_link_is_believed(gateway: Gateway) -> None:
    """A crash between swap and record, a link that somebody set, a record that is damaged."""
    record = gateway.slots.record("toy")
    assert record.previous is not None
    link = gateway.state / "models/toy"
    link.unlink()
    link.symlink_to(f"../ota/releases/{record.previous.sha256}/toy")
    assert gateway.slots.record("toy").active == record.previous
    link.unlink()
    assert gateway.slots.record("toy").active is None
    link.symlink_to(f"../ota/releases/{record.previous.sha256}/toy")
    (gateway.state / "ota/slots/toy.json").write_bytes(b"{")
    found = gateway.slots.record("toy")
    assert found.active == record.previous
    assert found.events[-1].reason == "record_damaged"


def test_old_releases_are_swept(gateway: Gateway, tmp_path: Path) -> None:
    for version in (3, 4):
        gateway.publish(write_model(tmp_path / f"v{version}", version))
        assert gateway.install().reason == ""
    assert len(list((gateway.state / "ota/releases").iterdir())) == 2


def test_a_read_only_disk(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(gateway.state, 30, 0)
    with steps.watching(), pytest.raises(StorageFailed, match=os.strerror(30)):
        gateway.slots.roll_back("toy", "asked")
    assert gateway.active() == "2"
