"""Whom the audit names for a command."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys

import pytest

from cloud_sync.catalog.actors import user_name

ROOT = pwd.getpwuid(0).pw_name
DAEMON = pwd.getpwuid(1).pw_name


@pytest.mark.parametrize(
    ("login_uid", "sudo_user", "uid", "name"),
    [
        ("1", ROOT, 0, f"{DAEMON} as {ROOT}"),  # who logged in stays it over su and sudo
        ("4294967295", DAEMON, 0, f"{DAEMON} as {ROOT}"),  # no login: sudo's word
        ("", "", 1, DAEMON),
        ("", "nobody of this machine\n", 0, ROOT),
        ("4294967295", "", 4_000_123, "4000123"),  # a container's uid without a name
        ("4000123", ROOT, 0, f"4000123 as {ROOT}"),
        ("no number", "", 0, ROOT),
    ],
)
def test_who_is_at_the_keyboard(login_uid: str, sudo_user: str, uid: int, name: str) -> None:
    assert user_name(login_uid, sudo_user, uid) == name


def test_the_command_line_is_named_with_its_user() -> None:
    program = "from cloud_sync.catalog.actors import ACTOR_LOCAL; print(ACTOR_LOCAL)"
    environment = {key: value for key, value in os.environ.items() if key != "SUDO_USER"}
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert told.stdout.startswith("command line (")
    assert told.stdout.strip() != "command line ()"
