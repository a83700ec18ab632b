"""Is the agent doing its work, and telling systemd so."""

from __future__ import annotations

import os
import socket

ALIVE_S_MAX = 20.0  # threads look up every 2 s; one that was silent for longer hangs


class Notifier:
    """sd_notify(3): datagrams to the socket that systemd names; silent where there is none."""

    def __init__(self, address: str | None = None) -> None:
        name = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._address = "\0" + name[1:] if name.startswith("@") else name

    def send(self, *lines: str) -> None:
        """Send the assignments, as `READY=1`. A manager that does not listen is no reason to stop."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            try:
                out.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                return


def watchdog_period_s() -> float | None:
    """Half of what systemd allows (sd_watchdog_enabled(3)); None when it does not watch this process."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 2_000_000
