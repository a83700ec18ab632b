"""A bench: simulated parts on buses, one program that uses them, and a socket to break things while it runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from simulator import transport
from simulator.chips.chip import Fault, GivenOut, I2cChip
from simulator.control import Command, ControlServer, Refusal
from simulator.i2c_line import I2cLine
from simulator.parts import CHIPS, Part, PlannedFault, SpecInvalid, parse_fault_name
from simulator.reactor import Reactor
from simulator.serial.port import SerialPort
from simulator.serial.serve import PortSpec
from simulator.world import World
from wire.clock import NS_PER_S, Clock

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class GivenOutLog:
    """Appends one JSON line for each conversion that a part hands out, before the program gets it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.count = 0

    def of(self, part: Part) -> GivenOut:
        """The port for one part."""
        return partial(self._append, part.name)

    def _append(self, name: str, values: Sequence[int | None]) -> None:
        self.count += 1
        os.write(self._file, json.dumps({"part": name, "raw": list(values)}).encode() + b"\n")

    def close(self) -> None:
        """Release the file."""
        os.close(self._file)


class Bench:
    """Parts, transport, program. Single-threaded: everything runs in `run`."""

    def __init__(
        self,
        parts: Sequence[Part],
        clock: Clock,
        seed: int,
        transport_name: str,
        *,
        log: Path | None = None,
        socket_dir: Path | None = None,
        faults: Sequence[PlannedFault] = (),
        ports: Sequence[PortSpec] = (),
    ) -> None:
        """Raises SpecInvalid for two parts at one address or a fault of none, TransportRefused, OSError (a link)."""
        self._clock = clock
        self._reactor = Reactor(clock)
        self._log = GivenOutLog(log) if log is not None else None
        self._lines = self._make_lines(parts, seed)
        for planned in faults:
            self._plan(planned)
        self._folder: Path | None = None  # made for sockets, where no other was given
        if socket_dir is None and transport_name != "seccomp":
            socket_dir = self._folder = Path(tempfile.mkdtemp(prefix="edge-sim-"))
        self._ports: list[SerialPort] = []
        try:
            self._ports += (port.make(clock) for port in ports)
            folder = socket_dir or Path()
            self._transport = transport.make(transport_name, self._lines, self._reactor, folder, self._ports)
        except BaseException:
            self._release_ports()
            raise
        self._control: ControlServer | None = None
        self._command: Sequence[str] = ()
        self._program: subprocess.Popen[bytes] | None = None
        self._expected_end = False
        self._exit_code = 0

    def device(self, number: int) -> str:
        """What the program must call bus `number`."""
        return self._transport.device(number)

    def listen(self, path: Path) -> None:
        """Take commands on a Unix socket: `status`, `fault`, `kill`, `start`, `stop`."""
        commands: dict[str, Command] = {
            "status": self._status,
            "fault": self._set_fault,
            "kill": self._kill,
            "start": self._start_again,
            "stop": self._stop,
        }
        self._control = ControlServer(path, self._reactor, commands)

    def run(self, command: Sequence[str]) -> int:
        """Run the program until it ends by itself (its exit code, 128 + n for signal n), or until `stop`.

        An empty command serves until a signal. A program that `kill` ended is waited for, to be started again.
        """
        self._command = command
        for number in FORWARDED:
            signal.signal(number, self._forward)
        wake, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker)
        self._reactor.watch(wake, partial(_drain, wake))
        if command:
            self._start()
        try:
            self._reactor.run()
        finally:
            self._end()
            signal.set_wakeup_fd(-1)
            os.close(wake)
            os.close(waker)
        return self._exit_code

    def _make_lines(self, parts: Sequence[Part], seed: int) -> dict[int, I2cLine]:
        lines: dict[int, I2cLine] = {}
        for index, part in enumerate(parts):
            line = lines.setdefault(part.bus, I2cLine(part.bus, {}))
            if part.address in line.chips:
                raise SpecInvalid(f"two parts at {part.name}")
            world = World(seed * 1000 + index)
            given_out = self._log.of(part) if self._log else None
            line.chips[part.address] = CHIPS[part.chip](
                lambda world=world: world.at(self._clock.wall_ns() / NS_PER_S),
                self._clock,
                seed * 1000 + index,
                given_out,
            )
        return lines

    def _chip(self, bus: int, address: int) -> I2cChip:
        chip = self._lines[bus].chips.get(address) if bus in self._lines else None
        if chip is None:
            raise SpecInvalid(f"no part at i2c-{bus}/0x{address:02x}")
        return chip

    def _plan(self, planned: PlannedFault) -> None:
        chip = self._chip(planned.bus, planned.address)
        self._reactor.later(planned.start_s, partial(setattr, chip, "fault", planned.fault))
        if planned.end_s is not None:
            self._reactor.later(planned.end_s, partial(setattr, chip, "fault", Fault.NONE))

    def _start(self) -> None:
        program = self._transport.launch(self._command)
        self._program = program
        self._expected_end = False
        ended = os.pidfd_open(program.pid)

        def reap() -> None:
            self._reactor.forget(ended)
            os.close(ended)
            code = program.wait()
            if not self._expected_end:
                self._exit_code = code if code >= 0 else 128 - code
                self._reactor.stop()

        self._reactor.watch(ended, reap)

    def _forward(self, number: int, _: Any) -> None:
        from_terminal = number == signal.SIGINT and sys.stdin.isatty()  # then the program has it already
        if self._program is None or self._program.poll() is not None:
            self._exit_code = 128 + number
            self._reactor.stop()
        elif not from_terminal:
            self._program.send_signal(number)

    def _end(self) -> None:
        if self._program is not None and self._program.poll() is None:
            self._program.kill()
            self._program.wait()
        if self._control is not None:
            self._control.close()
        self._transport.close()
        self._release_ports()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._reactor.close()
        if self._log is not None:
            self._log.close()

    def _release_ports(self) -> None:
        for port in self._ports:
            port.close()

    # What the control socket offers.

    def _running(self) -> subprocess.Popen[bytes]:
        if self._program is None or self._program.poll() is not None:
            raise Refusal("the program does not run")
        return self._program

    def _status(self) -> dict[str, Any]:
        program = self._program
        parts = [
            {"bus": line.number, "address": address, "fault": chip.fault.value}
            for line in self._lines.values()
            for address, chip in line.chips.items()
        ]
        return {
            "transport": self._transport.name,
            "pid": program.pid if program is not None and program.poll() is None else None,
            "given_out": self._log.count if self._log else None,
            "transactions": {str(line.number): line.transactions for line in self._lines.values()},
            "parts": parts,
        }

    def _set_fault(self, bus: int, address: int, fault: str) -> dict[str, Any]:
        try:
            self._chip(bus, address).fault = parse_fault_name(fault)
        except SpecInvalid as error:
            raise Refusal(str(error)) from error
        return {}

    def _kill(self, number: int = signal.SIGKILL) -> dict[str, Any]:
        """End the program by a signal and wait for its end; the parts live on."""
        program = self._running()
        self._expected_end = True
        program.send_signal(number)
        try:
            code = program.wait(20)
        except subprocess.TimeoutExpired as error:
            self._expected_end = False
            raise Refusal(f"the program did not end 20 s after signal {number}") from error
        return {"pid": program.pid, "exit_code": code}

    def _start_again(self) -> dict[str, Any]:
        if self._program is not None and self._program.poll() is None:
            raise Refusal("the program runs already")
        if not self._command:
            raise Refusal("no command was given to edge-sim bus")
        self._start()
        assert self._program is not None
        return {"pid": self._program.pid}

    def _stop(self) -> dict[str, Any]:
        self._reactor.stop()
        return {}


def _drain(file: int) -> None:
    """Signals wake the loop through a pipe; their numbers are not needed."""
    os.read(file, 64)
