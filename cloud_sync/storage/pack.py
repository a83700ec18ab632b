"""The pack: one immutable object with the messages of many gateways. `docs/formats/pack.md` is the byte table.

A pack describes itself, so that a lost catalog can be rebuilt from the bucket. Each message carries its own CRC
(`docs/formats/segment.md`); the pack's head and index carry another.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloud_sync.errors import PackCorrupt

MAGIC = b"TGPK"
VERSION = 1
MESSAGES_MAX = 1 << 16
_HEAD = struct.Struct("<4sB3xqqqIII")  # magic, version, pack id, generation, deadline, messages, names bytes, CRC-32
_CRC_AT = _HEAD.size - 4
_ENTRY = np.dtype(
    [
        ("gateway", "<u4"),
        ("length", "<u4"),
        ("offset", "<u8"),
        ("epoch", "<u8"),
        ("next_seq", "<u8"),
        ("boot_min_us", "<i8"),
        ("boot_max_us", "<i8"),
    ]
)


@dataclass(frozen=True, slots=True)
class PackRecord:
    """One message. Times are boot-relative microseconds."""

    gateway: str
    epoch: int
    next_seq: int
    t_min_us: int
    t_max_us: int
    segment: bytes


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack read back."""

    pack_id: int
    generation: int
    deadline_us: int
    records: tuple[PackRecord, ...]
    offsets: tuple[int, ...]  # where each record's segment starts


def encode_pack(
    pack_id: int, generation: int, deadline_us: int, records: Sequence[PackRecord]
) -> tuple[bytes, list[int]]:
    """The object's bytes, and where in it each record's segment starts."""
    assert len(records) <= MESSAGES_MAX
    gateways = {name: place for place, name in enumerate(dict.fromkeys(record.gateway for record in records))}
    names = b"".join(bytes([len(name)]) + name.encode("ascii") for name in gateways)
    at = _HEAD.size + len(names) + len(records) * _ENTRY.itemsize
    offsets, rows = [], []
    for record in records:
        offsets.append(at)
        times = record.t_min_us, record.t_max_us
        rows.append((gateways[record.gateway], len(record.segment), at, record.epoch, record.next_seq, *times))
        at += len(record.segment)
    index = names + np.array(rows, _ENTRY).tobytes()
    head = _HEAD.pack(MAGIC, VERSION, pack_id, generation, deadline_us, len(records), len(names), 0)[:_CRC_AT]
    crc = zlib.crc32(index, zlib.crc32(head)).to_bytes(4, "little")
    return b"".join((head, crc, index, *(record.segment for record in records))), offsets


def decode_pack(data: bytes) -> Pack:
    """Inverse of `encode_pack`; the segments are not looked into.

    Raises PackCorrupt for anything else, a truncated pack included.
    """
    if len(data) < _HEAD.size or data[:4] != MAGIC or data[4] != VERSION:
        raise PackCorrupt(f"{len(data)} bytes that do not start like a pack of version {VERSION}")
    _, _, pack_id, generation, deadline_us, count, names_size, crc = _HEAD.unpack_from(data)
    names_end = _HEAD.size + names_size
    end = names_end + count * _ENTRY.itemsize
    if count > MESSAGES_MAX or end > len(data):
        raise PackCorrupt(f"an index of {count} messages to byte {end}, the object has {len(data)}")
    found = zlib.crc32(memoryview(data)[_HEAD.size : end], zlib.crc32(data[:_CRC_AT]))
    if found != crc:
        raise PackCorrupt(f"index CRC {found:#010x}, the head says {crc:#010x}")
    names = _names(data[_HEAD.size : names_end])
    records, offsets = [], []
    for place, length, at, epoch, next_seq, t_min_us, t_max_us in np.frombuffer(
        data, _ENTRY, count, names_end
    ).tolist():
        if place >= len(names) or at < end or at + length > len(data):
            raise PackCorrupt(f"a message of gateway {place} at {at}..{at + length}, the object has {len(data)} bytes")
        records.append(PackRecord(names[place], epoch, next_seq, t_min_us, t_max_us, data[at : at + length]))
        offsets.append(at)
    return Pack(pack_id, generation, deadline_us, tuple(records), tuple(offsets))


def _names(data: bytes) -> list[str]:
    names = []
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        if end > len(data):
            raise PackCorrupt(f"gateway names end {end - len(data)} bytes early")
        names.append(data[at + 1 : end].decode("ascii", "replace"))
        at = end
    return names
