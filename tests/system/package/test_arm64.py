"""The package for Raspberry Pis under emulation: its agent starts, and scores as the one for PCs does."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.config.load import load
from edge_agent.detect.assembly import Grid, assemble
from tests.system.package.plant import build
from tests.system.test_detection import kept, rules_told
from wire.clock import boot_id
from wire.series import content_id

pytestmark = [pytest.mark.system, pytest.mark.nightly, pytest.mark.timeout(1800)]

TOOLS = {"qemu-aarch64-static": "qemu-user-static", "mmdebstrap": "mmdebstrap", "arch-test": "arch-test"}
BINFMT = Path("/proc/sys/fs/binfmt_misc")
RULE = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")  # of qemu-user-static, binfmt.d(5)
PACKAGES = "python3,libstdc++6,tzdata,dash,coreutils"
START_S_MAX = 900.0  # emulation is some 35 times slower
STEPS_APART_MAX = 1  # of a score's code: the last bits of float32 differ between the two kinds of machine

CONFIG = """\
[agent]
name = "emulated"
interval = "100ms"
state_dir = "/var/lib/edge-agent"
runtime_dir = "/run/edge-agent"

[[sensor]]
id = "oven"
driver = "csv-replay"
path = "oven.csv"
loop = true
columns = [{ name = "heat", unit = "Cel", resolution = 0.01 }]

[[model]]
id = "odd"
name = "value-novelty"
inputs = ["oven"]
calibration = 104
"""


def missing() -> str | None:
    """Why nothing can be emulated here, or None."""
    if os.geteuid() != 0:
        return "a root file system of another machine needs root"
    tools = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    return f"not installed. Try: apt-get install {' '.join(tools)}" if tools else None


@pytest.fixture
def emulation() -> Iterator[None]:
    """The kernel starts programs of that machine by the emulator, as long as this lasts."""
    if reason := missing():
        pytest.skip(reason)
    mounted = not (BINFMT / "register").exists()
    if mounted:
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], check=True)
    rule = BINFMT / "qemu-aarch64"
    registered = not rule.exists()
    if registered:
        (BINFMT / "register").write_text(RULE.read_text())
    yield
    if registered:
        rule.write_text("-1")
    if mounted:
        subprocess.run(["umount", str(BINFMT)], check=True)


@pytest.fixture
def root(emulation: None, tmp_path: Path) -> Iterator[Path]:
    """A Debian 12 for arm64 with the package's files in it, and what a kernel gives."""
    folder = tmp_path / "root"
    command = ["mmdebstrap", "--quiet", "--variant=extract", "--architectures=arm64", f"--include={PACKAGES}"]
    subprocess.run([*command, "bookworm", str(folder)], check=True, capture_output=True)
    package = build(tmp_path, "edge-agent/arm64", "0.1.0")
    subprocess.run(["dpkg-deb", "--extract", str(package), str(folder)], check=True)
    (folder / "etc/edge-agent/edge-agent.toml").write_text(CONFIG)
    rows = "".join(f"{20 + (number % 7) / 100}\n" for number in range(200))
    (folder / "etc/edge-agent/oven.csv").write_text(f"heat\n{rows}95\n")
    # No /sys: it would be the host's, and the runtime's look at a CPU of another kind crashes.
    mounts = [("proc", folder / "proc"), ("tmpfs", folder / "run")]
    for kind, place in mounts:
        place.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", kind, kind, str(place)], check=True)
    yield folder
    for _, place in mounts:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_the_agent_for_arm64_starts_and_scores_readings_as_amd64_does(root: Path) -> None:
    inside = ["chroot", str(root), "/usr/bin/edge-agent"]
    config, state, log = root / "etc/edge-agent/edge-agent.toml", root / "var/lib/edge-agent", root.parent / "agent.log"
    with log.open("wb") as file:
        agent = subprocess.Popen([*inside, "run"], stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        end_s = time.monotonic() + START_S_MAX
        while not (state / "outbox.db-wal").exists() or not rules_told(state):
            assert agent.poll() is None, log.read_text()
            assert time.monotonic() < end_s, log.read_text()
            time.sleep(1)
        shown = subprocess.run([*inside, "status"], check=True, capture_output=True, text=True).stdout
    finally:
        agent.terminate()
        agent.wait(120)
    assert agent.returncode == 0, log.read_text()
    print(shown)
    assert "oven/heat" in shown
    series_set, ticks, codes, (alarm, *_) = kept(state)
    assert alarm.rule == "odd value-novelty/1"
    detector = assemble(load(config), [Grid(series_set, 0.1)], content_id(boot_id().encode())).detector
    here = [detector.step(tick).codes for tick in ticks]
    assert [code is None for code in codes] == [code is None for code in here]
    apart = [abs(there[0] - code[0]) for there, code in zip(codes, here) if there is not None and code is not None]
    print(f"{len(ticks)} readings, {len(apart)} scored, {sum(map(bool, apart))} of them a step apart; {alarm.cause}")
    assert apart
    assert max(apart) <= STEPS_APART_MAX
