"""C's stderr taken over, in a process of its own: what is taken, and that all else comes out whatever happens."""

from __future__ import annotations

import subprocess
import sys

import pytest

PRELUDE = """
import ctypes, os, subprocess, sys, threading, time
from cloud_sync.grpc_api.core_log import CoreLog
libc = ctypes.CDLL(None)
def say(data):
    "As a C library does: fwrite to whatever `stderr` is now."
    stream = ctypes.c_void_p.in_dll(libc, "stderr")
    libc.fwrite(data, ctypes.c_size_t(1), ctypes.c_size_t(len(data)), stream)
taken = []
def take(line):
    if line.startswith(b"core "):
        taken.append(line)
    return line.startswith(b"core ")
def until(done):
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)
"""


def run(program: str, *, shell: str = "", code: int = 0) -> tuple[bytes, bytes]:
    """What it wrote on stdout and stderr; `shell`: a redirection to start it with."""
    command = [sys.executable, "-c", PRELUDE + program]
    if shell:
        command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
    ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert ended.returncode == code, ended.stderr
    return ended.stdout, ended.stderr


def test_lines_of_others_come_out_as_they_are() -> None:
    """Also what was written last before the end."""
    said = b"one\n\xff\x00\x1b[31m two\n\n" + b"x" * 10_000 + b"\nlast, without an end"
    out, told = run(
        f"""
assert CoreLog(take).open()
say(b"core 1\\n")
say(b"core " + b"y" * 10_000 + b"\\n")
say({said!r})
"""
    )
    assert (out, told) == (b"", said)


def test_every_line_of_every_thread_is_whole() -> None:
    _, told = run(
        """
assert CoreLog(take).open()
def many(number):
    for count in range(300):
        say(b"core %d %d\\n" % (number, count) if count % 2 else b"other %d %d\\n" % (number, count))
threads = [threading.Thread(target=many, args=(number,)) for number in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
until(lambda: len(taken) == 1200)
assert sorted(taken) == sorted(b"core %d %d\\n" % (n, c) for n in range(8) for c in range(1, 300, 2))
"""
    )
    assert sorted(told.splitlines()) == sorted(b"other %d %d" % (n, c) for n in range(8) for c in range(0, 300, 2))


def test_nobody_waits_for_a_reader_that_stands() -> None:
    """What does not fit is lost."""
    out, told = run(
        """
go = threading.Event()
def slow(line):
    go.wait(30)
    return take(line)
assert CoreLog(slow).open()
for _ in range(100_000):
    say(b"core " + b"z" * 94 + b"\\n")
go.set()
until(lambda: taken)
print(len(taken) < 100_000)
"""
    )
    assert (out, told) == (b"True\n", b"")


def test_a_mistake_in_the_taker_costs_no_line() -> None:
    _, told = run(
        """
def wrong(line):
    if line.startswith(b"bad"):
        raise RuntimeError("ours")
    return take(line)
assert CoreLog(wrong).open()
say(b"bad\\ncore 1\\ngood\\n")
until(lambda: taken)
assert taken == [b"core 1\\n"]
"""
    )
    lines = told.splitlines()
    assert (lines[-1], b"bad" in lines, b"RuntimeError: ours" in lines) == (b"good", True, True)


def test_children_are_not_touched() -> None:
    """One that is executed writes where we do; one that is only forked through us."""
    _, told = run(
        """
assert CoreLog(take).open()
subprocess.run(["sh", "-c", "echo executed >&2; ls /proc/self/fd | tr '\\\\n' ' ' >&2"], check=True)
child = os.fork()
if not child:
    say(b"forked\\ncore 1\\n")
    os._exit(0)
os.waitpid(child, 0)
until(lambda: taken)
assert taken == [b"core 1\\n"]
"""
    )
    assert told.startswith(b"executed\n0 1 2 3 "), "no descriptor of ours is passed on"
    assert told.endswith(b"forked\n")


@pytest.mark.parametrize("shell", ["2>&-", "0<&- 1>&- 2>&-"])
def test_standard_streams_that_are_closed_stay_so(shell: str) -> None:
    """Else a file of the service would get number 2, and whoever writes to stderr would write into it."""
    run(
        """
before = {number for number in range(3) if os.path.exists(f"/proc/self/fd/{number}")}
assert CoreLog(take).open()
say(b"core 1\\nother\\n")
until(lambda: taken)
after = {number for number in range(3) if os.path.exists(f"/proc/self/fd/{number}")}
os._exit(0 if taken == [b"core 1\\n"] and before == after else 1)
""",
        shell=shell,
    )


def test_a_full_disk_under_stderr_ends_nothing() -> None:
    run(
        """
assert CoreLog(take).open()
say(b"other\\ncore 1\\n")
until(lambda: taken)
assert taken == [b"core 1\\n"]
""",
        shell="2>/dev/full",
    )


@pytest.mark.parametrize(
    ("why", "spoil"),
    [
        ("no descriptor is left", "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))"),
        ("the C library is another", "os.confstr = lambda name: None"),
        ("the C library does not say", "def os_says(name):\n    raise ValueError\nos.confstr = os_says"),
    ],
)
def test_where_it_cannot_be_all_stays_as_it_was(why: str, spoil: str) -> None:
    _, told = run(
        f"""
import linecache, traceback, logging.handlers
{spoil}
assert not CoreLog(take).open()
say(b"core 1\\n")
assert not taken
"""
    )
    assert told.endswith(b"core 1\n"), why
