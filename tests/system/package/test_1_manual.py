"""docs/operating/install.md at the gateway, word for word, typed by a user with sudo on a Debian that boots."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.system.package.bench import OLD, Bench
from tests.system.package.machine import GUEST_NAME
from tests.system.package.plant import LOSS_PERCENT, SENSOR, lost_packets

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

PAGE = Path(__file__).resolve().parents[3] / "docs/operating/install.md"
OWN_MACHINE = ("arm64", "amd64")  # the page's gateway is a Raspberry Pi


def commands(step: int) -> list[str]:
    """What the numbered step has one type."""
    section = PAGE.read_text(encoding="utf-8").split("\n## The gateway\n")[1].split("\n## ")[0]
    (text,) = re.findall(rf"^{step}\. (.*?)(?=^\d\. |^$)", section, re.MULTILINE | re.DOTALL)
    found = re.findall(r"`(sudo [^`]+)`", " ".join(text.split()))
    assert found, text
    return [command.replace(*OWN_MACHINE) for command in found]


def test_01_i2c_is_switched_on(bench: Bench) -> None:
    (command,) = commands(1)
    bench.machine.sudoer(command)
    assert bench.machine.run("ls /run/i2c-is-on").stdout.strip() == "/run/i2c-is-on"  # by the stand-in for raspi-config


def test_02_apt_installs_the_package_and_the_service_runs(bench: Bench) -> None:
    (command,) = commands(2)
    assert bench.old.name in command
    print(bench.machine.sudoer(command))
    assert bench.machine.run("systemctl is-enabled edge-agent").stdout.strip() == "enabled"
    bench.machine.wait(lambda: bench.status().get("health") == "healthy", "a healthy agent")
    assert bench.status()["agent"]["version"] == OLD
    assert bench.machine.run("systemctl is-system-running").stdout.strip() == "running"


def test_03_it_joins_by_token_over_a_bad_network(bench: Bench) -> None:
    join, restart = commands(3)
    assert f"as gateway {GUEST_NAME}" in bench.machine.sudoer(join.replace("TOKEN", bench.plant.token()))
    files = bench.machine.run("stat -c '%a %U' /var/lib/edge-agent/identity /var/lib/edge-agent/identity/device.pem")
    assert files.stdout.split() == ["700", "edge-agent", "600", "edge-agent"]
    bench.machine.sudoer(restart)
    bench.machine.wait(bench.is_connected, "a connection")


def test_04_a_sensor_on_i2c_is_found_by_ioctls(bench: Bench) -> None:
    detect, keep = commands(4)
    assert SENSOR in bench.machine.sudoer(detect)
    bench.machine.sudoer(keep)


def test_05_the_configuration_is_good_and_the_sensor_is_read(bench: Bench) -> None:
    (command,) = commands(5)
    bench.machine.sudoer(command)
    bench.machine.wait(bench.is_healthy, "a sensor that answers")
    (sensor,) = bench.status()["sensors"]
    assert sensor["id"] == SENSOR
    assert all(channel["state"] == "ok" for channel in sensor["channels"])


def test_06_the_value_is_shown_here_and_in_the_cloud(bench: Bench) -> None:
    status, send = commands(6)
    bench.machine.wait(bench.is_connected, "a connection")
    shown = bench.machine.sudoer(status)
    print(shown)
    assert f"{SENSOR}/temperature" in shown
    bench.machine.wait(lambda: bench.status()["buffer"]["cells"] or bench.plant.stored(), "a commit")
    print(bench.machine.sudoer(send))
    bench.machine.wait(bench.plant.stored, "a value in the cloud", timeout_s=150)

    def lost() -> int:
        """At random: a value may get through whole, so that more is sent."""
        bench.machine.sudoer(send)
        return lost_packets(bench.machine.name)

    bench.machine.wait(lost, "a lost packet", timeout_s=150)
    print(f"{lost()} packets lost on the way ({LOSS_PERCENT} %)")


def test_07_a_user_of_the_group_asks_without_sudo(bench: Bench) -> None:
    (command,) = re.findall(r"`(sudo usermod [^`]+)`", PAGE.read_text(encoding="utf-8"))
    bench.machine.sudoer(command)
    assert f"{SENSOR}/temperature" in bench.machine.sudoer("edge-agent status")


def test_08_a_drop_in_lets_the_service_see_another_device(bench: Bench) -> None:
    """As typed into the editor that the command opens."""
    command, section, line = re.findall(
        r"`(sudo systemctl edit edge-agent)`, then `(.*?)` and `(.*?)`", PAGE.read_text(encoding="utf-8")
    )[0]
    bench.machine.write("/usr/local/bin/typing", f"#!/bin/sh\nprintf '%s\\n' '{section}' '{line}' > \"$1\"\n", 0o755)
    named = command.replace("sudo", "sudo SYSTEMD_EDITOR=/usr/local/bin/typing")
    bench.machine.sudoer(f"script --quiet --return --command '{named}' /dev/null")  # it wants a terminal
    shown = bench.machine.run("systemctl show --property=DeviceAllow edge-agent").stdout
    assert "char-NAME rw" in shown
    assert "char-i2c rw" in shown
    bench.machine.run("rm /etc/systemd/system/edge-agent.service.d/override.conf && systemctl daemon-reload")
