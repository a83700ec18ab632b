"""Durations and sizes as people write them, and the nearest valid word for a mistyped one."""

from __future__ import annotations

import re
from collections.abc import Iterable

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")


def parse_duration(text: object) -> float:
    """Seconds. `"500ms"`, `"10s"`, `"1h 30m"`. Raises ValueError with what to write instead."""
    if isinstance(text, str) and text.strip():
        rest = text.strip()
        seconds = 0.0
        while rest and (match := _DURATION_PART.match(rest)):
            seconds += float(match[1]) * SECONDS[match[2]]
            rest = rest[match.end() :]
        if not rest:
            return seconds
    raise ValueError('is not a duration: write a number and ms, s, m, h or d, as in "10s"')


def parse_size(text: object) -> int:
    """Bytes. `"2 GB"` is decimal, `"2 GiB"` binary. Raises ValueError with what to write instead."""
    if isinstance(text, str) and (match := _QUANTITY.fullmatch(text)) and match[2] in BYTES:
        return round(float(match[1]) * BYTES[match[2]])
    raise ValueError('is not a size: write a number and B, kB, MB, GB, KiB, MiB or GiB, as in "2 GB"')


def show_duration(seconds: float) -> str:
    """The shortest way to write it: 300 → "5m", 0.05 → "50ms"."""
    for unit in ("d", "h", "m", "s"):
        count = seconds / SECONDS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    if seconds >= 1:
        return f"{seconds:g}s"
    return f"{seconds * 1000:g}ms"


def show_span(seconds: float) -> str:
    """About how long, in at most two units: 533000 → "6 d 4 h", 90 → "1 min 30 s"."""
    left = round(max(0.0, seconds))
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
        if len(parts) == 2 or (parts and not count):
            break
    return " ".join(parts) or "0 s"


def show_size(count: float) -> str:
    """Three digits and a decimal unit: 2000000000 → "2 GB"."""
    for unit in ("GB", "MB", "kB"):
        if count >= BYTES[unit]:
            return f"{count / BYTES[unit]:.3g} {unit}"
    return f"{count:.0f} B"


def nearest(word: str, words: Iterable[str]) -> str:
    """` – did you mean "x"?`, or the known words where none is near and they are few."""
    import difflib  # for a mistake only: what merely asks the agent shall start fast

    known = sorted(words)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if not close:
        folded = {name.casefold(): name for name in known}
        close = [folded[match] for match in difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.5)]
    if close:
        return f' – did you mean "{close[0]}"?'
    if known and len(known) <= 12:
        return f" (known: {', '.join(known)})"
    return ""
