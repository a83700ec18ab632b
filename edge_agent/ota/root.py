"""Where the first root comes from that a gateway trusts."""

from __future__ import annotations

from pathlib import Path

from edge_agent.ota.errors import StorageFailed

ROOT_FILE = Path("/etc/edge-agent/ota-root.json")
ROOT_BYTES_MAX = 512_000


def trusted_root(file: Path | None = None) -> bytes | None:
    """The bytes of a root that a person gave, or of ROOT_FILE; None without either: what was trusted before stands.

    Raises StorageFailed when it cannot be read.
    """
    path = file or ROOT_FILE
    try:
        with path.open("rb") as opened:
            return opened.read(ROOT_BYTES_MAX)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageFailed.of(path, error) from error
