"""Keys of packs: unique to an attempt, and telling their age by themselves (decision 0051)."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from wire.clock import US_PER_S

PACK_PREFIX = "packs/"


def pack_key(pack_id: int, opened_us: int) -> str:
    """A key that no other attempt can have. `opened_us`: when its ticket was opened, by the database's clock."""
    day = datetime.fromtimestamp(opened_us / US_PER_S, UTC).strftime("%Y/%m/%d")
    return f"{PACK_PREFIX}{day}/{opened_us:016d}-{pack_id:08x}-{secrets.token_hex(6)}.pack"


def pack_key_id(key: str) -> int | None:
    """The pack id of a pack's key; None for a key that is no pack's."""
    parts = key.rpartition("/")[2].split("-")
    try:
        return int(parts[1], 16) if len(parts) == 3 and parts[0].isdigit() else None
    except ValueError:
        return None


def pack_key_opened_us(key: str) -> int | None:
    """When the ticket of a pack's key was opened; None for a key that is no pack's."""
    opened, _, rest = key.rpartition("/")[2].partition("-")
    return int(opened) if opened.isdigit() and rest else None
