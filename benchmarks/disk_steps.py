"""Every step by which a Python program changes a folder: counted, failed on demand, replayed as a power cut.

It stands in for functions of `os` and for files opened to write, so any client runs unchanged. A power cut is worked
out from the list of steps, for the two ways in which file systems lose what was not fsynced:

- `nothing`: of what no fsync followed, neither bytes nor names are there;
- `names`: names are there, the bytes of a file that was not fsynced are not (what a rename without fsync risks).
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ALLOCATING = frozenset({"create", "write", "rename", "symlink", "mkdir", "fsync"})  # what a full disk refuses


@dataclass(frozen=True, slots=True)
class Step:
    """One change: `what` was done to `path`; `other` is the second path or a link's target, `data` the bytes."""

    what: str
    path: str
    other: str = ""
    offset: int = 0
    data: bytes = b""


class Steps:
    """What is done below `root` while `watching`. At step number `at` (from 0) the fault comes.

    `fault`: None counts only; `signal.SIGKILL` ends the process before the step; an errno raises it: ENOSPC at this and
    every later step that needs room, another one at this step alone.
    """

    def __init__(self, root: Path, fault: int | None = None, at: int = -1, *, kill: bool = False) -> None:
        self.done: list[Step] = []
        self._root = str(root)
        self._fault = fault
        self._at = at
        self._kill = kill
        self._open: dict[int, str] = {}
        self._real: dict[str, Any] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Stand in for `os` and `open` until the block ends."""
        stand_ins: dict[str, Any] = {
            name: getattr(self, f"_{name}") for name in ("write", "fsync", "ftruncate", "close", "symlink", "mkdir")
        }
        stand_ins |= {"open": self._os_open, "rename": self._rename, "replace": self._rename}
        stand_ins |= {"unlink": self._unlink, "remove": self._unlink}
        self._real = {name: getattr(os, name) for name in stand_ins} | {"file": io.open}
        for name, stand_in in stand_ins.items():
            setattr(os, name, stand_in)
        builtins.open = io.open = self._file
        try:
            yield
        finally:
            builtins.open = io.open = self._real["file"]
            for name in stand_ins:
                setattr(os, name, self._real[name])

    def _step(self, what: str, path: str, other: str = "", offset: int = 0, data: bytes = b"") -> None:
        number = len(self.done)
        if self._kill and number == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault is not None and number >= self._at:
            full = self._fault == errno.ENOSPC and what in ALLOCATING
            if full or (self._fault != errno.ENOSPC and number == self._at):
                self.done.append(Step("fault", path))
                raise OSError(self._fault, os.strerror(self._fault), path)
        self.done.append(Step(what, path, other, offset, data))

    def _ours(self, path: Any) -> str | None:
        text = os.fspath(path) if not isinstance(path, int) else self._open.get(path, "")
        return text if isinstance(text, str) and text.startswith(self._root) else None

    def _os_open(self, path: Any, flags: int, mode: int = 0o777, **rest: Any) -> int:
        name = self._ours(path)
        if name and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            if not os.path.lexists(name):
                self._step("create", name)
            elif flags & os.O_TRUNC:
                self._step("truncate", name)
        descriptor: int = self._real["open"](path, flags, mode, **rest)
        if name:
            self._open[descriptor] = name
        return descriptor

    def _write(self, descriptor: int, data: Any) -> int:
        if name := self._open.get(descriptor):
            self._step("write", name, offset=os.lseek(descriptor, 0, os.SEEK_CUR), data=bytes(data))
        written: int = self._real["write"](descriptor, data)
        return written

    def _fsync(self, descriptor: int) -> None:
        if name := self._open.get(descriptor):
            self._step("fsync", name)  # the real one would only cost time

    def _ftruncate(self, descriptor: int, length: int) -> None:
        if name := self._open.get(descriptor):
            self._step("truncate", name, offset=length)
        self._real["ftruncate"](descriptor, length)

    def _close(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)
        self._real["close"](descriptor)

    def _rename(self, source: Any, target: Any, **rest: Any) -> None:
        if name := self._ours(target):
            self._step("rename", str(os.fspath(source)), name)
        self._real["rename"](source, target, **rest)

    def _unlink(self, path: Any, **rest: Any) -> None:
        if (name := self._ours(path)) and os.path.lexists(name):
            self._step("unlink", name)
        self._real["unlink"](path, **rest)

    def _symlink(self, source: Any, target: Any, **rest: Any) -> None:
        if name := self._ours(target):
            self._step("symlink", name, str(source))
        self._real["symlink"](source, target, **rest)

    def _mkdir(self, path: Any, mode: int = 0o777, **rest: Any) -> None:
        if (name := self._ours(path)) and not os.path.lexists(name):
            self._step("mkdir", name)
        self._real["mkdir"](path, mode, **rest)

    def _file(self, file: Any, mode: str = "r", *rest: Any, opener: Any = None, **more: Any) -> Any:
        """`open`: a file to write goes through our `os.write`, the rest as ever."""
        if isinstance(file, int) or not self._ours(file) or not set(mode) & set("wax+"):
            return self._real["file"](file, mode, *rest, opener=opener, **more)
        flags = os.O_RDWR | os.O_CREAT | (os.O_TRUNC if "w" in mode else 0) | os.O_CLOEXEC
        descriptor = opener(file, flags) if opener else os.open(file, flags, 0o666)
        return io.BufferedRandom(_Raw(descriptor))


class _Raw(io.RawIOBase):
    """A descriptor whose writes are steps."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.name = descriptor

    def readable(self) -> bool:
        """See `io`."""
        return True

    def writable(self) -> bool:
        """See `io`."""
        return True

    def seekable(self) -> bool:
        """See `io`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See `io`."""
        data = os.read(self._descriptor, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        """See `io`."""
        return os.write(self._descriptor, data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """See `io`."""
        return os.lseek(self._descriptor, offset, whence)

    def close(self) -> None:
        """See `io`."""
        if not self.closed:
            super().close()
            os.close(self._descriptor)


@dataclass(eq=False)
class _Node:
    """A file's bytes now and as the disk has them; a link's target; or a folder."""

    live: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    link: str = ""
    folder: bool = False


class PowerCut:
    """A folder as the disk has it, step by step."""

    def __init__(self, root: Path) -> None:
        """From a folder whose state is durable."""
        self._live: dict[str, _Node] = {str(root): _Node(folder=True)}
        for path in root.rglob("*"):
            node = _Node(folder=path.is_dir() and not path.is_symlink())
            if path.is_symlink():
                node.link = os.readlink(path)
            elif path.is_file():
                node.durable = path.read_bytes()
                node.live = bytearray(node.durable)
            self._live[str(path)] = node
        self._names = dict(self._live)  # as they are durable

    def take(self, step: Step) -> None:
        """One more step was done."""
        act: Callable[[Step], None] = getattr(self, f"_take_{step.what}")
        act(step)

    def _take_create(self, step: Step) -> None:
        self._live[step.path] = _Node()

    def _take_mkdir(self, step: Step) -> None:
        self._live[step.path] = _Node(folder=True)

    def _take_symlink(self, step: Step) -> None:
        self._live[step.path] = _Node(link=step.other)

    def _take_truncate(self, step: Step) -> None:
        del self._live[step.path].live[step.offset :]

    def _take_write(self, step: Step) -> None:
        live = self._live[step.path].live
        live.extend(bytes(max(0, step.offset - len(live))))
        live[step.offset : step.offset + len(step.data)] = step.data

    def _take_rename(self, step: Step) -> None:
        self._live[step.other] = self._live.pop(step.path)

    def _take_unlink(self, step: Step) -> None:
        del self._live[step.path]

    def _take_fsync(self, step: Step) -> None:
        node = self._live[step.path]
        node.durable = bytes(node.live)
        if node.folder:
            self._names = {name: one for name, one in self._names.items() if _folder(name) != step.path} | {
                name: one for name, one in self._live.items() if _folder(name) == step.path
            }

    def write(self, kind: str, root: Path, image: Path) -> None:
        """What a power cut now leaves, written to `image` in place of `root`. `kind`: see the module."""
        names = self._names if kind == "nothing" else self._live
        for name in sorted(names):
            node, path = names[name], image / Path(name).relative_to(root)
            if node.folder:
                path.mkdir(parents=True, exist_ok=True)
            elif path.parent.is_dir():
                if node.link:
                    path.symlink_to(node.link)
                else:
                    path.write_bytes(node.durable)


def _folder(name: str) -> str:
    return name.rpartition("/")[0]
