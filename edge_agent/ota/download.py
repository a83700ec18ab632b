"""One signed file from any of several servers: resumed where it stopped, checked whole, named last."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.ota.durable import Growing, make_folder, name_durable
from edge_agent.ota.errors import FetchFailed, StorageFailed, TargetRejected
from edge_agent.ota.fetch import READ_BYTES, Fetcher
from wire.clock import NS_PER_S, Clock

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile

PART_SUFFIX = ".part"
SYNC_BYTES = 1 << 20  # at most so much is fetched again after a power cut
ALGORITHMS = ("sha256", "sha384", "sha512")
ROOM_SHARE = 0.1  # of the file, left free beside it


class Download:
    """Brings the file that `target` describes to `path`. Until it is whole and checked it has another, hidden name."""

    def __init__(self, fetcher: Fetcher, clock: Clock, target: TargetFile, path: Path, deadline_s: float) -> None:
        if not target.hashes.keys() <= set(ALGORITHMS):
            raise TargetRejected(f"{target.path}: hashes by {', '.join(target.hashes)}, not by {', '.join(ALGORITHMS)}")
        self._fetcher = fetcher
        self._clock = clock
        self._target = target
        self._path = path
        digest = next(iter(target.hashes.values()))
        self._part = path.with_name(f".{hashlib.sha256(digest.encode()).hexdigest()[:32]}{PART_SUFFIX}")
        self._until_ns = clock.boottime_ns() + int(deadline_s * NS_PER_S)
        self._validators: dict[str, str] = {}  # URL → the server's name for the version that the part is of

    def run(self, urls: Sequence[str]) -> None:
        """Fetch it, from one URL after the other, as long as a round over all of them brings something.

        Raises:
            FetchFailed: no server gives all of it; what came is kept for the next attempt.
            TargetRejected: each server's file is another than the signed one.
            StorageFailed: no room, or the disk refuses.
        """
        try:
            if self._is_signed(self._path):
                return
            make_folder(self._path.parent)
            self._require_room()
            while True:
                before = self._have()
                problem = self._round(urls)
                if problem is None:
                    return
                if self._have() <= before:
                    raise problem
        except OSError as error:
            if error.errno == errno.ENOSPC:  # half a file that cannot be ended is room for others
                with suppress(OSError):
                    os.unlink(self._part)
            raise StorageFailed.of(self._path, error) from error

    def _round(self, urls: Sequence[str]) -> FetchFailed | TargetRejected | None:
        """Each server once. None when the file is there, else what the last one did."""
        problem: FetchFailed | TargetRejected | None = None
        for url in urls:
            resumed = self._have() > 0
            try:
                self._append(url)
                if problem := self._problem(url):
                    if not resumed:
                        continue
                    self._append(url)  # the part may have been of another file, or damaged: once more from 0
                    if problem := self._problem(url):
                        continue
                name_durable(self._part, self._path)
                return None
            except FetchFailed as error:
                problem = error
        return problem

    def _append(self, url: str) -> None:
        """Read from the server what is missing, and never a byte more than was signed."""
        have = self._have()
        if have == self._target.length and have:
            return
        validator = self._validators.get(url, "")
        with self._fetcher.open(url, have, validator) as body, Growing(self._part, body.offset) as file:
            self._validators[url] = body.validator
            left, unsynced = self._target.length - body.offset, 0
            while left:
                data = body.read(min(left, READ_BYTES))
                if not data:
                    raise FetchFailed(f"{url} ends {left} bytes early", "cut_short")
                file.write(data)
                left -= len(data)
                unsynced += len(data)
                if unsynced >= SYNC_BYTES:
                    file.sync()
                    unsynced = 0
                if self._clock.boottime_ns() > self._until_ns:
                    raise FetchFailed(f"{url}: the download took too long, {left} bytes are missing", "too_slow")

    def _have(self) -> int:
        """Bytes of the part that is there; a part that is longer than the file can be is none."""
        try:
            size = self._part.lstat().st_size
        except FileNotFoundError:
            return 0
        return size if size <= self._target.length else 0

    def _problem(self, url: str) -> TargetRejected | None:
        """What is wrong with the part, which is then gone; None when it is the signed file."""
        if self._is_signed(self._part):
            return None
        os.unlink(self._part)
        self._validators.clear()
        return TargetRejected(f"{url} is not the {self._target.path} that was signed")

    def _is_signed(self, path: Path) -> bool:
        hashers = [hashlib.new(algorithm) for algorithm in self._target.hashes]
        length = 0
        try:
            with path.open("rb") as file:
                while data := file.read(READ_BYTES):
                    length += len(data)
                    for hasher in hashers:
                        hasher.update(data)
        except FileNotFoundError:
            return False
        digests = [hasher.hexdigest() for hasher in hashers]
        return length == self._target.length and digests == list(self._target.hashes.values())

    def _require_room(self) -> None:
        """Raises OSError when the disk cannot take the rest of the file and a tenth of it."""
        disk = os.statvfs(self._path.parent)
        needed = int(self._target.length * (1 + ROOM_SHARE)) - self._have()
        free = disk.f_bavail * disk.f_frsize
        if needed > free:
            raise OSError(errno.ENOSPC, f"{needed} bytes are needed, {free} are free")
