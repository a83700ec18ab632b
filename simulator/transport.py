"""Which way a program reaches the simulated buses: the best that this machine allows, with the reason said."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from simulator import i2c_seccomp, i2c_umockdev
from simulator.i2c_line import I2cLine
from simulator.i2c_socket import SocketTransport
from simulator.reactor import Reactor
from simulator.serial.port import SerialPort


class Transport(Protocol):
    """One way."""

    name: str

    def device(self, number: int) -> str:
        """What the program must call bus `number`: `/dev/i2c-N` or `unix:PATH`."""
        ...

    def launch(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a program that can reach the buses. Raises TransportRefused."""
        ...

    def close(self) -> None:
        """Release what is held; the programs are ended before."""
        ...


def choose(wanted: str = "auto") -> tuple[str, str]:
    """The transport's name, and why it is not a better one (empty for the best). Raises TransportRefused."""
    if wanted == "unix":
        return "unix", ""
    probes = {"seccomp": i2c_seccomp.probe, "umockdev": i2c_umockdev.probe}
    reasons: list[str] = []
    for name in ("seccomp", "umockdev") if wanted == "auto" else (wanted,):
        reason = probes[name]()
        if not reason:
            return name, "; ".join(reasons)
        reasons.append(reason)
    if wanted != "auto":
        raise i2c_seccomp.TransportRefused(reasons[0])
    return "unix", "; ".join(reasons)


def make(
    name: str, lines: Mapping[int, I2cLine], reactor: Reactor, folder: Path, ports: Sequence[SerialPort] = ()
) -> Transport:
    """The transport of that name; `folder` takes sockets where it needs them, `ports` get all settings of a tty.

    Raises TransportRefused for a port with a framing, where only seccomp can give it one.
    """
    if name == "seccomp":
        return i2c_seccomp.SeccompTransport(lines, reactor, ports)
    for port in ports:
        if port.framing is not None:
            raise i2c_seccomp.TransportRefused(f"{port.link}: {port.framing} needs --transport seccomp, this is {name}")
    if name == "umockdev":
        return i2c_umockdev.UmockdevTransport(lines, reactor, folder)
    return SocketTransport(lines, reactor, folder)
