"""Is a message what it claims to be? That every column can be decoded is proved before anything of it is stored."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from wire.errors import SegmentCorrupt, UnsupportedFormat
from wire.reading import Kind
from wire.rollup import rollup_types
from wire.segment import Header
from wire.series import DTYPES, SeriesSet, StampUnit, ValueType
from wire.sync.outcomes import Corrupt, UnknownSeries
from wire.verify import verify

log = logging.getLogger(__name__)

CORRUPT = "segment-corrupt"
UNSUPPORTED = "format-unsupported"
KIND = "kind-unsupported"
ALONE = "rollup-not-alone"
SHAPE = "series-mismatch"
DECODER = "decoder-failed"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a block of a series set must look like."""

    value_types: tuple[ValueType, ...]
    stamp_unit: StampUnit

    @classmethod
    def of(cls, series_set: SeriesSet) -> Shape:
        """The shape that a definition asks for."""
        return cls(tuple(series_set.value_types), series_set.stamp_unit)

    def rolled_up(self) -> Shape:
        """The shape of its roll-ups."""
        return Shape(rollup_types(self.value_types), self.stamp_unit)


@dataclass(frozen=True, slots=True)
class Checked:
    """A message that can be stored. Times are boot-relative microseconds."""

    header: Header
    t_min_us: int
    t_max_us: int
    shapes: Mapping[int, Shape]  # by set id, as the message has them


def check(segment: bytes) -> Checked | Corrupt:
    """Prove that a message can be decoded. `Corrupt` tells the sender, with a stable code, why it is never stored."""
    try:
        verified = verify(segment)
    except SegmentCorrupt as error:
        return Corrupt(CORRUPT, str(error))
    except UnsupportedFormat as error:
        return Corrupt(UNSUPPORTED, str(error))
    except Exception:  # a mistake of ours, met by one gateway's bytes, must not stop the others
        log.exception("decoder failed bytes=%d start=%s", len(segment), segment[:32].hex())
        return Corrupt(DECODER, "the decoder failed on these bytes; the service's log has the details")
    header = verified.header
    if header.kind not in (Kind.RAW, Kind.ROLLUP_1):
        return Corrupt(KIND, f"kind {header.kind.name} is not taken yet")
    if header.kind is not Kind.RAW and len(header.atoms) != 1:
        return Corrupt(ALONE, f"a message of {len(header.atoms)} roll-ups; each is stored, or known, by itself")
    shapes = {
        block.set_id: Shape(value_types, block.stamp_unit)
        for block, value_types in zip(header.blocks, verified.value_types)
    }
    return Checked(header, *verified.zone_us, shapes)


def compare(checked: Checked, defined: Mapping[int, Shape]) -> UnknownSeries | Corrupt | None:
    """What keeps a message from being stored under these definitions: sets that are not there, or differ from it."""
    unknown = tuple(set_id for set_id in checked.shapes if set_id not in defined)
    if unknown:
        return UnknownSeries(unknown)
    for set_id, shape in checked.shapes.items():
        asked = defined[set_id] if checked.header.kind is Kind.RAW else defined[set_id].rolled_up()
        if shape != asked:
            detail = f"set {set_id:016x} is {_describe(asked)}, the message has {_describe(shape)}"
            return Corrupt(SHAPE, detail)
    return None


def _describe(shape: Shape) -> str:
    runs: list[list[str | int]] = []
    for value_type in shape.value_types:
        name = DTYPES[value_type].name
        if runs and runs[-1][0] == name:
            runs[-1][1] = int(runs[-1][1]) + 1
        else:
            runs.append([name, 1])
    columns = ", ".join(f"{count} {name}" for name, count in runs[:4]) + (", ..." if len(runs) > 4 else "")
    return f"{columns} with stamps in {shape.stamp_unit.name.lower()}"
