"""Start a program under a seccomp filter that hands its I2C calls to a supervisor. Run by `i2c_seccomp`, as a script.

Usage: i2c_launcher.py SOCKET_FD COMMAND [ARGUMENT...]. Imports the standard library alone, so that it starts at once.
The filter sends every open, and every ioctl of I2C or of a tty's settings, to the listener that goes over the
socket; everything else runs as ever. Linux 5.9 (SECCOMP_IOCTL_NOTIF_ADDFD) or later; no privilege is needed.
"""

import ctypes
import os
import platform
import signal
import socket
import struct
import sys

# uapi: asm/unistd.h and linux/audit.h per machine: seccomp, ioctl, openat, open (None: the machine has none).
MACHINES = {
    "x86_64": (0xC000003E, 317, 16, 257, 2),
    "aarch64": (0xC00000B7, 277, 29, 56, None),
}
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
SECCOMP_SET_MODE_FILTER = 1
NEW_LISTENER, WAIT_KILLABLE_RECV = 1 << 3, 1 << 5  # the second since 5.19: a call is not cut off and done twice
LOAD_WORD, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL, RETURN = 0x20, 0x15, 0x25, 0x35, 0x06
ALLOW, USER_NOTIFY = 0x7FFF0000, 0x7FC00000
AT_NUMBER, AT_MACHINE, AT_ARGUMENT_1 = 0, 4, 24  # struct seccomp_data; the low half of an argument comes first
I2C_FIRST, I2C_LAST = 0x0700, 0x0720  # linux/i2c-dev.h
TTY_FIRST, TTY_LAST = 0x5401, 0x5404  # asm-generic/ioctls.h: TCGETS, TCSETS, TCSETSW, TCSETSF
UNUSED_NUMBER = 0xFFFFFFFF


def program(machine: str) -> bytes:
    """The filter in BPF: struct sock_filter (code, jump if true, jump if false, constant)."""
    audit, _, ioctl, openat, open_ = MACHINES[machine]
    lines = (
        (LOAD_WORD, 0, 0, AT_MACHINE),
        (JUMP_EQUAL, 0, 10, audit),  # another ABI: allow
        (LOAD_WORD, 0, 0, AT_NUMBER),
        (JUMP_EQUAL, 7, 0, openat),
        (JUMP_EQUAL, 6, 0, UNUSED_NUMBER if open_ is None else open_),
        (JUMP_EQUAL, 0, 6, ioctl),
        (LOAD_WORD, 0, 0, AT_ARGUMENT_1),
        (JUMP_GREATER_EQUAL, 0, 4, I2C_FIRST),
        (JUMP_GREATER, 0, 2, I2C_LAST),
        (JUMP_GREATER_EQUAL, 0, 2, TTY_FIRST),
        (JUMP_GREATER, 1, 0, TTY_LAST),
        (RETURN, 0, 0, USER_NOTIFY),
        (RETURN, 0, 0, ALLOW),
    )
    return b"".join(struct.pack("HBBI", *line) for line in lines)


class SockFprog(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install() -> int:
    """Put the filter over this process and all it starts. Returns the listener; raises OSError with the reason."""
    machine = platform.machine()
    if machine not in MACHINES:
        raise OSError(f"no system call numbers for {machine}")
    libc = ctypes.CDLL(None, use_errno=True)
    lines = program(machine)
    buffer = ctypes.create_string_buffer(lines, len(lines))
    fprog = SockFprog(len(lines) // 8, ctypes.addressof(buffer))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs: " + os.strerror(ctypes.get_errno()))
    seccomp = MACHINES[machine][1]
    for flags in (NEW_LISTENER | WAIT_KILLABLE_RECV, NEW_LISTENER):
        listener: int = libc.syscall(seccomp, SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(fprog))
        if listener >= 0:
            return listener
    raise OSError(ctypes.get_errno(), "seccomp: " + os.strerror(ctypes.get_errno()))


def main() -> None:
    """Install, hand the listener over, wait for leave, become the command."""
    supervisor = socket.socket(fileno=int(sys.argv[1]))
    command = sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # without its supervisor every I2C call would fail
    try:
        listener = install()
    except OSError as error:
        supervisor.send(b"E" + str(error.strerror or error).encode())
        os._exit(99)
    socket.send_fds(supervisor, [b"K"], [listener])
    os.close(listener)
    if supervisor.recv(1) != b"G":
        os._exit(99)
    supervisor.close()
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)


if __name__ == "__main__":
    main()
