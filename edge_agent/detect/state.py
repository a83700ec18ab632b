"""Detector state as bytes: one full image, then only the cells that changed. `docs/formats/detector-state.md`.

Rings that are written in place change a few cells a run, so a commit saves some hundred bytes instead of all. A slot
keeps its size and is written over, not deleted: `edge_agent.outbox.slots` says why.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.detect.errors import StateRefused
from edge_agent.outbox.slots import slot_size

Arrays = dict[str, NDArray[Any]]

FULL, CHANGES = b"TGD1", b"TGd2"
HEAD = struct.Struct("<4sI")  # magic, CRC-32 of all that follows
PLACE = struct.Struct("<II")  # CRC-32 of the image's body, number of the change
COUNT = struct.Struct("<I")
DENSE = (1 << 32) - 1  # in place of a count: the whole array, because half of its cells or more changed
IMAGE_BYTES_MAX = 64 << 20
CHANGES_MAX = 4096
IMAGE_SHARE = 2  # changes may weigh as many images before a new one is written


@dataclass(frozen=True, slots=True)
class SavedState:
    """What was read back: `identity` of the model or rules, the boot its stamps count from, rows by name, arrays."""

    identity: str
    boot: int
    names: tuple[str, ...]
    arrays: Arrays


@dataclass(frozen=True, slots=True)
class StateChange:
    """For the outbox transaction: slots to write and slots to delete. Slot names begin with the log's key."""

    put: dict[str, bytes]
    delete: tuple[str, ...] = ()


class StateLog:
    """Writes one component's state. `changes` is asked in each commit and assumes that the commit succeeds; when it
    does not, call `again`: the next change is a full image.
    """

    def __init__(self, key: str, identity: str, boot: int, names: Sequence[str]) -> None:
        self.key = key
        self._identity = identity
        self._boot = boot
        self._names = tuple(names)
        self._saved: Arrays | None = None
        self._image = 0  # CRC of the full image that changes refer to
        self._image_bytes = 0
        self._changes_bytes = 0
        self._count = 0
        self._serial = 0  # makes every image another one, so that changes left behind are known as such
        self._slots: dict[int, bytes] = {}  # by number, as they were written last

    def again(self) -> None:
        """Forget what is saved; the next change is a full image, and those that may be there lose their meaning."""
        self._saved = None

    def changes(self, arrays: Arrays) -> StateChange | None:
        """What to store now; None when nothing changed."""
        if self._saved is None or self._changes_bytes > IMAGE_SHARE * self._image_bytes or self._count >= CHANGES_MAX:
            return self._full(arrays)
        places = [_changed(array, self._saved[name]) for name, array in arrays.items()]
        if not any(len(found) for found in places):
            return None
        self._count += 1
        cells = (_cells(array, self._saved[name], found) for (name, array), found in zip(arrays.items(), places))
        body = zlib.compress(b"".join(cells), 6)
        blob = self._sealed(CHANGES, self._image, self._count, body)
        self._keep(arrays)
        self._changes_bytes += len(body)
        return StateChange({self._slot(self._count): blob})

    def _full(self, arrays: Arrays) -> StateChange:
        self._serial += 1
        header = {
            "serial": self._serial,
            "identity": self._identity,
            "boot": self._boot,
            "names": self._names,
            "arrays": [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()],
        }
        text = json.dumps(header, separators=(",", ":")).encode()
        data = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())
        body = COUNT.pack(len(text)) + text + zlib.compress(data, 6)
        image = zlib.crc32(body)
        blob = self._sealed(FULL, image, 0, body)
        self._image, self._image_bytes, self._changes_bytes, self._count = image, len(blob), 0, 0
        self._keep(arrays)
        return StateChange({self._slot(0): blob})

    def _sealed(self, magic: bytes, image: int, number: int, body: bytes) -> bytes:
        """A slot's bytes. Behind them stays what the slot held there, so that those pages do not change."""
        length = HEAD.size + PLACE.size + len(body)
        before = self._slots.get(number, b"")
        rest = PLACE.pack(image, number) + body + before[length:].ljust(slot_size(length) - length, b"\0")
        self._slots[number] = blob = HEAD.pack(magic, zlib.crc32(rest)) + rest
        return blob

    def _keep(self, arrays: Arrays) -> None:
        self._saved = {name: array.copy() for name, array in arrays.items()}

    def _slot(self, number: int) -> str:
        return f"{self.key}/{number:04d}"


def read_state(slots: Mapping[str, bytes]) -> SavedState:
    """What one log's slots hold, the changes laid over the image in order; those of an earlier image are passed over.

    Raises:
        StateRefused: no image, damage, or a change that is missing.
    """
    blobs = [slots[name] for name in sorted(slots)]
    if not blobs:
        raise StateRefused("nothing is saved")
    image, _, body = _open(blobs[0], FULL)
    saved = _image(body)
    number = 0
    for blob in blobs[1:]:
        of, told, body = _open(blob, CHANGES)
        if of != image:
            continue
        number += 1
        if told != number:
            raise StateRefused(f"change {told} of image {image:08x} stands as number {number}")
        _lay_over(saved.arrays, body)
    return saved


