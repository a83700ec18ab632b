"""A model is tried in a process of its own, which may die of it: `python -m edge_agent.ota.trial FOLDER`.

Limits are set before the runtime is loaded. Prints one JSON object: `checks` (name → problem, empty when it held),
`p95_ms`, `memory_mib`. The parent (`gates`) bounds the time and what it reads. A second argument is the budget of a run
in milliseconds: a model that is slower is not tried further.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

MEMORY_BYTES_MAX = 2 << 30  # address space: the runtime maps most of a gigabyte before it has a model
CPU_S_MAX = 120
FILES_MAX = 64
RUNS = 300
RUNS_S_MAX = 5.0


def limit() -> None:
    """No more memory, time, files or writing than a sound model needs."""
    for what, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES_MAX),
        (resource.RLIMIT_CPU, CPU_S_MAX),
        (resource.RLIMIT_NOFILE, FILES_MAX),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    os.nice(10)


def main() -> None:
    """Try the model in the folder that the command line names."""
    limit()
    from edge_agent.detect.contract import load_model
    from edge_agent.detect.errors import ModelRefused
    from edge_agent.detect.golden import check_model
    from edge_agent.detect.session import Session, load_runtime

    told: dict[str, object] = {"checks": {}, "p95_ms": 0.0, "memory_mib": 0.0}
    try:
        model = load_model(Path(sys.argv[1]))
        load_runtime()  # its own memory is not the model's
        before = peak_kib()
        session = Session(model)
        budget_ms = float(sys.argv[2])
        told["p95_ms"] = spent_ms = p95_ms(session, budget_ms)
        if spent_ms <= budget_ms:
            told["checks"] = {check.name: check.problem for check in check_model(session)}
        told["memory_mib"] = (peak_kib() - before) / 1024
    except ModelRefused as error:
        told["checks"] = {"contract": str(error)}
    print(json.dumps(told))


def peak_kib() -> int:
    """The most memory that this process had (proc(5), VmHWM); getrusage counts what its parent had, too."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def p95_ms(session: object, budget_ms: float) -> float:
    """CPU time of a run of one row, so that what else the gateway does does not count.

    Ends early once so many runs were over the budget that the others cannot change it.
    """
    from edge_agent.detect.errors import RunFailed
    from edge_agent.detect.golden import first_tick
    from edge_agent.detect.session import Session

    assert isinstance(session, Session)
    try:
        feeds = first_tick(session)
        spent: list[int] = []
        over = 0
        session.run(feeds)  # the first one allocates
        while len(spent) < RUNS and sum(spent) < RUNS_S_MAX * 1e9 and over <= RUNS * 0.05:
            began = time.thread_time_ns()
            session.run(feeds)
            spent.append(time.thread_time_ns() - began)
            over += spent[-1] > budget_ms * 1e6
    except RunFailed:
        return 0.0  # the checks tell why
    return sorted(spent)[int(len(spent) * 0.95)] / 1e6


if __name__ == "__main__":
    main()
