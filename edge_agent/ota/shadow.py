"""A candidate in the shadow of the active model: both over the readings that this gateway took last, side by side.

In a process of its own under the limits of `trial`: `python -m edge_agent.ota.shadow ACTIVE CANDIDATE RING < VIEWS`.
Nothing of it leaves as an alarm. Prints a JSON list of `Side`s, active and candidate of each view in turn.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.ota.gates import WALL_S_MAX, Verdict, run_limited
from edge_agent.ota.live import Live, View, rows_of
from edge_agent.ota.trial import limit
from wire.release import Needs

PROGRAM = "edge_agent.ota.shadow"
NONE = "-"  # instead of an active model
LEARN_SHARE = 0.5  # of the rows, at most, that both learn from; the rest is compared
ROWS_MIN = 32  # learnt, and compared
ALARM_RATE_MORE = 0.1  # of the compared rows may alarm that did not with the active model
ALARMS_MORE = 5  # and always so many


class Side(msgspec.Struct, frozen=True):
    """What one model made of a view. `rows` were compared; `problem`: why there was nothing to compare."""

    rows: int = 0
    alarms: int = 0
    failures: int = 0
    p95_ms: float = 0.0
    problem: str = ""


def shadow_run(live: Live, family: str, active: Path | None, candidate: Path, needs: Needs) -> Verdict | None:
    """Compare on every view of a family; None where no model of it is configured here, so that there is no view.

    Reasons: `shadow`, `few_rows` (not enough readings yet: later), `timeout`, `crashed`. Raises OSError.
    """
    views = [view for view in live.views if view.family == family]
    if not views:
        return None
    with _memory_file(msgspec.json.encode(views)) as told, _memory_file(_copy(Path(live.ring))) as ring:
        command = [
            PROGRAM,
            str(active.resolve()) if active else NONE,
            str(candidate.resolve()),
            f"/proc/self/fd/{ring}",
        ]
        answer, end = run_limited(command, WALL_S_MAX, stdin=told, keep=(ring,))
    if answer is None:
        return Verdict("timeout", f"no answer within {WALL_S_MAX:g} s")
    try:
        sides = msgspec.json.decode(answer, type=list[Side])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return Verdict("crashed", f"the process that ran it in the shadow ended with {end}")
    return judged(list(zip(sides[::2], sides[1::2])), needs, active is not None)


def judged(pairs: Sequence[tuple[Side, Side]], needs: Needs, has_active: bool) -> Verdict:
    """Is the candidate fit to take over, by what both made of the same readings?"""
    rows = sum(new.rows for _, new in pairs)
    problem = next((new.problem for _, new in pairs if new.problem), "")
    if problem or not rows:
        return Verdict("few_rows", problem or "no readings were compared")
    failures, before = (sum(each) for each in zip(*((new.failures, old.failures) for old, new in pairs)))
    if failures > before:
        return Verdict("shadow", f"{failures} of its runs on the last {rows} readings gave no score")
    alarms, usual = (sum(each) for each in zip(*((new.alarms, old.alarms) for old, new in pairs)))
    if has_active and alarms > usual + max(ALARMS_MORE, ALARM_RATE_MORE * rows):
        return Verdict("shadow", f"it alarms on {alarms} of the last {rows} readings, the active model on {usual}")
    p95_ms = max(new.p95_ms for _, new in pairs)
    if p95_ms > needs.p95_ms:
        text = f"a run on live readings takes {p95_ms:.3g} ms; {needs.p95_ms:g} ms are signed"
        return Verdict("shadow", text, p95_ms)
    compared = f", {usual} by the active model ({max(old.p95_ms for old, _ in pairs):.3g} ms)" if has_active else ""
    return Verdict("", f"{rows} live readings, {alarms} alarms{compared}, p95 {p95_ms:.3g} ms", p95_ms)


def score(folder: Path, view: View, stamps_us: Sequence[int], values: NDArray[np.float64]) -> Side:
    """One model over the rows of a view; the first part of them it only learns from."""
    from edge_agent.detect.contract import Fit, load_model
    from edge_agent.detect.errors import ModelRefused
    from edge_agent.detect.runner import Runner
    from edge_agent.detect.session import Session

    try:
        session = Session(load_model(folder))
        least = max(ROWS_MIN, session.model.manifest.bins.per_calibration)
        learn = min(view.calibration_rows or session.model.manifest.calibration.rows, int(len(values) * LEARN_SHARE))
        if learn < least or len(values) - learn < ROWS_MIN:
            return Side(problem=f"{len(values)} live readings; {max(2 * least, least + ROWS_MIN)} are needed")
        runner = Runner(session, calibration_rows=learn, threshold=view.threshold)
        lane = runner.add([Fit(one.name, one.unit, one.kind, one.resolution) for one in view.inputs], view.interval_s)
    except ModelRefused as error:
        return Side(problem=str(error))
    spent: list[int] = []
    alarms = 0
    for row, stamp_us in enumerate(stamps_us):
        began = time.thread_time_ns()
        verdict = lane.step(stamp_us, values[row])
        if row >= learn:
            spent.append(time.thread_time_ns() - began)
            alarms += bool((np.nan_to_num(verdict.scores) >= runner.threshold).any())
    return Side(len(spent), alarms, lane.failures, sorted(spent)[int(len(spent) * 0.95)] / 1e6)


def main() -> None:
    """See the module."""
    limit()
    active, candidate, ring = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    sides = []
    for view in msgspec.json.decode(sys.stdin.buffer.read(), type=list[View]):
        stamps_us, values = rows_of(view, ring)
        sides.append(score(Path(active), view, stamps_us, values) if active != NONE else Side())
        sides.append(score(candidate, view, stamps_us, values))
    sys.stdout.buffer.write(msgspec.json.encode(sides))


def _copy(ring: Path) -> bytes:
    """The ring as it is now; a record that is being written has no good CRC, and is left out."""
    try:
        return ring.read_bytes()
    except FileNotFoundError:
        return b""


@contextmanager
def _memory_file(data: bytes) -> Iterator[int]:
    """A descriptor of a file in memory, at its beginning."""
    descriptor = os.memfd_create("shadow")
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()
