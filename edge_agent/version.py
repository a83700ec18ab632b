"""The agent's version, as Hello and `edge-agent version` tell it."""

from __future__ import annotations

import sys
from pathlib import Path

DISTRIBUTION = "tidegate"


def installed_version() -> str:
    """From the name of the installed distribution's folder (PyPA, recording installed projects).

    importlib.metadata would say the same for 3 MB of memory for as long as the agent runs.
    """
    for folder in sys.path:
        for found in Path(folder or ".").glob(f"{DISTRIBUTION}-*.dist-info"):
            return found.name.removeprefix(f"{DISTRIBUTION}-").removesuffix(".dist-info")
    return "0+checkout"


VERSION = installed_version()
