"""The nodes of buses: there, of the right kind, and the account's to open. None is opened: the agent may hold it."""

from __future__ import annotations

import grp
import os
import shlex
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from edge_agent.config.model import BusSection, Config, SerialSection
from edge_agent.doctor.account import Account
from edge_agent.doctor.finding import Finding, failed, ok, skipped

IDS = ("bus.device", "bus.access")
GROUPS = {"i2c": "i2c", "serial": "dialout"}  # Debian's, and the package's udev rule


def check_buses(config: Config, account: Account) -> Iterator[Finding]:
    """Both checks for each [bus.NAME]."""
    for name, section in config.buses.items():
        yield from _check(name, section, account)
    if not config.buses:
        yield from (skipped(check, "no [bus.NAME] is configured") for check in IDS)


def _check(name: str, section: BusSection, account: Account) -> Iterator[Finding]:
    said = section.port if isinstance(section, SerialSection) else section.device
    path, simulated = Path(said.removeprefix("unix:")), said.startswith("unix:")
    problem = _node_problem(path, simulated)
    if problem:
        yield failed("bus.device", f"{path} {problem}", _device_fix(section, simulated), name)
        yield skipped("bus.access", f"{path} {problem}", subject=name)
        return
    yield ok("bus.device", f"{path} is there", name)
    if account.may(path, os.R_OK | os.W_OK):
        yield ok("bus.access", f"{account.name} may open {path}", name)
    else:
        text = f"{account.name} may not open {path}"
        yield failed("bus.access", text, _access_fix(path, GROUPS[section.kind], account), name)


def _node_problem(path: Path, simulated: bool) -> str:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "is not there"
    if simulated:
        return "" if stat.S_ISSOCK(mode) else "is no socket"
    return "" if stat.S_ISCHR(mode) else "is no device"


def _device_fix(section: BusSection, simulated: bool) -> str:
    if simulated:
        return "edge-sim bus --help"
    if isinstance(section, SerialSection):
        return "ls -l /dev/serial/by-id"
    return "sudo raspi-config nonint do_i2c 0" if shutil.which("raspi-config") else "sudo modprobe i2c-dev"


def _access_fix(path: Path, usual: str, account: Account) -> str:
    """Into the node's group where that has the rights and is nobody's own; else the node into the usual group."""
    found = path.stat()
    if found.st_gid and found.st_mode & 0o060 == 0o060 and found.st_gid not in account.gids:
        try:
            group = grp.getgrgid(found.st_gid).gr_name
        except KeyError:
            group = str(found.st_gid)
        return f"sudo usermod -aG {group} {account.name}"
    node = shlex.quote(str(path))
    return f"sudo chgrp {usual} {node} && sudo chmod 660 {node}"
