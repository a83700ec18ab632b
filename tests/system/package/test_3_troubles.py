"""What goes wrong with packages and people: one clear message, nothing lost, a second try succeeds. Then removal."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from simulator.network import Mode
from tests.system.package.bench import NEW, OLD, Bench
from tests.system.package.plant import QUICK

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

BACKLOG = 60  # readings that wait, before packages are exchanged


@pytest.fixture(scope="module", autouse=True)
def _quick(bench: Bench) -> None:
    bench.quicken()


def exchange(bench: Bench, command: str, version: str) -> None:
    """Another version of the package, offline and with a backlog, which is there afterwards and reaches the cloud."""
    assert bench.plant.network is not None
    bench.plant.network.set(Mode.CUT)
    bench.machine.wait(lambda: bench.status()["buffer"]["cells"] > BACKLOG, "a backlog")
    bench.machine.run(command)
    bench.machine.wait(lambda: bench.status().get("agent", {}).get("version") == version, f"version {version}")
    assert bench.status()["buffer"]["cells"] > BACKLOG
    bench.plant.network.set(Mode.PASS)
    bench.settle()


def test_01_a_wrong_configuration_is_not_tried_again(bench: Bench) -> None:
    path = "/etc/edge-agent/conf.d/wrong.toml"
    bench.machine.write(path, '[agent]\nintervall = "1s"\n')
    bench.machine.run("systemctl restart edge-agent", check=False)
    bench.machine.wait(
        lambda: bench.machine.run("systemctl is-failed edge-agent", check=False).stdout.strip() == "failed",
        "a failed service",
    )
    assert "ExecMainStatus=78" in bench.machine.run("systemctl show --property ExecMainStatus edge-agent").stdout
    assert 'did you mean "interval"' in bench.machine.run("journalctl -u edge-agent --no-pager -n 20").stdout
    bench.machine.run(f"rm {path}; systemctl restart edge-agent")
    bench.settle()


def test_02_a_package_for_another_machine_changes_nothing(bench: Bench) -> None:
    """The upgrade, made for arm64 (its control file is: nobody looks into what it brings). The next step is the second
    try, with the right one."""
    folder = bench.folder / "foreign"
    folder.mkdir()
    subprocess.run(["dpkg-deb", "--control", bench.new, folder / "DEBIAN"], check=True)
    (folder / "DEBIAN/conffiles").unlink()
    control = folder / "DEBIAN/control"
    control.write_text(control.read_text().replace("Architecture: amd64", "Architecture: arm64"))
    name = bench.new.name.replace("amd64", "arm64")
    subprocess.run(["dpkg-deb", "-Zgzip", "--build", folder, bench.machine.root / "root" / name], check=True)
    by_dpkg = bench.machine.run(f"dpkg --install /root/{name}", check=False)
    by_apt = bench.machine.run(f"apt-get install -y /root/{name}", check=False)
    print(by_dpkg.stderr, by_apt.stdout, by_apt.stderr)
    assert by_dpkg.returncode != 0
    assert "package architecture (arm64) does not match system (amd64)" in by_dpkg.stderr
    assert by_apt.returncode != 0
    assert "edge-agent:arm64" in by_apt.stdout + by_apt.stderr
    assert bench.status()["agent"]["version"] == OLD
    bench.settle()


def test_03_an_upgrade_under_load_keeps_the_backlog_and_what_was_configured(bench: Bench) -> None:
    exchange(bench, f"apt-get install -y /root/{bench.new.name}", NEW)
    assert bench.machine.run("cat /etc/edge-agent/edge-agent.toml").stdout == QUICK
    assert "/etc/edge-agent/edge-agent.toml" in bench.machine.run("dpkg-query -W -f '${Conffiles}' edge-agent").stdout


def test_04_a_downgrade_keeps_the_backlog(bench: Bench) -> None:
    exchange(bench, f"apt-get install -y --allow-downgrades /root/{bench.old.name}", OLD)


def test_05_a_half_configured_upgrade_goes_on_and_completes(bench: Bench) -> None:
    bench.machine.run(f"dpkg --unpack /root/{bench.new.name}")
    bench.cycle_passes()
    bench.machine.run("dpkg --configure -a")
    bench.machine.wait(lambda: bench.status().get("agent", {}).get("version") == NEW, "the newer version")
    bench.settle()


def test_06_a_state_directory_of_another_owner_is_taken_back(bench: Bench) -> None:
    bench.machine.run("systemctl stop edge-agent; chown -R root:root /var/lib/edge-agent; systemctl start edge-agent")
    bench.machine.wait(bench.is_healthy, "a healthy agent")
    bench.settle()


def test_07_removal_keeps_the_readings_and_purge_takes_them(bench: Bench) -> None:
    bench.machine.run("apt-get remove -y edge-agent")
    assert bench.main_pid() == "0"
    assert "outbox.db" in bench.machine.run("ls /var/lib/edge-agent").stdout
    bench.machine.run("apt-get purge -y edge-agent")
    left = "find /var/lib/edge-agent /etc/edge-agent /usr/lib/edge-agent /run/edge-agent -mindepth 1"
    assert bench.machine.run(left, check=False).stdout == ""
    assert bench.machine.run("systemctl cat edge-agent", check=False).returncode != 0


def purge_takes_readings_on_another_disk(root: Path) -> None:
    """The state directory is a link; what links in it point to is nobody's to delete."""
    other, state = root / "srv/other disk", root / "var/lib/edge-agent"
    (other / "a b\nc").mkdir(parents=True)
    (other / "a b\nc" / "-rf").write_text("x")
    (other / "out").symlink_to("/srv/kept")
    (root / "srv/kept").mkdir()
    (root / "srv/kept/file").write_text("x")
    if state.is_dir():
        state.rmdir()
    state.symlink_to("/srv/other disk")
    subprocess.run(["chroot", str(root), "dpkg", "--purge", "edge-agent"], check=True, capture_output=True)
    assert list(other.iterdir()) == []
    assert not state.is_symlink()
    assert (root / "srv/kept/file").exists()


def test_08_a_full_disk_during_installation_says_so_and_a_second_try_succeeds(bench: Bench) -> None:
    """In a root file system of 80 MB to spare; not booted."""
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
        purge_takes_readings_on_another_disk(folder / "root")
    finally:
        subprocess.run(["umount", str(folder / "root")], check=False)
        subprocess.run(["umount", str(folder / "disk")], check=False)
