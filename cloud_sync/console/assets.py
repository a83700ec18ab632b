"""Style sheets, scripts and the icon, held in memory and named by content, so that browsers may keep them for ever."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

_HERE = Path(__file__).parent
_FILES = {
    "console.css": ("static/console.css", "text/css; charset=utf-8"),
    "refresh.js": ("static/refresh.js", "text/javascript; charset=utf-8"),
    "bands.js": ("static/bands.js", "text/javascript; charset=utf-8"),
    "chart.js": ("static/chart.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("static/icon.svg", "image/svg+xml"),
    "uplot.css": ("vendor/uplot-1.6.32/uPlot.min.css", "text/css; charset=utf-8"),
    "uplot.js": ("vendor/uplot-1.6.32/uPlot.iife.min.js", "text/javascript; charset=utf-8"),
    "uplot-licence.txt": ("vendor/uplot-1.6.32/LICENSE", "text/plain; charset=utf-8"),
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is served."""

    body: bytes
    media_type: str


class Assets:
    """All assets; the set is fixed, so no path of a request ever reaches the disk."""

    def __init__(self) -> None:
        self._assets = {name: Asset((_HERE / path).read_bytes(), kind) for name, (path, kind) in _FILES.items()}
        digest = blake2b(digest_size=6)
        for asset in self._assets.values():
            digest.update(asset.body)
        self.version = digest.hexdigest()

    def get(self, name: str) -> Asset | None:
        """By name, or None."""
        return self._assets.get(name)

    def url(self, name: str) -> str:
        """Where the page loads it from; changes with the content of any asset."""
        assert name in self._assets, f"no asset {name}"
        return f"/assets/{name}?v={self.version}"
