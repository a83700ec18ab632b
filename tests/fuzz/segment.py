"""Fuzz target of the segment decoder: `python -m tests.fuzz.segment --seconds 600`.

Mutates the golden vectors. Any bytes must give a value or SegmentCorrupt or UnsupportedFormat; a value must encode
again and come back equal; `verify` must take and refuse the same. The seed is printed first and replays with --seed.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from tests.unit.wire.codec_samples import GOLDEN, same
from wire.codec import CRC_BYTES, decode, encode, read_header, zone
from wire.errors import MergeRefused, SegmentCorrupt, UnsupportedFormat
from wire.segment import Segment
from wire.series import DTYPES
from wire.verify import Verified, verify

SECONDS_MAX = 5.0  # for one input, on a slow and busy machine


def sealed(body: bytes) -> bytes:
    """A body with its right CRC."""
    return body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")


def agree(data: bytes) -> bool:
    """Whether it is a segment, as decode and verify must tell alike."""
    told, segment = _outcome(verify, data), _outcome(decode, data)
    if not isinstance(segment, Segment) or not isinstance(told, Verified):
        assert repr(told) == repr(segment)
        return False
    assert told.zone_us == zone(segment)
    assert told.header == read_header(data)
    types = [tuple(column.dtype for column in block.columns) for block in segment.blocks]
    assert [tuple(DTYPES[kind] for kind in kinds) for kinds in told.value_types] == types
    return True


def _outcome(read: Callable[[bytes], object], data: bytes) -> object:
    try:
        return read(data)
    except (SegmentCorrupt, UnsupportedFormat) as error:
        return error


def fuzz(data: bytes) -> bool:
    """Feed bytes as they are, and again with the CRC made right. True when the second were a segment."""
    right = sealed(data[:-CRC_BYTES] if len(data) > CRC_BYTES else data)
    agree(data)
    agree(right)
    _try(data)
    return _try(right)


def _try(data: bytes) -> bool:
    start = time.process_time()
    try:
        header = read_header(data)
        segment = decode(data)
    except (SegmentCorrupt, UnsupportedFormat):
        return False
    finally:
        assert time.process_time() - start < SECONDS_MAX, f"{len(data)} bytes took {time.process_time() - start:.1f} s"
    assert header.atoms == segment.atoms
    try:
        again = encode(segment)
    except MergeRefused:
        return True
    assert same(decode(again), segment)
    return True


def mutate(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """A few of: flip a bit, set a byte, cut, repeat, splice."""
    raw = bytearray(data[:-CRC_BYTES])
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(2, max(3, len(raw)))
        action = chance.randrange(6)
        if action == 0 and at < len(raw):
            raw[at] ^= 1 << chance.randrange(8)
        elif action in (1, 2) and at < len(raw):
            raw[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        elif action == 3:
            del raw[at : at + chance.randrange(1, 9)]
        elif action == 4:
            raw[at:at] = raw[at : at + chance.randrange(1, 9)]
        else:
            start = chance.randrange(len(other))
            raw[at:at] = other[start : start + chance.randrange(1, 20)]
    return sealed(bytes(raw))


def run(seconds: float, seed: int) -> tuple[int, int]:
    """Fuzz for a while. Returns inputs tried, and how many of them were segments."""
    chance = random.Random(seed)
    corpus = [file.read_bytes() for file in sorted(GOLDEN.glob("*.segment"))]
    tried = valid = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutate(chance, chance.choice(corpus), chance.choice(corpus))
        try:
            found = fuzz(data)
        except BaseException:
            found_file = Path(f"fuzz-segment-{seed}-{tried}.bin")
            found_file.write_bytes(data)
            print(f"seed {seed}, input {tried}: kept in {found_file}", file=sys.stderr)
            raise
        tried += 1
        valid += found
        if found and len(corpus) < 400 and chance.random() < 0.05:
            corpus.append(data)
    return tried, valid


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.segment", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default 60)")
    parser.add_argument("--seed", type=int, default=None, help="replay a run (default: from the clock)")
    options = parser.parse_args()
    seed = time.time_ns() % 1_000_000_007 if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    tried, valid = run(options.seconds, seed)
    print(f"{tried} inputs, {valid} of them segments, none escaped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
