"""The promise of the update client: cut at any step, it is neither dead nor torn (rows 18 and 19 of the faults)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from benchmarks import ota
from benchmarks.disk_steps import PowerCut, Steps
from edge_agent.ota import durable


def test_row_18_and_19_every_step_of_an_update_may_fail() -> None:
    ours = ota.clients()[0]
    report = ota.measure([ours])
    assert report.value("kill matrix", "states") >= 150
    assert report.value("kill matrix", "dead_states") == 0
    assert report.value("kill matrix", "torn_states") == 0


def test_the_matrix_finds_what_is_wrong_with_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ota, "CASES", ("SIGKILL", "zeroed"))
    report = ota.measure(ota.clients()[1:2])
    name = ota.clients()[1].name
    assert report.value("SIGKILL", "dead_states", name) > 0
    assert report.value("SIGKILL", "torn_states", name) > 0
    assert report.value("zeroed", "dead_states", name) > 0


def test_the_matrix_sees_a_missing_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the file: names without bytes. Without the root that came with the agent this would be a dead gateway."""

    def no_sync(self: durable.Growing, *_: object) -> None:
        os.close(self._descriptor)

    monkeypatch.setattr(durable.Growing, "__exit__", no_sync)
    monkeypatch.setattr(ota, "CASES", ("zeroed",))
    assert ota.measure(ota.clients()[:1]).value("kill matrix", "torn_states") > 0


def test_a_power_cut_keeps_what_was_fsynced(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    (root / "old").write_bytes(b"old")
    steps, disk = Steps(root), PowerCut(root)
    with steps.watching():
        durable.write_durable(root / "old", b"new")
        with open(root / "loose", "wb") as file:
            file.write(b"x" * 10)
        os.rename(root / "loose", root / "moved")
    for step in steps.done:
        disk.take(step)
    seen = {}
    for kind in ("nothing", "names"):
        disk.write(kind, root, tmp_path / kind)
        seen[kind] = {path.name: path.read_bytes() for path in (tmp_path / kind).iterdir()}
    assert seen == {"nothing": {"old": b"new"}, "names": {"old": b"new", "moved": b""}}
    assert [step.what for step in steps.done] == [
        "create", "truncate", "write", "fsync", "rename", "fsync", "create", "write", "rename",
    ]  # fmt: skip


def test_faults_come_where_they_are_told(tmp_path: Path) -> None:
    for fault, later in ((errno.ENOSPC, "refused"), (errno.EIO, "done")):
        steps = Steps(tmp_path, fault, 1)
        with steps.watching():
            descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
            with pytest.raises(OSError, match=os.strerror(fault)):
                os.write(descriptor, b"x")
            try:
                os.write(descriptor, b"x")
                outcome = "done"
            except OSError:
                outcome = "refused"
            os.close(descriptor)
            os.unlink(tmp_path / "file")
        assert outcome == later
