"""Another machine for a process: its clocks, its boot id, its serial number, as a library under an unmodified program.

`other_machine.c` beside this file is compiled once per run; a C compiler is needed. libfaketime will not do: with it
Python's sleeps fail. Time namespaces do not cover the wall clock.
"""

from __future__ import annotations

import mmap
import secrets
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from wire.clock import NS_PER_S, SystemClock

SOURCE = Path(__file__).with_name("other_machine.c")
CLOCK = struct.Struct("<qqqq")  # `struct clock_file` of the source
MACHINE_ID = 32 * "a"  # of every machine: a copied card carries it along
UNCERTAIN_US = 16_000_000  # what a kernel says of a clock that nobody has set


def compiler() -> str | None:
    """A C compiler; None where there is none."""
    return shutil.which("cc") or shutil.which("gcc")


def build(folder: Path) -> Path:
    """The library, in `folder`. Raises CalledProcessError when it cannot be compiled."""
    library = folder / "other_machine.so"
    command = [str(compiler()), "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library)]
    subprocess.run([*command, str(SOURCE), "-ldl"], check=True)
    return library


class OtherMachine:
    """One machine. Offsets are against the machine that the tests run on, in seconds."""

    def __init__(self, folder: Path, library: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._library = library
        (folder / "machine-id").write_text(f"{MACHINE_ID}\n", encoding="ascii")
        (folder / "serial-number").write_bytes(secrets.token_hex(8).encode() + b"\0")
        (folder / "clock").write_bytes(bytes(CLOCK.size))
        with (folder / "clock").open("r+b") as file:
            self._clock = mmap.mmap(file.fileno(), CLOCK.size)
        self._boot_ns = 0
        self.reboot()

    @property
    def environment(self) -> Mapping[str, str]:
        """Of processes that run on it."""
        return {"LD_PRELOAD": str(self._library), "TIDEGATE_MACHINE": str(self._folder)}

    def reboot(self, wall_error_s: float = 0.0, *, synchronised: bool = True) -> None:
        """A new boot, its boot clock near zero. Only while no process runs on it."""
        (self._folder / "boot_id").write_text(f"{secrets.token_hex(16)}\n", encoding="ascii")
        self._boot_ns = 2 * NS_PER_S - SystemClock().boottime_ns()
        self.set_clock(wall_error_s, synchronised=synchronised)

    def set_clock(self, wall_error_s: float, *, synchronised: bool) -> None:
        """The wall clock steps, and the kernel says whether a time source set it."""
        uncertain_us = 500 if synchronised else UNCERTAIN_US
        self._clock[:] = CLOCK.pack(round(wall_error_s * NS_PER_S), self._boot_ns, synchronised, uncertain_us)

    def close(self) -> None:
        """Let go of the clock's file."""
        self._clock.close()
