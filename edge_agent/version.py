"""The agent's version, as Hello and `edge-agent version` tell it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("tidegate")
except PackageNotFoundError:  # a checkout on the path
    VERSION = "0+checkout"
