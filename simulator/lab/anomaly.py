"""One fault and its alarm: which alarm is the fault's, and which are false."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

STAMP_MS_MAX = 1000  # a reading's stamp is that of its cycle's beginning: it may be older than what is in it


class Anomaly:
    """What the cloud tells of the fault of one series. Alarms are rows of `/v1/alarms`."""

    def __init__(self, gateway: str, series: str) -> None:
        self.delay_s: float | None = None  # from the fault until it was told
        self.text = ""  # score and cause
        self._source = (gateway, series)
        self._before: frozenset[str] = frozenset()
        self._fault_ms = 0

    def begin(self, alarms: Iterable[Mapping[str, Any]], wall_ms: int) -> None:
        """The fault happens now; `alarms` are there already."""
        self._before = frozenset(alarm["id"] for alarm in alarms)
        self._fault_ms = wall_ms

    def look(self, alarms: Iterable[Mapping[str, Any]], elapsed_s: float) -> bool:
        """Whether the fault's alarm is among them; the first look that finds it sets `delay_s` and `text`."""
        for alarm in alarms:
            if (alarm["gateway"], alarm["series"]) == self._source and not self._is_false(alarm):
                self.delay_s = elapsed_s
                self.text = f"score {alarm['score']:.0f} of {alarm['threshold']:g}: {alarm['cause']}"
                return True
        return False

    def false_alarms(self, alarms: Iterable[Mapping[str, Any]]) -> int:
        """How many began before the fault, of whatever series."""
        return sum(map(self._is_false, alarms))

    def _is_false(self, alarm: Mapping[str, Any]) -> bool:
        return alarm["id"] in self._before or alarm["onset_ms"] < self._fault_ms - STAMP_MS_MAX
