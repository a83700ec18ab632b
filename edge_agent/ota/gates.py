"""What a release must pass before it may run: contract, golden vectors, invariants, latency and memory, right here.

All of it happens in a child under limits: a model that hangs, crashes or eats memory costs that child.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wire.release import Needs

TRIAL = "edge_agent.ota.trial"
WALL_S_MAX = 180.0
ANSWER_BYTES_MAX = 64 << 10
GOLDEN = frozenset({"golden file", "golden vectors"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is empty when every gate was passed, else a code; `text` says it in a sentence.

    Codes: `contract`, `golden`, `invariants`, `latency`, `memory`, `timeout`, `crashed`.
    """

    reason: str
    text: str
    p95_ms: float = 0.0
    memory_mib: float = 0.0


def try_model(folder: Path, needs: Needs, wall_s: float = WALL_S_MAX) -> Verdict:
    """Try the model in `folder` (.../NAME/VERSION) against its release's budget. Blocks for seconds, at most `wall_s`.

    Raises OSError when no process can be started: that says nothing about the model.
    """
    answer, end = run_limited([TRIAL, str(folder.resolve()), f"{needs.p95_ms:g}"], wall_s)
    if answer is None:
        return Verdict("timeout", f"no answer within {wall_s:g} s")
    try:
        told = json.loads(answer)
        checks: dict[str, str] = told["checks"]
        p95_ms, memory_mib = float(told["p95_ms"]), float(told["memory_mib"])
    except (ValueError, KeyError, TypeError):
        return Verdict("crashed", f"the process that tried it ended with {end}")
    return _judged(checks, p95_ms, memory_mib, needs)


def run_limited(
    command: Sequence[str], wall_s: float, *, stdin: int = subprocess.DEVNULL, keep: Sequence[int] = ()
) -> tuple[bytes | None, str]:
    """Run a module of ours, which sets its own limits, in a session of its own: all that it prints, bounded, and how it
    ended. None when it took too long. It inherits the descriptors in `keep`. Raises OSError.
    """
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd="/",
        start_new_session=True,
        pass_fds=keep,
    ) as child:
        assert child.stdout is not None
        try:
            answer = _answer(child.stdout.fileno(), wall_s)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            code = child.wait()
    return answer, _end(code)


def _judged(checks: dict[str, str], p95_ms: float, memory_mib: float, needs: Needs) -> Verdict:
    for name, problem in checks.items():
        if problem:
            reason = "contract" if name == "contract" else "golden" if name in GOLDEN else "invariants"
            return Verdict(reason, f"{name}: {problem}", p95_ms, memory_mib)
    if p95_ms > needs.p95_ms:
        return Verdict("latency", f"a run takes {p95_ms:.3g} ms; {needs.p95_ms:g} ms are signed", p95_ms, memory_mib)
    if memory_mib > needs.memory_mib:
        text = f"it takes {memory_mib:.1f} MiB; {needs.memory_mib:g} MiB are signed"
        return Verdict("memory", text, p95_ms, memory_mib)
    return Verdict("", f"p95 {p95_ms:.3g} ms, {memory_mib:.1f} MiB", p95_ms, memory_mib)


def _answer(descriptor: int, wall_s: float) -> bytes | None:
    """All that the child prints, bounded; None when it neither ends nor closes its output in time."""
    until, parts, left = time.monotonic() + wall_s, [], ANSWER_BYTES_MAX
    while left > 0:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            return None
        data = os.read(descriptor, left)
        if not data:
            break
        parts.append(data)
        left -= len(data)
    return b"".join(parts)


def _end(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
