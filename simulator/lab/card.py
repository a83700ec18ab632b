"""A card of its own for one real gateway: ext4 on a loop device, whose power can be cut. Needs root.

FS_IOC_SHUTDOWN (Linux, include/uapi/linux/fs.h) ends a mounted file system at once: what was not written to the device
by then, the journal included, is not there after the next mount.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

from simulator.lab.processes import LabFailed

SIZE_BYTES = 24 << 20
FS_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
BALLAST = "ballast"
NOLOGFLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH: do not even write the journal


class Card:
    """Use `insert`, then files below `mount_point` are on it."""

    def __init__(self, image: Path, mount_point: Path) -> None:
        self.mount_point = mount_point
        self._image = image

    def insert(self) -> None:
        """Make and mount it. Raises LabFailed."""
        with self._image.open("wb") as file:
            file.truncate(SIZE_BYTES)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self.mount_point.mkdir()
        self._mount()

    def cut_power(self) -> None:
        """Whatever is written from now on is refused, and what was not fsynced is gone."""
        folder = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, FS_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(folder)

    def power_on(self) -> None:
        """After a cut, when nobody has files open. Raises LabFailed.

        What is mounted then is a copy: a mount namespace made meanwhile (`ip netns exec` makes one) holds the dead file
        system, `umount` notwithstanding, and a second mount of the same image would be that one again.
        """
        _run("umount", str(self.mount_point))
        survivor = self._image.with_suffix(".survivor")
        shutil.copyfile(self._image, survivor)
        survivor.replace(self._image)
        self._mount()

    def fill(self) -> None:
        """Another program takes every byte."""
        with (self.mount_point / BALLAST).open("wb") as file:
            for size in (1 << 20, 1 << 16, 1 << 12, 1):
                with suppress(OSError):
                    while True:
                        os.write(file.fileno(), bytes(size))

    def free(self) -> None:
        """Undo `fill`."""
        (self.mount_point / BALLAST).unlink(missing_ok=True)

    def remove(self) -> None:
        """Never raises: the end of a trial."""
        subprocess.run(["umount", "-l", str(self.mount_point)], capture_output=True, check=False)
        self._image.unlink(missing_ok=True)

    def _mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.mount_point))


def no_cards(folder: Path) -> str:
    """Why this machine cannot have them; "" where it can."""
    if os.geteuid() != 0:
        return "it needs root"
    for program in ("mkfs.ext4", "mount", "umount"):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            return f"{program} is not installed"
    card = Card(folder / "probe.img", folder / "probe")
    try:
        card.insert()
        card.cut_power()
    except (LabFailed, OSError) as error:
        return str(error)
    finally:
        card.remove()
    return ""


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabFailed(f"{' '.join(command)}: {done.stderr.strip() or f'exit code {done.returncode}'}")