def _changed(new: NDArray[Any], old: NDArray[Any]) -> NDArray[np.intp]:
    """Flat places of the cells whose bits differ."""
    bits = np.dtype(f"u{new.dtype.itemsize}")
    return np.flatnonzero(np.ascontiguousarray(new).reshape(-1).view(bits) != old.reshape(-1).view(bits))


def _cells(array: NDArray[Any], old: NDArray[Any], places: NDArray[np.intp]) -> bytes:
    """One array's changes; bytes of like weight stand together, which deflates a third better."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if places.size * 2 > array.size:
        mixed = flat.view(np.uint8) ^ old.reshape(-1).view(np.uint8)
        return COUNT.pack(DENSE) + _planes(mixed, array.dtype.itemsize)
    steps = np.diff(places, prepend=0).astype("<u4")
    return COUNT.pack(places.size) + b"".join(
        _planes(part.view(np.uint8), part.dtype.itemsize) for part in (steps, flat[places])
    )


def _planes(cells: NDArray[np.uint8], width: int) -> bytes:
    return cells.reshape(-1, width).T.tobytes()


def _joined(data: bytes, at: int, count: int, width: int) -> NDArray[np.uint8]:
    """Inverse of `_planes`."""
    return np.ascontiguousarray(np.frombuffer(data, np.uint8, count * width, at).reshape(width, count).T).reshape(-1)


def _open(blob: bytes, magic: bytes) -> tuple[int, int, bytes]:
    """(image, number, body) of a blob. Raises StateRefused."""
    if len(blob) < HEAD.size + PLACE.size:
        raise StateRefused(f"damaged: {len(blob)} bytes")
    found, crc = HEAD.unpack_from(blob)
    if found != magic or zlib.crc32(blob[HEAD.size :]) != crc:
        raise StateRefused(f"damaged: {found!r} with CRC {crc:08x} where {magic!r} is expected")
    image, number = PLACE.unpack_from(blob, HEAD.size)
    return image, number, blob[HEAD.size + PLACE.size :]


def _unpacked(data: bytes, most: int) -> bytes:
    try:
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        raise StateRefused(f"damaged: {error}") from error
    if len(plain) > most or not unpacker.eof:
        raise StateRefused(f"over {most} bytes, or cut short")
    return plain


def _image(body: bytes) -> SavedState:
    try:
        (length,) = COUNT.unpack_from(body)
        header = json.loads(body[COUNT.size : COUNT.size + length])
        layout = [(str(name), np.dtype(kind), tuple(map(int, shape))) for name, kind, shape in header["arrays"]]
        sizes = [kind.itemsize * int(np.prod(shape, dtype=np.int64)) for _, kind, shape in layout]
        identity, boot, names = str(header["identity"]), int(header["boot"]), tuple(map(str, header["names"]))
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise StateRefused(f"the image's head cannot be read: {error}") from error
    if sum(sizes) > IMAGE_BYTES_MAX or any(size < 0 or kind.hasobject for size, (_, kind, _) in zip(sizes, layout)):
        raise StateRefused(f"an image of {sum(sizes)} bytes; at most {IMAGE_BYTES_MAX} are allowed")
    data = _unpacked(body[COUNT.size + length :], sum(sizes))
    if len(data) != sum(sizes):
        raise StateRefused(f"an image of {len(data)} bytes; {sum(sizes)} are told")
    arrays: Arrays = {}
    at = 0
    for size, (name, kind, shape) in zip(sizes, layout):
        arrays[name] = np.frombuffer(data, kind, int(np.prod(shape, dtype=np.int64)), at).reshape(shape).copy()
        at += size
    return SavedState(identity, boot, names, arrays)


def _lay_over(arrays: Arrays, body: bytes) -> None:
    room = sum(COUNT.size + array.size * (4 + array.dtype.itemsize) for array in arrays.values())
    data = _unpacked(body, room)
    at = 0
    try:
        for array in arrays.values():
            (count,) = COUNT.unpack_from(data, at)
            at += COUNT.size
            width, flat = array.dtype.itemsize, array.reshape(-1)
            if count == DENSE:
                flat.view(np.uint8)[:] ^= _joined(data, at, flat.size, width)
                at += flat.nbytes
                continue
            places = np.cumsum(_joined(data, at, count, 4).view("<u4"), dtype=np.int64)
            at += 4 * count
            flat[places] = _joined(data, at, count, width).view(array.dtype)
            at += width * count
    except (struct.error, ValueError, IndexError) as error:
        raise StateRefused(f"a change cannot be laid over its image: {error}") from error
    if at != len(data):
        raise StateRefused(f"{len(data) - at} bytes more than the change tells")
