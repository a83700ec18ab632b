"""The zone of a gateway's local time."""

from __future__ import annotations

from datetime import UTC, tzinfo
from pathlib import Path

MACHINE = Path("/etc/localtime")  # localtime(5)


def zone_of(name: str, machine: Path = MACHINE) -> tzinfo:
    """A zone by its name in the IANA database; empty: the machine's, UTC where it has none.

    Raises ValueError with what to do.
    """
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # and with it sysconfig: `status` must not pay for it

    if name:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f'timezone = "{name}" is not known here. Try: timedatectl list-timezones, or apt install tzdata'
            ) from error
    try:
        with machine.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC
