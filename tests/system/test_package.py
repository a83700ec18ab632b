"""The Debian package on a system that boots: installed, read, cut off, killed, upgraded, removed; in order."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.i2c_umockdev import probe
from simulator.network import Mode
from tests.system import machine as machines
from tests.system.machine import Machine
from tests.system.plant import BUILD, GATEWAY, Plant, build

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

OLD, NEW = "0.1.0", "0.1.1"
PER_KILL = 1  # cycles in flight when a process is killed
PER_POWER_CUT = 25  # a commit interval of 1 s at 10 cycles a second, and a late commit on a busy machine


class Bench:
    """What the steps share, and how many cycles may have been lost so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.old = build(folder, "edge-agent/amd64", OLD)
        self.new = build(folder, "edge-agent/amd64", NEW)
        self.plant = Plant(folder / "plant")
        self.base = machines.make_base(folder)
        (folder / "machine").mkdir()
        binds = [f"{self.plant.hardware}:/run/simhw"]
        self.machine = Machine(self.base, folder / "machine", "tgdeb", binds)
        shutil.copy(self.old, self.machine.root / "root")
        shutil.copy(self.new, self.machine.root / "root")
        self.lost_max = 0

    def status(self) -> dict[str, Any]:
        """`edge-agent status --json`; empty while no agent answers."""
        done = self.machine.run("edge-agent status --json", check=False)
        return json.loads(done.stdout) if done.stdout else {}

    def main_pid(self) -> str:
        """Of the service; 0 while it does not run."""
        return self.machine.run("systemctl show --property MainPID --value edge-agent").stdout.strip()

    def cycle_passes(self) -> None:
        """The sensor gives two more cycles."""
        before = len(self.plant.given())
        self.machine.wait(lambda: len(self.plant.given()) >= before + 2, "a further cycle of the sensor")

    def settle(self) -> None:
        """What was given up to now is in the cloud, once, but for what kills and cuts may have cost."""
        given = self.plant.given()
        self.cycle_passes()
        self.plant.settle(given, self.machine, self.lost_max)

    def close(self) -> None:
        """Take everything away."""
        self.machine.close()
        self.plant.close()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    if reason := machines.missing() or probe():
        pytest.skip(reason)
    bench = Bench(tmp_path_factory.mktemp("deb"))
    try:
        bench.machine.boot()
        yield bench
    finally:
        bench.close()


def test_01_apt_installs_the_package_and_the_service_runs(bench: Bench) -> None:
    bench.machine.run(f"apt-get install -y /root/{bench.old.name}")
    assert bench.machine.run("systemctl is-enabled edge-agent").stdout.strip() == "enabled"
    bench.machine.wait(lambda: bench.status().get("health") == "healthy", "a healthy agent")
    assert bench.status()["agent"]["version"] == OLD
    assert bench.machine.run("systemctl is-system-running").stdout.strip() == "running"


def test_02_the_service_has_few_rights(bench: Bench) -> None:
    status = bench.machine.run(f"cat /proc/{bench.main_pid()}/status").stdout
    fields = {line.split(":")[0]: line.split(":")[1].split() for line in status.splitlines()}
    assert fields["Uid"][0] != "0"
    assert fields["CapBnd"] == fields["CapEff"] == ["0000000000000000"]
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == (["1"], ["2"])
    report = bench.machine.run("systemd-analyze security --no-pager edge-agent").stdout
    exposure = float(report.rpartition("edge-agent.service:")[2].split()[0])
    print(f"systemd-analyze security: {exposure}")
    assert exposure <= 2.0
    assert (
        bench.machine.run("stat -c '%a %U' /var/lib/edge-agent /run/edge-agent").stdout.split()
        == ["750", "edge-agent"] * 2
    )


def test_03_every_command_has_a_manual_and_completion(bench: Bench) -> None:
    pages = bench.machine.run("dpkg -L edge-agent | grep man1/ | xargs -n1 basename").stdout.split()
    assert {"edge-agent.1.gz", "edge-agent-status.1.gz", "edge-agent-config-check.1.gz"} <= set(pages)
    assert "edge-agent status" in bench.machine.run("man -P cat edge-agent-status").stdout
    done = bench.machine.run(
        "bash -c 'source /usr/share/bash-completion/completions/edge-agent && complete -p edge-agent'"
    )
    assert "edge-agent" in done.stdout


def test_04_a_sensor_on_i2c_is_read_by_ioctls(bench: Bench) -> None:
    bench.plant.connect(bench.machine)
    bench.plant.configure(bench.machine)
    bench.machine.wait(lambda: bench.status().get("sensors", [{}])[0].get("state") == "ok", "a sensor that answers")
    bench.cycle_passes()


def test_05_it_joins_by_token_and_readings_arrive_through_a_bad_network(bench: Bench) -> None:
    assert bench.plant.network is not None
    join = f"edge-agent join {bench.plant.token()} --name {GATEWAY} --server-name localhost"
    assert f"as gateway {GATEWAY}" in bench.machine.run(join).stdout
    files = bench.machine.run("stat -c '%a %U' /var/lib/edge-agent/identity /var/lib/edge-agent/identity/device.pem")
    assert files.stdout.split() == ["700", "edge-agent", "600", "edge-agent"]
    bench.machine.run("systemctl restart edge-agent")
    bench.machine.wait(lambda: bench.status().get("sync", {}).get("connected"), "a connection")
    bench.plant.network.set(Mode.CUT)
    time.sleep(2)
    bench.plant.network.set(Mode.PASS)
    bench.settle()


