"""Tells systemd that the service is up (sd_notify(3)); does nothing elsewhere."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send a state such as `READY=1` to the supervisor, when there is one."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect(f"\0{path[1:]}" if path.startswith("@") else path)
            sender.sendall(state.encode())
