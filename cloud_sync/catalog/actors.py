"""Who the audit names where nobody has a name."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path

LOGIN_UID = Path("/proc/self/loginuid")  # kept over sudo and su (pam_loginuid(8))
LOGIN_UID_UNSET = 0xFFFF_FFFF


def user_name(login_uid: str, sudo_user: str, uid: int) -> str:
    """Who is at the keyboard, and as whom where that is another one: "ana as root".

    The first is who logged in; where the kernel does not know (containers), whom sudo names, if it is a user of this
    machine, which is that process's word alone. A uid without a name stays a number."""
    name = first = _name_of(uid)
    if login_uid.isdigit() and int(login_uid) != LOGIN_UID_UNSET:
        first = _name_of(int(login_uid))
    elif sudo_user:
        with suppress(KeyError):
            first = pwd.getpwnam(sudo_user).pw_name
    return name if first == name else f"{first} as {name}"


def _name_of(uid: int) -> str:
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
