"""What was installed: its rights, secrets, manuals and doctor; then killed, hung, out of memory and without power."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from simulator.network import Mode
from tests.system.package.bench import PER_KILL, PER_POWER_CUT, Bench
from tests.system.package.leak import Leak
from tests.system.package.machine import GUEST_NAME
from tests.system.package.plant import Network

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

EXPOSURE_MAX = 2.0  # of systemd-analyze security
SECRET = "/run/credentials/edge-agent.service/secret_mqtt"


@pytest.fixture(scope="module", autouse=True)
def _quick(bench: Bench) -> None:
    bench.quicken()


def network(bench: Bench) -> Network:
    assert bench.plant.network is not None
    return bench.plant.network


def doctor(bench: Bench) -> tuple[dict[str, str], dict[str, Any]]:
    """Results that are not ok by check, and everything."""
    told = json.loads(bench.machine.sudoer("sudo edge-agent doctor --json", check=False))
    return {each["id"]: each["result"] for each in told["checks"] if each["result"] != "ok"}, told


def test_01_the_service_has_few_rights(bench: Bench) -> None:
    status = bench.machine.run(f"cat /proc/{bench.main_pid()}/status").stdout
    fields = {line.split(":")[0]: line.split(":")[1].split() for line in status.splitlines()}
    assert fields["Uid"][0] != "0"
    assert fields["CapBnd"] == fields["CapEff"] == ["0000000000000000"]
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == (["1"], ["2"])
    report = bench.machine.run("systemd-analyze security --no-pager edge-agent").stdout
    exposure = float(report.rpartition("edge-agent.service:")[2].split()[0])
    print(f"systemd-analyze security: {exposure}")
    assert exposure <= EXPOSURE_MAX
    owned = bench.machine.run("stat -c '%a %U' /var/lib/edge-agent /run/edge-agent").stdout.split()
    assert owned == ["750", "edge-agent"] * 2
    assert {"i2c", "dialout"} <= set(bench.machine.run("id -nG edge-agent").stdout.split())


def test_02_every_command_has_a_manual_and_completion(bench: Bench) -> None:
    pages = bench.machine.run("dpkg -L edge-agent | grep man1/ | xargs -n1 basename").stdout.split()
    assert {"edge-agent.1.gz", "edge-agent-status.1.gz", "edge-agent-config-check.1.gz"} <= set(pages)
    assert "edge-agent status" in bench.machine.run("man -P cat edge-agent-status").stdout
    words = "COMP_WORDS=(edge-agent doc); COMP_CWORD=1; _edge_agent_completion edge-agent; echo ${COMPREPLY[@]}"
    place = "/usr/share/bash-completion/completions/edge-agent"
    assert bench.machine.run(f"bash -c 'source {place} && {words}'").stdout.split() == ["doctor"]


def test_03_a_secret_that_only_root_reads_reaches_the_agent(bench: Bench) -> None:
    bench.machine.write("/etc/edge-agent/credentials/mqtt", "kept from others\n", 0o600)
    assert bench.machine.run("runuser -u edge-agent cat /etc/edge-agent/credentials/mqtt", check=False).returncode != 0
    broker = f'[mqtt.site]\nurl = "mqtt://127.0.0.1:1"\nusername = "u"\npassword_file = "{SECRET}"\n'
    bench.machine.write("/etc/edge-agent/conf.d/broker.toml", broker)
    bench.machine.run("systemctl restart edge-agent")
    bench.machine.wait(lambda: bench.status().get("brokers"), "an agent with a broker")
    inside = f"nsenter --target {bench.main_pid()} --mount runuser -u edge-agent cat {SECRET}"
    assert bench.machine.run(inside).stdout == "kept from others\n"
    bench.machine.run("rm /etc/edge-agent/conf.d/broker.toml; systemctl restart edge-agent")
    bench.machine.wait(bench.is_healthy, "a healthy agent")


def test_04_the_doctor_finds_nothing_wrong(bench: Bench) -> None:
    found, told = doctor(bench)
    print(bench.machine.sudoer("sudo edge-agent doctor", check=False))
    faults = {check for check, result in found.items() if result != "skipped"}
    assert faults <= {"clock.synchronised"}, told  # true of a host whose clock nothing sets
    for check in ("unit.hardening", "state.owner", "bus.access", "cloud.mtls", "certificate.key", "buffer.integrity"):
        assert check not in found, told
    assert told["account"] == "edge-agent"


def test_05_the_doctor_sees_a_drop_in_that_weakens_the_unit(bench: Bench) -> None:
    weak = "/etc/systemd/system/edge-agent.service.d/weak.conf"
    bench.machine.write(weak, "[Service]\nProtectSystem=no\nNoNewPrivileges=no\nPrivateUsers=no\n")
    bench.machine.run("systemctl daemon-reload")
    found, told = doctor(bench)
    assert found["unit.hardening"] == "warning"
    (finding,) = [each for each in told["checks"] if each["id"] == "unit.hardening"]
    assert "ProtectSystem=no" in finding["text"]
    assert finding["fix"] == "sudo systemctl revert edge-agent.service"
    # Not the command itself, which would take the drop-in of the simulated bus as well.
    bench.machine.run(f"rm {weak}; systemctl daemon-reload")
    assert "unit.hardening" not in doctor(bench)[0]


def test_06_it_joins_without_hands_by_a_file_on_the_boot_partition(bench: Bench) -> None:
    bench.machine.run("edge-agent leave")
    bench.machine.write("/boot/firmware/edge-join.txt", f"{bench.plant.token(GUEST_NAME)}\n")
    bench.machine.run("systemctl start edge-agent-join")
    bench.machine.wait(bench.is_connected, "a connection")
    assert bench.machine.run("ls -A /boot/firmware").stdout == ""
    assert set(bench.machine.run("stat -c %U /var/lib/edge-agent/identity/*").stdout.split()) == {"edge-agent"}
    bench.settle()


def test_07_readings_arrive_after_a_cut_of_the_network(bench: Bench) -> None:
    network(bench).set(Mode.CUT)
    time.sleep(2)
    network(bench).set(Mode.PASS)
    bench.settle()


def test_08_a_killed_agent_comes_back_and_has_lost_nothing(bench: Bench) -> None:
    before = bench.main_pid()
    bench.machine.run(f"kill -KILL {before}")
    bench.lost_max += PER_KILL
    bench.restarted_after(before)
    bench.settle()


def test_09_the_watchdog_ends_an_agent_that_hangs(bench: Bench) -> None:
    before = bench.main_pid()
    bench.machine.run(f"kill -STOP {before}")
    bench.lost_max += PER_KILL
    bench.restarted_after(before)
    assert "watchdog" in bench.machine.run("journalctl -u edge-agent --no-pager").stdout.lower()
    bench.settle()


def test_10_an_agent_over_its_memory_limit_is_killed_and_started_again(bench: Bench) -> None:
    leak = Leak(bench)
    if reason := leak.missing():
        pytest.skip(reason)
    leak.install()
    try:
        before = bench.main_pid()
        leak.open()
        bench.lost_max += PER_KILL
        bench.restarted_after(before)
        assert leak.kills() == 1
    finally:
        leak.remove()
    bench.settle()


def test_11_a_power_cut_costs_one_commit_interval_at_most(bench: Bench) -> None:
    bench.cycle_passes()
    bench.machine.kill_power()
    bench.lost_max += PER_POWER_CUT
    bench.machine.boot()
    bench.machine.wait(bench.is_healthy, "a sensor that answers")
    bench.settle()
