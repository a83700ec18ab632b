"""A virtual /dev/i2c-N by umockdev's preload: second choice, and the one where the node must be seen by `stat`.

Needs the Debian packages umockdev, gir1.2-umockdev-1.0 and python3-gi. The ioctls are served by `umockdev_bridge`
under the system's Python, over the sockets of `SocketTransport`. Limits: no static programs, no setuid.
"""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from simulator import umockdev_bridge
from simulator.i2c_line import I2cLine
from simulator.i2c_seccomp import TransportRefused
from simulator.i2c_socket import SocketTransport
from simulator.reactor import Reactor
from simulator.tied_child import tied

SYSTEM_PYTHON = "/usr/bin/python3"
PRELOAD = "libumockdev-preload.so.0"
PROBE = 'import gi; gi.require_version("UMockdev", "1.0"); from gi.repository import UMockdev'
START_TIMEOUT_S = 10.0


class UmockdevTransport:
    """Launches programs that see the lines as /dev/i2c-N."""

    name = "umockdev"

    def __init__(self, lines: Mapping[int, I2cLine], reactor: Reactor, folder: Path) -> None:
        """Start the bridge. Raises TransportRefused."""
        self._sockets = SocketTransport(lines, reactor, folder)
        pairs = [f"{number}={folder}/i2c-{number}" for number in lines]
        project = Path(__file__).resolve().parents[1]
        self._bridge = subprocess.Popen(
            [SYSTEM_PYTHON, "-m", umockdev_bridge.__name__, *pairs],
            env=os.environ | {"PYTHONPATH": str(project)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._bridge.stdout is not None
        ready, _, _ = select.select([self._bridge.stdout], [], [], START_TIMEOUT_S)
        self._root = self._bridge.stdout.readline().decode().strip() if ready else ""
        if not self._root:
            self.close()
            raise TransportRefused("umockdev: its bridge did not start")

    def device(self, number: int) -> str:
        """What the program calls the bus."""
        return f"/dev/i2c-{number}"

    def launch(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start the command under the preload; it ends with us."""
        settings = dict(os.environ if environment is None else environment)
        settings["LD_PRELOAD"] = f"{PRELOAD} {settings.get('LD_PRELOAD', '')}".strip()
        settings["UMOCKDEV_DIR"] = self._root
        return subprocess.Popen(tied(command), env=settings)

    def close(self) -> None:
        """End the bridge, which takes its testbed away."""
        self._sockets.close()
        for pipe in (self._bridge.stdin, self._bridge.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._bridge.wait(5)
        except subprocess.TimeoutExpired:
            self._bridge.kill()
            self._bridge.wait()


def probe() -> str:
    """Why this machine refuses the transport; empty when it does not."""
    try:
        done = subprocess.run([SYSTEM_PYTHON, "-c", PROBE], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"umockdev: {SYSTEM_PYTHON}: {error}"
    if done.returncode:
        return "umockdev is not installed. Try: sudo apt-get install umockdev gir1.2-umockdev-1.0 python3-gi"
    return ""
