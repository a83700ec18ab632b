"""The directories: there, the account's own, writable, with room."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from edge_agent.config.model import Config
from edge_agent.config.values import show_size
from edge_agent.doctor.account import Account
from edge_agent.doctor.finding import Finding, all_skipped, failed, ok, warning
from edge_agent.outbox.options import OutboxOptions

IDS = ("state.directory", "state.owner", "state.writable", "state.space", "state.runtime")
OURS = ("lock", "outbox.*", "identity")  # what the agent must be able to write there
SPACE_BYTES_MIN = 4 * OutboxOptions().wal_bytes  # under the smallest budget of an outbox nothing goes on


def check_state(config: Config, account: Account, by_unit: bool) -> Iterator[Finding]:
    """Everything about them; what is missing is made at the start, by systemd (`by_unit`) or by the agent if it may."""
    path = config.state_dir
    make = f"sudo install -d -o {account.name} -m 0750 {shlex.quote(str(path))}"
    if path.is_dir():
        yield ok("state.directory", f"{path} is there")
        yield _owner(path, account)
        yield _writable("state.writable", path, account)
        yield _space(path, config.buffer.max_size)
    else:
        if path.exists():
            yield failed("state.directory", f"{path} is no directory", f"ls -ld {shlex.quote(str(path))}")
        elif by_unit or account.may(_above(path), os.W_OK | os.X_OK):
            yield warning("state.directory", f"{path} is not there yet; it is made at the first start", make)
        else:
            yield failed("state.directory", f"{path} is not there, and {account.name} may not make it", make)
        yield from all_skipped(IDS[1:4], "there is no state directory")
    yield _runtime(config.runtime_dir, account, by_unit)


def _owner(path: Path, account: Account) -> Finding:
    owner = path.stat().st_uid
    if account.uid in (owner, 0):
        return ok("state.owner", f"{path} is {account.name}'s to use")
    text = f"{path} belongs to {Account.of(owner).name}, and the agent runs as {account.name}"
    return failed("state.owner", text, _own(path, account))


def _writable(check: str, path: Path, account: Account) -> Finding:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        text = f"the file system of {path} is mounted read-only, as the kernel does after errors of a card"
        return failed(check, text, "journalctl -k --grep 'EXT4|I/O error|remount'")
    if not account.may(path, os.R_OK | os.W_OK | os.X_OK):
        return failed(check, f"{account.name} may not write in {path}", _own(path, account))
    os.listdir(path)  # `glob` finds nothing where this user may not look; this says so
    for found in sorted(each for pattern in OURS for each in path.glob(pattern)):
        if not account.may(found, os.R_OK | os.W_OK):
            return failed(check, f"{account.name} may not write {found}", _own(path, account))
    return ok(check, f"{account.name} may write in {path}")


def _space(path: Path, budget: int) -> Finding:
    disk = os.statvfs(path)
    free = disk.f_bavail * disk.f_frsize
    used = sum(each.stat().st_size for each in path.glob("outbox.*"))
    look = f"df -h {shlex.quote(str(path))}"
    if free + used < SPACE_BYTES_MIN or (disk.f_files and not disk.f_favail):
        text = f"the disk of {path} is full: {show_size(free)} and {disk.f_favail} files are free"
        return failed("state.space", text, look)
    if free + used < budget:
        text = (
            f"{show_size(free)} are free on the disk of {path}: it is full before the outbox has the "
            f"{show_size(budget)} of [buffer] max_size"
        )
        return warning("state.space", text, look)
    return ok("state.space", f"{show_size(free)} are free, enough for [buffer] max_size ({show_size(budget)})")


def _runtime(path: Path, account: Account, by_unit: bool) -> Finding:
    make = f"sudo install -d -o {account.name} -m 0750 {shlex.quote(str(path))}"
    if path.is_dir():
        return _writable("state.runtime", path, account)
    if path.exists() or not (by_unit or account.may(_above(path), os.W_OK | os.X_OK)):
        return failed("state.runtime", f"{path} is no directory, and {account.name} may not make one", make)
    return ok("state.runtime", f"{path} is made at the start")


def _own(path: Path, account: Account) -> str:
    return f"sudo chown -R {account.name}: {shlex.quote(str(path))}"


def _above(path: Path) -> Path:
    """The nearest folder above that exists."""
    return next(parent for parent in path.parents if parent.exists())
