"""Virtual /dev/i2c-N, and ttys with parity, for an unmodified program, by seccomp user notification. No root.

The program runs under the filter of `i2c_launcher`. Here its notifications are answered: an open of /dev/i2c-N gets
a memory file in its place, an I2C ioctl on that file is done by an `I2cLine`, the settings of a simulated tty are
kept by `Terminals`, all else goes on in the kernel.
Source: seccomp_unotify(2). Limits: `stat`, `access` and directory listings do not see the node; plain read(2) and
write(2) on it are not I2C messages; when the supervisor dies, so does the program.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simulator.i2c_ioctl import OpenFile
from simulator.i2c_launcher import MACHINES
from simulator.i2c_launcher import main as launcher_main
from simulator.i2c_line import I2cLine, LineFault
from simulator.reactor import Reactor
from simulator.serial.port import SerialPort
from simulator.serial.termios_calls import TERMIOS_BYTES, Terminals

# linux/seccomp.h: the ioctls of a listener and their structs.
NOTIF_RECV, NOTIF_SEND, NOTIF_ID_VALID, NOTIF_ADDFD = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103
NOTIFICATION = struct.Struct("<QIIiIQ6Q")  # id, thread, flags, call, machine, address, six arguments
RESPONSE = struct.Struct("<QqiI")  # id, value, error, flags
ADDFD = struct.Struct("<QIIII")  # id, flags, our descriptor, theirs, its flags
RESPONSE_CONTINUE = 1
ADDFD_SEND = 2  # since 5.14: inject and answer in one
NODE = re.compile(rb"/dev/i2c-(\d+)\0")
NODE_BYTES = 24
MEMFD_LINK = re.compile(r"/memfd:tidegate-i2c-(\d+) ")
LAUNCH_TIMEOUT_S = 10.0


class TransportRefused(Exception):
    """This machine does not allow the transport; the message says why."""


@dataclass(frozen=True, slots=True)
class CallerBlock:
    """A stretch of another process' memory (`Block`)."""

    memory: int  # /proc/PID/mem
    address: int
    length: int

    def load(self) -> bytes:
        """See `Block`. Raises LineFault(EFAULT) for memory that is not there, or a process that is gone."""
        try:
            data = os.pread(self.memory, self.length, self.address) if self.length else b""
        except (OSError, OverflowError) as error:
            raise LineFault(errno.EFAULT) from error
        if len(data) != self.length:
            raise LineFault(errno.EFAULT)
        return data

    def store(self, data: bytes) -> None:
        """See `Block`."""
        try:
            os.pwrite(self.memory, data, self.address)
        except (OSError, OverflowError) as error:
            raise LineFault(errno.EFAULT) from error

    def follow(self, offset: int, length: int) -> CallerBlock:
        """See `Block`."""
        pointer = struct.unpack_from("<Q", self.load(), offset)[0]
        return CallerBlock(self.memory, pointer, length)