def test_06_a_killed_agent_comes_back_and_has_lost_nothing(bench: Bench) -> None:
    before = bench.main_pid()
    bench.machine.run(f"kill -KILL {before}")
    bench.lost_max += PER_KILL
    bench.machine.wait(lambda: bench.main_pid() not in ("0", before), "a new process")
    bench.settle()


def test_07_the_watchdog_ends_an_agent_that_hangs(bench: Bench) -> None:
    before = bench.main_pid()
    bench.machine.run(f"kill -STOP {before}")
    bench.lost_max += PER_KILL
    bench.machine.wait(lambda: bench.main_pid() not in ("0", before), "a new process")
    assert "watchdog" in bench.machine.run("journalctl -u edge-agent --no-pager").stdout.lower()
    bench.settle()


def test_08_a_wrong_configuration_is_not_tried_again(bench: Bench) -> None:
    path = "/etc/edge-agent/conf.d/wrong.toml"
    bench.machine.write(path, '[agent]\nintervall = "1s"\n')
    bench.machine.run("systemctl restart edge-agent", check=False)
    bench.machine.wait(
        lambda: bench.machine.run("systemctl is-failed edge-agent", check=False).stdout.strip() == "failed",
        "a failed service",
    )
    shown = bench.machine.run("systemctl show --property NRestarts,ExecMainStatus edge-agent").stdout
    assert "ExecMainStatus=78" in shown
    assert 'did you mean "interval"' in bench.machine.run("journalctl -u edge-agent --no-pager -n 20").stdout
    bench.machine.run(f"rm {path}; systemctl restart edge-agent")
    bench.settle()


def test_09_an_upgrade_under_load_keeps_the_backlog(bench: Bench) -> None:
    assert bench.plant.network is not None
    bench.plant.network.set(Mode.CUT)
    bench.machine.wait(lambda: bench.status()["buffer"]["cells"] > 60, "a backlog")
    bench.machine.run(f"apt-get install -y /root/{bench.new.name}")
    bench.machine.wait(lambda: bench.status().get("agent", {}).get("version") == NEW, "the new version")
    assert bench.status()["buffer"]["cells"] > 60
    bench.plant.network.set(Mode.PASS)
    bench.settle()


def test_10_a_half_configured_upgrade_goes_on_and_completes(bench: Bench) -> None:
    bench.machine.run(f"dpkg --unpack /root/{bench.old.name}")
    bench.cycle_passes()
    bench.machine.run("dpkg --configure -a")
    bench.machine.wait(lambda: bench.status().get("agent", {}).get("version") == OLD, "the older version")
    bench.settle()


def test_11_a_state_directory_of_another_owner_is_taken_back(bench: Bench) -> None:
    bench.machine.run("systemctl stop edge-agent; chown -R root:root /var/lib/edge-agent; systemctl start edge-agent")
    bench.machine.wait(lambda: bench.status().get("health") == "healthy", "a healthy agent")
    bench.settle()


def test_12_a_power_cut_costs_one_commit_interval_at_most(bench: Bench) -> None:
    bench.cycle_passes()
    bench.machine.kill_power()
    bench.lost_max += PER_POWER_CUT
    bench.machine.boot()
    bench.machine.wait(lambda: bench.status().get("sensors", [{}])[0].get("state") == "ok", "a sensor that answers")
    bench.settle()


def test_13_removal_keeps_the_readings_and_purge_takes_them(bench: Bench) -> None:
    bench.machine.run("apt-get remove -y edge-agent")
    assert bench.main_pid() == "0"
    assert "outbox.db" in bench.machine.run("ls /var/lib/edge-agent").stdout
    bench.machine.run("apt-get purge -y edge-agent")
    left = bench.machine.run(
        "ls -A /var/lib/edge-agent /etc/edge-agent /usr/lib/edge-agent /run/edge-agent 2>&1", check=False
    )
    assert "outbox" not in left.stdout
    assert ".toml" not in left.stdout
    assert bench.machine.run("systemctl cat edge-agent", check=False).returncode != 0


def test_14_a_full_disk_during_installation_says_so_and_a_second_try_succeeds(bench: Bench) -> None:
    """In a root file system of 40 MB to spare; not booted."""
    folder = bench.folder / "small"
    (folder / "disk").mkdir(parents=True)
    (folder / "root").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(folder / "disk")], check=True)
    try:
        for each in ("upper", "work"):
            (folder / "disk" / each).mkdir()
        options = f"lowerdir={bench.base},upperdir={folder}/disk/upper,workdir={folder}/disk/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(folder / "root")], check=True)
        shutil.copy(bench.old, folder / "root/root")
        install = ["chroot", str(folder / "root"), "dpkg", "--install", f"/root/{bench.old.name}"]
        first = subprocess.run(install, capture_output=True, text=True, check=False)
        assert first.returncode != 0
        assert "MB are needed; nothing was changed" in first.stderr
        subprocess.run(["mount", "-o", "remount,size=500m", str(folder / "disk")], check=True)
        second = subprocess.run(install, capture_output=True, text=True, check=False)
        assert second.returncode == 0, second.stderr
    finally:
        subprocess.run(["umount", str(folder / "root")], check=False)
        subprocess.run(["umount", str(folder / "disk")], check=False)


def test_15_the_same_source_gives_the_same_bytes(bench: Bench) -> None:
    (bench.folder / "again").mkdir()
    again = build(bench.folder / "again", "edge-agent/amd64", OLD)
    assert again.read_bytes() == bench.old.read_bytes()


def test_16_lintian_finds_nothing(bench: Bench) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed. Try: apt-get install lintian")
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", str(bench.old)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_an_unknown_target_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [*BUILD, "--out", str(tmp_path), "--only", "edge-agent/sparc"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "edge-agent/arm64" in done.stderr
