"""The write path's core on a real catalog and a real folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_sync.catalog.catalog import PackEntry, PackTicket
from cloud_sync.catalog.definitions import definition_set
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.errors import CatalogDown, StoreDown
from cloud_sync.ingest import check as check_module
from cloud_sync.ingest.check import CORRUPT, DECODER, KIND, SHAPE, UNSUPPORTED
from cloud_sync.ingest.ingestor import PUT_PAUSES_S, Ingestor
from cloud_sync.metrics import Metrics
from cloud_sync.storage.local_store import LocalStore
from cloud_sync.storage.pack import decode_pack
from tests.unit.cloud_sync.gateway import EPOCH, ROOM, DialClock, hello, message, segment
from wire.clock import Anchor
from wire.codec import encode
from wire.ranges import RangeSet
from wire.reading import Kind, Priority
from wire.segment import AtomRef, Block, Segment
from wire.series import SeriesDef, SeriesSet, StampUnit, ValueType
from wire.sync.frames import MessageFrame
from wire.sync.outcomes import AlreadyStored, CatalogOutcome, Corrupt, Overlaps, Stored, UnknownSeries


class FlakyStore(LocalStore):
    """A disk that is full for the next `failures` writes."""

    failures = 0

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[str] = []

    def put(self, key: str, data: bytes) -> None:
        self.asked.append(key)
        if self.failures:
            self.failures -= 1
            raise StoreDown("no space left on device")
        super().put(key, data)


@dataclass
class Line:
    catalog: SqlCatalog
    store: FlakyStore
    ingestor: Ingestor
    metrics: Metrics
    clock: DialClock

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"tidegate_{name}_total", labels) or 0.0

    def stored(self) -> list[tuple[int, int]]:
        return list(self.catalog.hello("gw-a", hello()).coverage[0].stored)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    clock, metrics = DialClock(), Metrics()
    catalog, store = SqlCatalog.open(tmp_path / "catalog.sqlite", clock), FlakyStore(tmp_path / "objects")
    made = Line(catalog, store, Ingestor(catalog, store, clock, metrics), metrics, clock)
    made.ingestor.put_series_sets("gw-a", [ROOM])
    store.asked.clear()
    yield made
    catalog.close()


def test_messages_of_many_gateways_become_one_pack(line: Line) -> None:
    items = [("gw-a", message(1, 0)), ("gw-b", message(1, 0, 50)), ("gw-a", message(2, 10))]
    results = line.ingestor.write(items)
    assert [result.outcome for result in results] == [Stored()] * 3
    assert [result.atoms for result in results] == [RangeSet([(0, 10)]), RangeSet([(0, 100)]), RangeSet([(10, 20)])]
    [key] = line.store.list("packs/")
    pack = decode_pack(line.store.get(key))
    assert [(r.gateway, r.epoch, r.next_seq, r.segment) for r in pack.records] == [
        (gateway, m.epoch, m.next_seq, m.segment) for gateway, m in items
    ]
    assert (pack.records[0].t_min_us, pack.records[0].t_max_us) == (0, 4_000_000)
    for row in line.catalog.messages("gw-a", [ROOM.id], 0, 2**62):
        assert line.store.get(row.pack_key, row.offset, row.length) in [m.segment for _, m in items]
    assert (line.count("readings"), line.count("packs"), line.count("messages", outcome="stored")) == (120, 1, 3)


def test_outcomes_are_the_catalogs(line: Line) -> None:
    other = SeriesSet((SeriesDef("attic", "temperature", "Cel"),))
    line.ingestor.write([("gw-a", message(1, 0))])
    results = line.ingestor.write(
        [
            ("gw-a", message(2, 0)),
            ("gw-a", message(3, 5)),
            ("gw-a", MessageFrame(4, EPOCH, 0, segment(100, series_set=other))),
        ]
    )
    assert results[0].outcome == AlreadyStored()
    assert isinstance(results[1].outcome, Overlaps)
    assert results[2].outcome == UnknownSeries((other.id,))


def bad(id_: int, data: bytes) -> tuple[str, MessageFrame]:
    return ("gw-a", MessageFrame(id_, EPOCH, 0, data))


def test_what_cannot_be_decoded_is_refused_alone(line: Line) -> None:
    good = segment(0)
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 4
    items = [bad(1, b"garbage"), bad(2, bytes(flipped)), ("gw-a", message(3, 0)), bad(4, good[:-1]), bad(5, b"")]
    results = line.ingestor.write(items)
    codes = [r.outcome.code if isinstance(r.outcome, Corrupt) else "" for r in results]
    assert codes == [CORRUPT, CORRUPT, "", CORRUPT, CORRUPT]
    assert results[2].outcome == Stored()
    assert line.stored() == [(0, 10)]
    assert line.count("refused", code=CORRUPT) == 4
    [key] = line.store.list("packs/")
    assert len(decode_pack(line.store.get(key)).records) == 1


def test_only_garbage_makes_no_pack(line: Line) -> None:
    line.ingestor.write([bad(1, b"garbage")])
    assert list(line.store.list("packs/")) == []


def test_a_newer_version_and_a_reserved_kind_have_codes_of_their_own(line: Line) -> None:
    newer = bytearray(segment(0))
    newer[1] = 77
    results = line.ingestor.write([bad(1, bytes(newer)), bad(2, segment(0, kind=Kind.ROLLUP_2))])
    assert [r.outcome.code for r in results if isinstance(r.outcome, Corrupt)] == [UNSUPPORTED, KIND]


@pytest.mark.parametrize(
    "series_set",
    [
        SeriesSet(ROOM.series[:1]),
        SeriesSet((ROOM.series[0], SeriesDef("room", "humidity", "%RH", ValueType.FLOAT32))),
        SeriesSet(ROOM.series, StampUnit.US),
    ],
    ids=["columns", "types", "stamps"],
)
def test_a_message_that_contradicts_its_definitions_is_refused(line: Line, series_set: SeriesSet) -> None:
    line.ingestor.put_series_sets("gw-a", [series_set])
    data = bytearray(segment(0))
    at = data.index(ROOM.id.to_bytes(8, "big"))
    data[at : at + 8] = series_set.id.to_bytes(8, "big")
    [result] = line.ingestor.write([bad(1, _with_crc(bytes(data)))])
    assert isinstance(result.outcome, Corrupt)
    assert result.outcome.code == SHAPE


def _with_crc(data: bytes) -> bytes:
    import zlib

    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")


EDGE = (1 << 62) // 1000
STAMPS = st.lists(st.integers(-EDGE, EDGE) | st.sampled_from([-EDGE, EDGE]), min_size=1, max_size=3)
TIMES = st.integers(0, 1 << 62)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STAMPS, TIMES, st.integers(-(1 << 62), 1 << 62), TIMES, st.integers(0, (1 << 63) - 100), st.booleans())
def test_no_number_that_the_format_allows_stops_a_pack(
    line: Line, stamps: list[int], boottime_us: int, offset_us: int, uncertainty_us: int, first: int, trusted: bool
) -> None:
    """Whatever a gateway claims about times and Seq, the messages beside it are stored and it can be queried."""
    cells = 2 * len(stamps)
    block = Block(ROOM.id, np.array(stamps, np.int64), [np.zeros(len(stamps), np.int64)] * 2)
    anchor = Anchor(boottime_us, boottime_us + offset_us, trusted, uncertainty_us)
    odd = encode(Segment(Priority.LOW, Kind.RAW, anchor, (AtomRef(first, cells, (len(stamps),)),), [block]))
    at = line.clock.now_us = line.clock.now_us + 10
    epoch = at % 1_000_000 + 10  # a fresh one for each example
    items = [("gw-odd", MessageFrame(1, epoch, first + cells, odd)), ("gw-a", message(2, 0, epoch=epoch))]
    assert [result.outcome for result in line.ingestor.write(items)] == [Stored(), Stored()]
    line.catalog.messages("gw-odd", [ROOM.id], 0, 2**62)
    assert line.catalog.ledger("gw-odd")[-1].stored == cells


def test_names_of_sets_without_end(line: Line) -> None:
    """A flood of unknown sets in one pack stays within what one statement may hold."""
    message_frames = []
    for part in range(3):
        ids = sorted(range(1 + part * 4000, 4001 + part * 4000))
        blocks = [Block(set_id, np.array([1], np.int64), [np.zeros(1, np.int64)]) for set_id in ids[:500]]
        atom = AtomRef(part * 500, 500, (1,) * 500)
        data = encode(Segment(Priority.LOW, Kind.RAW, Anchor(1, 1, True, 1), (atom,), blocks))
        message_frames.append(("gw-odd", MessageFrame(part, EPOCH, 0, data)))
    results = line.ingestor.write([*message_frames, ("gw-a", message(2, 0))])
    assert [type(result.outcome) for result in results] == [UnknownSeries] * 3 + [Stored]
    [key] = line.store.list("packs/")
    assert len(decode_pack(line.store.get(key)).records) == 1
    assert line.catalog.definitions(list(range(1, 40_000))) == []


def test_a_mistake_in_the_decoder_stops_nobody_else(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    verify = check_module.verify

    def fail(data: bytes) -> object:
        if data == b"poison":
            raise IndexError("ours")
        return verify(data)

    monkeypatch.setattr(check_module, "verify", fail)
    results = line.ingestor.write([bad(1, b"poison"), ("gw-a", message(2, 0))])
    assert isinstance(results[0].outcome, Corrupt)
    assert results[0].outcome.code == DECODER
    assert results[1].outcome == Stored()


def test_a_full_store_is_tried_again_under_new_keys(line: Line) -> None:
    line.store.failures = len(PUT_PAUSES_S)
    before_us = line.clock.now_us
    assert line.ingestor.write([("gw-a", message(1, 0))])[0].outcome == Stored()
    assert len(set(line.store.asked)) == len(PUT_PAUSES_S) + 1
    assert line.clock.now_us - before_us == pytest.approx(sum(PUT_PAUSES_S) * 1e6)


def test_a_store_that_stays_full_acknowledges_nothing(line: Line) -> None:
    line.store.failures = 99
    with pytest.raises(StoreDown):
        line.ingestor.write([("gw-a", message(1, 0))])
    line.store.failures = 0
    assert line.stored() == []
    assert line.ingestor.write([("gw-a", message(1, 0))])[0].outcome == Stored()


def test_an_unknown_commit_acknowledges_nothing_and_may_have_stored(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_pack = line.catalog.commit_pack

    def lose_answer(ticket: PackTicket, size: int, entries: list[PackEntry]) -> list[CatalogOutcome]:
        commit_pack(ticket, size, entries)
        raise CatalogDown("connection lost at COMMIT")

    with monkeypatch.context() as patch:
        patch.setattr(line.catalog, "commit_pack", lose_answer)
        with pytest.raises(CatalogDown):
            line.ingestor.write([("gw-a", message(1, 0))])
    assert line.ingestor.write([("gw-a", message(1, 0))])[0].outcome == AlreadyStored()
    assert len(line.catalog.messages("gw-a", [ROOM.id], 0, 2**62)) == 1


def test_definitions_lie_beside_the_packs_before_the_catalog_knows_them(line: Line) -> None:
    key = f"series/{ROOM.id:016x}.json"
    assert definition_set(line.store.get(key).decode()) == ROOM
    line.store.failures = 1
    other = SeriesSet((SeriesDef("attic", "temperature", "Cel"),))
    with pytest.raises(StoreDown):
        line.ingestor.put_series_sets("gw-a", [other])
    assert line.catalog.definitions([other.id]) == []


def test_tombstones_are_counted(line: Line) -> None:
    from wire.reading import LossReason, Tombstone

    line.ingestor.record_tombstones("gw-a", [Tombstone(EPOCH, 5, 9, LossReason.EVICTED, 4)])
    assert line.count("tombstones") == 1
    assert list(line.catalog.hello("gw-a", hello()).coverage[0].tombstoned) == [(5, 9)]