class SeccompTransport:
    """Launches programs that see the lines as /dev/i2c-N."""

    name = "seccomp"

    def __init__(self, lines: Mapping[int, I2cLine], reactor: Reactor, ports: Sequence[SerialPort] = ()) -> None:
        self._lines = dict(lines)
        self._terminals = Terminals(ports)
        self._reactor = reactor
        self._files: dict[int, OpenFile] = {}  # by inode of the memory file
        self._held_lines: set[int] = set()

    def device(self, number: int) -> str:
        """What the program calls the bus."""
        return f"/dev/i2c-{number}"

    def launch(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start the command under the filter. Raises TransportRefused."""
        process, listener = _start(command, environment)
        poller = select.poll()
        poller.register(listener, select.POLLIN)

        def ready() -> None:
            events = poller.poll(0)
            if events and events[0][1] & select.POLLIN:
                self._serve(listener)
            elif events:  # hung up: the last process under the filter is gone
                self._reactor.forget(listener)
                os.close(listener)

        self._reactor.watch(listener, ready)
        return process

    def close(self) -> None:
        """Nothing is held beyond the programs' lives."""

    def _serve(self, listener: int) -> None:
        buffer = bytearray(NOTIFICATION.size)
        try:
            fcntl.ioctl(listener, NOTIF_RECV, buffer)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # the caller was killed in between
                return
            raise
        call = _Call(listener, buffer)
        if call.is_open:
            self._open(call)
        else:
            self._ioctl(call)

    def _open(self, call: _Call) -> None:
        match = NODE.match(call.path())
        if match is None or int(match[1]) not in self._lines:
            call.proceed()
            return
        number = int(match[1])
        file = os.memfd_create(f"tidegate-i2c-{number} ")
        try:
            self._files[os.fstat(file).st_ino] = OpenFile(self._lines[number])
            call.give_file(file)
        finally:
            os.close(file)

    def _ioctl(self, call: _Call) -> None:
        port = self._terminals.port(call.file())
        if port is not None:
            self._settings(call, port)
            return
        found = call.i2c_file()
        if found is None:
            call.proceed()
            return
        number, inode = found
        if number in self._held_lines:  # the adapter does one transaction at a time
            self._reactor.later(0.001, lambda: self._ioctl(call))
            return
        file = self._files[inode]
        try:
            with call.memory() as memory:
                value = file.ioctl(call.command, call.argument, lambda n: CallerBlock(memory.fd, call.argument, n))
        except LineFault as fault:
            code = fault.code
            if fault.hold_s:
                self._held_lines.add(number)
                self._reactor.later(fault.hold_s, lambda: self._release(call, number, code))
            else:
                call.answer(0, code)
            return
        call.answer(value, 0)

    def _settings(self, call: _Call, port: SerialPort) -> None:
        try:
            with call.memory() as memory:
                done = self._terminals.answer(port, call.command, CallerBlock(memory.fd, call.argument, TERMIOS_BYTES))
        except LineFault as fault:
            call.answer(0, fault.code)
            return
        if done:
            call.answer(0, 0)
        else:
            call.proceed()

    def _release(self, call: _Call, number: int, code: int) -> None:
        self._held_lines.discard(number)
        call.answer(0, code)


class _Memory:
    """/proc/PID/mem of a stopped caller, opened for one call: an exec would leave an older one behind."""

    def __init__(self, thread: int) -> None:
        try:
            self.fd = os.open(f"/proc/{thread}/mem", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise LineFault(errno.EFAULT) from error

    def __enter__(self) -> _Memory:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


class _Call:
    """One notification: a thread that waits in a system call."""

    def __init__(self, listener: int, buffer: bytearray) -> None:
        self._listener = listener
        self._id, self._thread, _, number, machine, _, *self._arguments = NOTIFICATION.unpack(buffer)
        _, _, ioctl, openat, _ = next(row for row in MACHINES.values() if row[0] == machine)
        self.is_open = number != ioctl
        self._path_at = 1 if number == openat else 0
        self.command = self._arguments[1] & 0xFFFFFFFF
        self.argument = self._arguments[2]

    def path(self) -> bytes:
        """The path that an open names, as far as it matters; empty when the caller is gone."""
        try:
            with self.memory() as memory:
                return os.pread(memory.fd, NODE_BYTES, self._arguments[self._path_at])
        except (LineFault, OSError, OverflowError):
            return b""

    def memory(self) -> _Memory:
        """The caller's memory, and surely his: the id is checked after opening, as seccomp_unotify(2) asks."""
        memory = _Memory(self._thread)
        try:
            fcntl.ioctl(self._listener, NOTIF_ID_VALID, struct.pack("<Q", self._id))
        except OSError as error:
            memory.__exit__()
            raise LineFault(errno.EFAULT) from error
        return memory

    def file(self) -> str:
        """What the descriptor of an ioctl is open on; empty when it is on nothing."""
        try:
            return os.readlink(self._descriptor)
        except OSError:
            return ""

    def i2c_file(self) -> tuple[int, int] | None:
        """Bus number and inode when the descriptor is one of ours."""
        match = MEMFD_LINK.match(self.file())
        try:
            return (int(match[1]), os.stat(self._descriptor).st_ino) if match else None
        except OSError:
            return None

    @property
    def _descriptor(self) -> str:
        return f"/proc/{self._thread}/fd/{self._arguments[0] & 0xFFFFFFFF}"

    def give_file(self, file: int) -> None:
        """Answer an open with our file."""
        wanted = self._arguments[self._path_at + 1] & os.O_CLOEXEC
        self._control(NOTIF_ADDFD, ADDFD.pack(self._id, ADDFD_SEND, file, 0, wanted))

    def proceed(self) -> None:
        """Let the kernel do the call."""
        self._control(NOTIF_SEND, RESPONSE.pack(self._id, 0, 0, RESPONSE_CONTINUE))

    def answer(self, value: int, code: int) -> None:
        """Return a value, or an errno."""
        self._control(NOTIF_SEND, RESPONSE.pack(self._id, value, -code, 0))

    def _control(self, command: int, request: bytes) -> None:
        try:
            fcntl.ioctl(self._listener, command, request)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EBADF):  # the caller was killed meanwhile
                raise


def probe() -> str:
    """Why this machine refuses the transport; empty when it does not."""
    if sys.platform != "linux":
        return f"seccomp is Linux', this is {sys.platform}"
    try:
        process, listener = _start(["/bin/true"], None, run=False)
    except TransportRefused as refused:
        return str(refused)
    process.wait(LAUNCH_TIMEOUT_S)
    os.close(listener)
    return ""


def _start(
    command: Sequence[str], environment: Mapping[str, str] | None, run: bool = True
) -> tuple[subprocess.Popen[bytes], int]:
    """The launcher's process and the listener it sent; without `run` it ends there."""
    ours, theirs = socket.socketpair()
    ours.settimeout(LAUNCH_TIMEOUT_S)
    launcher = Path(launcher_main.__code__.co_filename).resolve()
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(launcher), str(theirs.fileno()), *command],
                pass_fds=(theirs.fileno(),),
                env=None if environment is None else dict(environment),
            )
        try:
            message, files, _, _ = socket.recv_fds(ours, 300, 1)
        except TimeoutError:
            message, files = b"Eno answer from the launcher", []
        if message[:1] != b"K" or not files:
            process.kill()
            process.wait()
            raise TransportRefused(message[1:].decode(errors="replace") or "the launcher died")
        try:
            os.close(os.open(f"/proc/{process.pid}/mem", os.O_RDWR))
        except OSError as error:
            process.kill()
            process.wait()
            os.close(files[0])
            raise TransportRefused(f"a program's memory may not be read ({error.strerror}; ptrace_scope?)") from error
        if run:
            ours.send(b"G")
        return process, files[0]
