"""A driver that somebody installed and that leaks; and the limit that keeps it from taking the machine's memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.system.package.machine import MEMORY_CGROUPS

if TYPE_CHECKING:
    from tests.system.package.bench import Bench

OWN = "/usr/local/lib/edge-agent/python"  # where docs/operating/install.md has an owner put drivers
TAP = "/run/edge-agent/leak"
CONFIG = "/etc/edge-agent/conf.d/leak.toml"
DRIVER = f"""\
from pathlib import Path
from hardware.driver import Channel, Driver
TAP = Path("{TAP}")
class Leak(Driver):
    kept = []
    @classmethod
    def channels_of(cls, config):
        return (Channel("drops", "count"),)
    def read(self):
        if TAP.exists() or self.kept:
            TAP.unlink(missing_ok=True)
            self.kept.append(b"x" * (20 << 20))
        return (len(self.kept),)
"""


class Leak:
    """systemd enforces MemoryMax where it has the memory controller of cgroup version 2. Where the machine's host has
    version 1, the agent's process is put into a group there with the unit's own limit."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._group: Path | None = None

    def missing(self) -> str | None:
        """Why no limit can be enforced here, or None."""
        if self._by_systemd() or (MEMORY_CGROUPS / "memory.limit_in_bytes").exists():
            return None
        return "no memory limit can be enforced: neither the machine nor (version 1) its host has a memory controller"

    def install(self) -> None:
        """The driver, as its owner would, and a sensor with it. The agent runs under its limit from now on."""
        bench, machine = self._bench, self._bench.machine
        machine.write(f"{OWN}/leaky.py", DRIVER)
        info = f"{OWN}/leaky-1.dist-info"
        machine.write(f"{info}/METADATA", "Metadata-Version: 2.1\nName: leaky\nVersion: 1\n")
        machine.write(f"{info}/entry_points.txt", "[edge_agent.drivers]\nleaky = leaky:Leak\n")
        machine.write(CONFIG, '[[sensor]]\nid = "leak"\ndriver = "leaky"\n')
        machine.run("systemctl restart edge-agent")
        machine.wait(lambda: bench.is_healthy(sensors=2), "both sensors")
        if not self._by_systemd():
            limit = machine.run("systemctl show --property MemoryMax --value edge-agent").stdout.strip()
            self._group = MEMORY_CGROUPS / machine.name
            self._group.mkdir()
            (self._group / "memory.limit_in_bytes").write_text(limit)
            (self._group / "cgroup.procs").write_text(str(machine.outer_pid(bench.main_pid())))

    def open(self) -> None:
        """200 MB leak each second until the process ends."""
        self._bench.machine.run(f"touch {TAP}")

    def kills(self) -> int:
        """How often the kernel ended a process that was over the limit."""
        if self._group is None:
            said = self._bench.machine.run("journalctl -u edge-agent --no-pager").stdout
            return said.count("Failed with result 'oom-kill'")
        lines = (self._group / "memory.oom_control").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def remove(self) -> None:
        """Everything that `install` made."""
        self._bench.machine.run(f"rm -r {CONFIG} {OWN}; systemctl restart edge-agent")
        if self._group is not None:
            self._bench.machine.wait(lambda: not (self._group / "cgroup.procs").read_text(), "an empty group")
            self._group.rmdir()

    def _by_systemd(self) -> bool:
        return "memory" in self._bench.machine.run("cat /sys/fs/cgroup/cgroup.controllers", check=False).stdout.split()
