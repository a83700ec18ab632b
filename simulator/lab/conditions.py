"""The weather of one real process: a small file that the lab writes and the process reads a few times a second."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

VARIABLE = "TIDEGATE_LAB_CONDITIONS"  # names the file to a process
LOOK_S = 0.02


class Conditions:
    """The lab's side. Keys that are not set have their fair value."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._now: dict[str, Any] = {}
        self.set()

    def set(self, **changes: Any) -> None:
        """Change some; None forgets one."""
        self._now = {name: value for name, value in {**self._now, **changes}.items() if value is not None}
        beside = self.path.with_suffix(".new")
        beside.write_text(json.dumps(self._now), encoding="utf-8")
        beside.replace(self.path)

    def clear(self) -> None:
        """Fair weather."""
        self._now = {}
        self.set()


def follow(apply: Callable[[dict[str, Any]], None]) -> None:
    """The process' side: `apply` what the file says now, and each change of it from a thread."""
    path = os.environ[VARIABLE]
    read = Path(path).read_text
    text = read(encoding="utf-8")
    apply(json.loads(text))

    def look() -> None:
        seen = text
        while True:
            time.sleep(LOOK_S)
            found = read(encoding="utf-8")
            if found != seen:
                seen = found
                apply(json.loads(found))

    threading.Thread(target=look, name="conditions", daemon=True).start()
