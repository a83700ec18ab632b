"""The checker, and processes that do not outlive who started them."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from simulator.lab.count import Count, Cycle, count
from simulator.lab.gateway import cycles_of
from simulator.lab.processes import LabFailed, Process, wait_until
from wire.reading import CellState, Tick

A, B, C, D = (1, 10, 100), (2, 20, 200), (3, 30, 300), (4, 40, 400)


@pytest.mark.parametrize(
    ("journalled", "in_flight", "stored", "expected"),
    [
        ([A, B, C], [], [A, B, C], Count(taken=9, stored=9)),
        ([A, B, C], [], [C, A, B, D], Count(taken=9, stored=9)),
        ([A, B, C], [], [A, C], Count(taken=9, stored=6, lost=3)),
        ([A, B, C], [], [A, B, C, B], Count(taken=9, stored=9, doubled=3)),
        ([A, B, C], [], [A, B, C, (9, 9, 9)], Count(taken=9, stored=9, foreign=3)),
        ([A, B, C], [], [A, B, C[:2]], Count(taken=9, stored=6, lost=3, foreign=3)),
        ([A, B], [C], [A, B], Count(taken=6, stored=6, in_flight=3)),
        ([A, B], [], [A, B], Count(taken=6, stored=6, lost=3)),
        ([], [], [], Count(lost=9)),
    ],
    ids=["whole", "later-ones", "lost", "doubled", "foreign", "half-a-cycle", "in-flight", "never-journalled", "none"],
)
def test_what_is_wrong_is_counted(
    journalled: Sequence[Cycle], in_flight: Sequence[Cycle], stored: Sequence[Cycle], expected: Count
) -> None:
    result = count([A, B, C], [A, B, C, D], journalled, in_flight, stored)
    assert result == expected
    assert result.holds == (not (expected.lost or expected.doubled or expected.foreign) and expected.taken > 0)


def test_nothing_counted_is_not_a_success() -> None:
    assert not Count().holds
    assert Count(taken=1, stored=1).holds
    assert Count(taken=1, lost=1) + Count(taken=2, in_flight=3) == Count(taken=3, lost=1, in_flight=3)


def test_cycles_of_a_tick_leave_gaps_out() -> None:
    gap = bytes([CellState.VALUE] * 3 + [CellState.NO_ANSWER] * 3)
    assert cycles_of(Tick(1, 0, (*A, *B)), 3) == [A, B]
    assert cycles_of(Tick(1, 0, (*A, 0, 0, 0), gap), 3) == [A]


def test_a_process_ends_with_its_starter(tmp_path: Path) -> None:
    code = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from simulator.lab.processes import Process
        child = Process("child", [sys.executable, "-c", "import time; time.sleep(60)"], Path(sys.argv[1]))
        print(child.pid, flush=True)
        time.sleep(60)
    """)
    command = [sys.executable, "-c", code, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        time.sleep(0.1)  # past its becoming the command
        os.kill(pid, 0)
        starter.kill()
    end = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and "zombie" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < end, "the child lives on"
        time.sleep(0.02)


def test_a_process_is_stopped_in_order_and_its_log_shown(tmp_path: Path) -> None:
    process = Process("child", ["sh", "-c", "echo hello; exec sleep 60"], tmp_path / "log")
    wait_until(lambda: "hello" in (tmp_path / "log").read_text(), 5, process, "greeting")
    with pytest.raises(LabFailed, match=r"waited 0 s in vain\. child runs; its log ends:\n  hello"):
        wait_until(lambda: False, 0, process, "more")
    process.stop()
    assert process.exit_code == -signal.SIGTERM
    missing = Process("none", ["no-such-command"], tmp_path / "log2")
    with pytest.raises(LabFailed, match="exit code 127"):
        wait_until(lambda: False, 5, missing, "start")
