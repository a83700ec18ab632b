"""What `cloud-sync admin-link` and `api-token` were told, checked; and the address that a login link leads to."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

from cloud_sync.auth.credentials import Credential
from cloud_sync.data_folder import DataFolder
from cloud_sync.errors import ConfigInvalid, QueryInvalid
from cloud_sync.query.parameters import parse_duration
from wire.clock import US_PER_S

LINK_S_MAX = 7 * 86_400
TOKEN_S_MAX = 3_650 * 86_400
DEFAULT_URL = "http://127.0.0.1:8080"  # as `serve` listens when told nothing else
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")


def ttl_seconds(text: str, most_s: int) -> int:
    """`--ttl`, in seconds. Raises ConfigInvalid."""
    try:
        ttl_s = parse_duration("--ttl", text) // US_PER_S
    except QueryInvalid as error:
        raise ConfigInvalid(str(error)) from error
    if not 1 <= ttl_s <= most_s:
        raise ConfigInvalid(f"--ttl {text} is outside 1s to {most_s // 86_400}d")
    return ttl_s


def checked_name(name: str) -> str:
    """A token's name. Raises ConfigInvalid."""
    if not _NAME.fullmatch(name) or not name.strip():
        raise ConfigInvalid(
            f"the name {name[:80]!r} must be 1 to 64 printable characters. Try: cloud-sync api-token create grafana"
        )
    return name.strip()


def console_url(folder: DataFolder, told: str | None) -> str:
    """Where people reach the console: as told, or where the service on this folder listens. Raises ConfigInvalid."""
    if told is None:
        try:
            return str(json.loads(folder.addresses.read_text(encoding="utf-8"))["http"])
        except (OSError, ValueError, KeyError):
            return DEFAULT_URL
    parts = urlsplit(told)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigInvalid(
            f"--url {told[:80]!r} is no address of a web page. Try: --url https://cloud.example.org:8080"
        )
    return told.rstrip("/")


def login_url(base: str, link: Credential) -> str:
    """The page that opens a session with this link."""
    return f"{base}/login?link={link}"
