"""A Debian 12 that really boots: systemd as PID 1 in a container, an own network, a disk whose power can be cut."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

TOOLS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "xfs_io": "xfsprogs",
    "mkfs.ext4": "e2fsprogs",
    "ip": "iproute2",
    "nft": "nftables",
    "dpkg-deb": "dpkg",
}
PACKAGES = "systemd,systemd-sysv,dbus,udev,python3,init-system-helpers,libstdc++6,tzdata,man-db,sudo"
PRELOAD = "libumockdev-preload.so.0"
BOOT_S_MAX = 60.0
DISK_BYTES = 256 << 20
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
HOST, GUEST = "10.213.0.1", "10.213.0.2"
HOST_NAME, GUEST_NAME = "cloud.example.org", "greenhouse-07"
NEWCOMER = "pi"  # a user who may do everything with sudo and is asked for no password, as on Raspberry Pi OS
USER_HOOK = (
    f'chroot "$1" useradd --create-home --shell /bin/bash --groups sudo {NEWCOMER}'
    f' && echo "{NEWCOMER} ALL=(ALL) NOPASSWD: ALL" > "$1/etc/sudoers.d/{NEWCOMER}"'
)
MEMORY_CGROUPS = Path("/sys/fs/cgroup/memory")  # version 1; under version 2 the machine's own systemd limits


def missing() -> str | None:
    """Why no machine can be booted here, or None."""
    if os.geteuid() != 0:
        return "booting a system in a container needs root"
    tools = [
        package for tool, package in TOOLS.items() if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin") is None
    ]
    return f"not installed. Try: apt-get install {' '.join(tools)}" if tools else None


def make_base(folder: Path) -> Path:
    """A minimal Debian 12 that machines boot copies of; about half a minute."""
    base = folder / "base"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}"]
    command += [f"--customize-hook={USER_HOOK}", "bookworm", str(base)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    preload = next(Path("/usr/lib").glob(f"*/{PRELOAD}"))
    shutil.copy(preload, base / preload.parent.relative_to("/") / PRELOAD)
    return base


class Machine:
    """One machine on a copy of `base`. Its network is a namespace with one cable to the host."""

    def __init__(self, base: Path, folder: Path, name: str, binds: Sequence[str] = ()) -> None:
        """binds: HOST:GUEST folders. The disk under /var/lib/edge-agent is a file system of its own."""
        self.name = name
        self._folder = folder
        self._binds = binds
        self._root = folder / "root"
        self._disk = folder / "disk"
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0
        for each in ("upper", "work", "root", "disk"):
            (folder / each).mkdir()
        self._call("mount", "-t", "overlay", "overlay", "-o",
                   f"lowerdir={base},upperdir={folder}/upper,workdir={folder}/work", str(self._root))  # fmt: skip
        self.write("/etc/hostname", f"{GUEST_NAME}\n")
        self.write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {GUEST_NAME}\n{HOST} {HOST_NAME}\n")
        image = folder / "disk.img"
        with image.open("wb") as file:
            file.truncate(DISK_BYTES)
        self._call("mkfs.ext4", "-q", str(image))
        self._call("mount", "-o", "loop", str(image), str(self._disk))
        self._call("ip", "netns", "add", name)
        self._call("ip", "link", "add", f"{name}h", "type", "veth", "peer", "name", "eth0", "netns", name)
        self._call("ip", "addr", "add", f"{HOST}/24", "dev", f"{name}h")
        self._call("ip", "link", "set", f"{name}h", "up")
        for command in (f"addr add {GUEST}/24 dev eth0", "link set eth0 up", "link set lo up"):
            self._call("ip", "-n", name, *command.split())

    @property
    def root(self) -> Path:
        """The file system, from outside."""
        return self._root

    def boot(self) -> None:
        """Start systemd and wait until it has started everything."""
        command = ["systemd-nspawn", "--quiet", "--boot", f"--directory={self._root}", "--register=no", "--keep-unit"]
        command += [f"--machine={self.name}", "--console=pipe", f"--network-namespace-path=/run/netns/{self.name}"]
        command += [f"--bind={self._disk}:/var/lib/edge-agent", *(f"--bind={bind}" for bind in self._binds)]
        with (self._folder / "console.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        self.wait(lambda: bool(children.read_text().split()), "a first process")
        self._leader = int(children.read_text().split()[0])
        self.wait(lambda: self._state() in ("running", "degraded"), "a started system")

    def kill_power(self) -> None:
        """The power goes: nothing that was not synced survives on the disk, nor any process."""
        self._call("xfs_io", "-x", "-c", "shutdown", str(self._disk))
        self.stop()
        self._call("umount", str(self._disk))
        self._call("mount", "-o", "loop", str(self._folder / "disk.img"), str(self._disk))

    def stop(self) -> None:
        """Every process of the machine ends at once; the disk is as the kernel has it."""
        if self._process is not None and self._leader:
            os.kill(self._leader, signal.SIGKILL)
            self._process.wait(30)
        self._process, self._leader = None, 0

    def run(self, command: str, *, check: bool = True, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """A shell command as root in the machine; its output. Raises AssertionError when it fails and `check`."""
        inside = ["nsenter", "-t", str(self._leader), "-a", "sh", "-c", command]
        done = subprocess.run(inside, capture_output=True, text=True, timeout=timeout_s, check=False, env=ENVIRONMENT)
        assert not check or done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def sudoer(self, command: str, *, check: bool = True, timeout_s: float = 120.0) -> str:
        """What NEWCOMER types after login, in the home folder; its output. Raises as `run`."""
        line = f"runuser --login {NEWCOMER} --command {shlex.quote(command)} 2>&1"
        return self.run(line, check=check, timeout_s=timeout_s).stdout

    def outer_pid(self, pid: str) -> int:
        """The host's number of a process of the machine."""
        place = os.readlink(f"/proc/{self._leader}/ns/pid")
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                numbers = next(line for line in status.read_text().splitlines() if line.startswith("NSpid:")).split()
                if numbers[-1] == pid and os.readlink(status.parent / "ns/pid") == place:
                    return int(status.parent.name)
            except OSError:  # it ended meanwhile
                continue
        raise AssertionError(f"the machine has no process {pid}\n{self.log()}")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file of the machine's root file system."""
        target = self._root / path.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(mode)

    def wait(self, condition: object, what: str, timeout_s: float = BOOT_S_MAX) -> None:
        """Look every 0.1 s until it is true. Raises AssertionError with the console's and the agent's last lines."""
        assert callable(condition)
        end_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end_s:
                raise AssertionError(f"waited {timeout_s:.0f} s in vain for {what}\n{self.log()}")
            time.sleep(0.1)

    def log(self) -> str:
        """What the agent said last, and the console."""
        console = (self._folder / "console.log").read_text(errors="replace")[-1500:]
        if not self._leader:
            return console
        return self.run("journalctl -u edge-agent --no-pager -n 30", check=False).stdout + console

    def close(self) -> None:
        """Take everything away."""
        self.stop()
        for command in (
            ["umount", str(self._disk)],
            ["umount", str(self._root)],
            ["ip", "link", "del", f"{self.name}h"],
            ["ip", "netns", "del", self.name],
        ):
            subprocess.run(command, check=False, stderr=subprocess.DEVNULL)

    def _state(self) -> str:
        return self.run("systemctl is-system-running", check=False).stdout.strip()

    @staticmethod
    def _call(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
