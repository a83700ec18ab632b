"""What every benchmark prints and writes: one table, one JSON shape, with the machine and the versions beside it.

{"benchmark", "machine", "versions", "method", "rows": [{"system", "case", "metric", "value", "unit"}]}
Our own rows have the system "tidegate".
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

OURS = "tidegate"


@dataclass(frozen=True, slots=True)
class Row:
    """One number: what `system` did in `case`."""

    system: str
    case: str
    metric: str
    value: float
    unit: str


class Report:
    """Collects rows, then prints a table and writes the JSON. `method` says how the numbers were got, in sentences."""

    def __init__(self, benchmark: str, method: str, libraries: tuple[str, ...] = ("numpy", "pcodec")) -> None:
        self.benchmark = benchmark
        self.method = method
        self.libraries = libraries
        self.rows: list[Row] = []

    def add(self, system: str, case: str, metric: str, value: float, unit: str) -> None:
        """Add one number."""
        self.rows.append(Row(system, case, metric, float(value), unit))

    def value(self, case: str, metric: str, system: str = OURS) -> float:
        """A number added before. Raises KeyError when there is none."""
        for row in self.rows:
            if (row.system, row.case, row.metric) == (system, case, metric):
                return row.value
        raise KeyError(f"{system}, {case}, {metric}")

    def document(self) -> dict[str, object]:
        """The JSON document."""
        return {
            "benchmark": self.benchmark,
            "machine": machine(),
            "versions": versions(self.libraries),
            "method": self.method,
            "rows": [asdict(row) for row in self.rows],
        }

    def finish(self, json_path: str | Path | None = None) -> None:
        """Print one table per metric; write the JSON where a path is given."""
        print(table(self.rows))
        if json_path is not None:
            path = Path(json_path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.document(), indent=1) + "\n", encoding="utf-8")
            print(f"written: {path}")


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "memory_mb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
        "arch": platform.machine(),
        "kernel": platform.release(),
        "load_1m": round(os.getloadavg()[0], 2),
    }


def versions(libraries: tuple[str, ...]) -> dict[str, str]:
    """Python, ours and the libraries that the numbers depend on; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in ("tidegate", *libraries):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def table(rows: list[Row]) -> str:
    """Plain text: per metric one table, systems down, cases across."""
    parts = []
    for metric in dict.fromkeys(row.metric for row in rows):
        chosen = [row for row in rows if row.metric == metric]
        cases = list(dict.fromkeys(row.case for row in chosen))
        systems = list(dict.fromkeys(row.system for row in chosen))
        cells = {(row.system, row.case): _number(row.value) for row in chosen}
        lines = [[f"{metric} [{chosen[0].unit}]", *cases]]
        lines += [[system, *(cells.get((system, case), "-") for case in cases)] for system in systems]
        widths = [max(len(line[i]) for line in lines) for i in range(len(cases) + 1)]
        parts.append("\n".join("  ".join(_pad(text, widths[i], i) for i, text in enumerate(line)) for line in lines))
    return "\n\n".join(parts)


def median_time_ns(work: Callable[[], object], repeats: int = 15, warmups: int = 2, batch: int = 1) -> float:
    """Median CPU time of one call in this thread, in nanoseconds, over `repeats` runs of `batch` calls once warm."""
    for _ in range(warmups):
        work()
    times = []
    for _ in range(repeats):
        start = time.thread_time_ns()
        for _ in range(batch):
            work()
        times.append((time.thread_time_ns() - start) / batch)
    return statistics.median(times)


def _pad(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column == 0 else text.rjust(width)


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 100 else f"{value:.3g}"


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
