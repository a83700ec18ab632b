"""Become a command that dies with the process that started it. Run as a script; the standard library alone.

Usage: tied_child.py PARENT_PID COMMAND [ARGUMENT...]
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1  # prctl(2)


def tied(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` so that it gets SIGKILL when the calling thread ends."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    """Tie, check that the parent has not died already, become the command."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        os._exit(128 + signal.SIGKILL)
    command = sys.argv[2:]
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)


if __name__ == "__main__":
    main()
