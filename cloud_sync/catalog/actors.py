"""Who the audit names where nobody has a name."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path

LOGIN_UID = Path("/proc/self/loginuid")  # kept over sudo and su (pam_loginuid(8))
LOGIN_UID_UNSET = 0xFFFF_FFFF


def user_name(login_uid: str, sudo_user: str, uid: int) -> str:
    """Who is at the keyboard: who logged in, else whom sudo names, else whom the process runs as.

    `sudo_user` is taken where it is a user of this machine. A uid without a name stays a number."""
    if login_uid.isdigit() and int(login_uid) != LOGIN_UID_UNSET:
        uid = int(login_uid)
    elif sudo_user:
        with suppress(KeyError):
            return pwd.getpwnam(sudo_user).pw_name
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _login_uid() -> str:
    try:
        return LOGIN_UID.read_text(encoding="ascii").strip()
    except OSError:  # a kernel without audit, a /proc of one's own processes only
        return ""


# Whoever may read the service's folder.
ACTOR_LOCAL = f"command line ({user_name(_login_uid(), os.environ.get('SUDO_USER', ''), os.getuid())})"
