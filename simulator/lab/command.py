"""`edge-sim lab`: run, show, write."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from simulator.lab.board import summary, watch
from simulator.lab.outcome import Score, score
from simulator.lab.processes import LabFailed
from simulator.lab.trials import Order, bench_for, run_trials


def document(result: Score, order: Order, seconds: float) -> dict[str, Any]:
    """What --json writes; stable keys."""
    return {
        "agent": result.system,
        "method": result.method,
        "seed": order.seed,
        "trials": result.trials,
        "taken": result.taken,
        "stored": result.stored,
        "tombstoned": result.tombstoned,
        "power_cut": result.excused,
        "lost": result.lost,
        "doubled": result.doubled,
        "failed_seeds": list(result.failed_seeds),
        "faults": result.faults,
        "seconds": round(seconds, 1),
    }


def run_lab(order: Order, json_file: Path | None) -> int:
    """Returns the exit code: 0 only if all holds."""
    if json_file is not None and not os.access(json_file.absolute().parent, os.W_OK):
        print(f"edge-sim: --json {json_file}: its folder is missing or cannot be written", file=sys.stderr)
        return 1
    started = time.monotonic()
    try:
        with bench_for(order) as bench:
            if bench.note:
                print(f"edge-sim: {bench.note}", file=sys.stderr)
            results = watch(run_trials(order, bench), order.trials, f"{order.agent.value}, {order.method}")
    except (LabFailed, FileExistsError) as error:
        print(f"edge-sim: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    seconds = time.monotonic() - started
    found = score(order.agent.value, order.method, results)
    summary(found, results, order.replay, seconds)
    if json_file is not None:
        json_file.write_text(json.dumps(document(found, order, seconds), indent=2) + "\n", encoding="utf-8")
    return 0 if found.holds else 1
