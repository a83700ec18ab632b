"""Coverage in rows against `wire.coverage` in memory: the same decisions, whatever is loaded, in any order."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cloud_sync.catalog import coverage_rows
from cloud_sync.catalog.catalog import PackEntry
from cloud_sync.catalog.sql_catalog import SqlCatalog
from tests.unit.cloud_sync.gateway import ROOM, DialClock, hello
from wire.clock import Anchor
from wire.coverage import Coverage, Fit
from wire.ranges import RangeSet
from wire.reading import Kind, LossReason, Priority, Tombstone
from wire.segment import AtomRef, BlockHeader, Header
from wire.sync.outcomes import AlreadyStored, Overlaps, Stored

EPOCHS = (1, 2)
spans = st.tuples(st.integers(0, 120), st.integers(1, 9)).map(lambda pair: (pair[0], pair[0] + pair[1]))
atoms = st.lists(spans, min_size=1, max_size=3).map(lambda ranges: list(RangeSet(ranges)))
step = st.one_of(
    st.tuples(st.just("pack"), st.lists(st.tuples(st.sampled_from(EPOCHS), atoms), min_size=1, max_size=5)),
    st.tuples(st.just("lost"), st.lists(st.tuples(st.sampled_from(EPOCHS), spans), min_size=1, max_size=3)),
)
OUTCOMES = {Fit.DISJOINT: Stored, Fit.COVERED: AlreadyStored, Fit.OVERLAP: Overlaps}


def entry(epoch: int, ranges: list[tuple[int, int]]) -> PackEntry:
    refs = tuple(AtomRef(first, end - first, (1,)) for first, end in ranges)
    header = Header(Priority.NORMAL, Kind.RAW, Anchor(1, 1, True, 1), refs, (BlockHeader(ROOM.id, 1, 2),))
    return PackEntry("gw-a", epoch, 0, header, 0, 1, 0, 1)


@pytest.mark.parametrize("whole_max", [0, 64])
@settings(max_examples=25, deadline=None)
@example(steps=[("pack", [(1, [(0, 10)])]), ("pack", [(1, [(10, 20)])])])
@example(steps=[("lost", [(1, (10, 20))]), ("pack", [(1, [(0, 10)])]), ("lost", [(1, (20, 30))])])
@given(steps=st.lists(step, max_size=8))
def test_rows_decide_as_memory_does(whole_max: int, steps: list[tuple[str, list[tuple[int, object]]]]) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(coverage_rows, "FRAGMENTS_WHOLE_MAX", whole_max)
        catalog = SqlCatalog.open(Path(folder) / "catalog.sqlite", DialClock())
        catalog.put_series_sets("gw-a", [ROOM])
        model = {epoch: Coverage() for epoch in EPOCHS}
        for kind, parts in steps:
            if kind == "pack":
                outcomes = catalog.commit_pack(catalog.open_pack(), 1, [entry(e, r) for e, r in parts])  # type: ignore[arg-type]
                for (epoch, ranges), outcome in zip(parts, outcomes):
                    fit = model[epoch].classify(ranges)  # type: ignore[arg-type]
                    assert type(outcome) is OUTCOMES[fit]
                    if isinstance(outcome, Overlaps):
                        assert outcome.coverage == model[epoch].frame()
                    if fit is Fit.DISJOINT:
                        model[epoch].store(ranges)  # type: ignore[arg-type]
            else:
                for epoch, (first, end) in parts:  # type: ignore[misc]
                    model[epoch].tombstone(first, end)
                records = [Tombstone(e, f, t, LossReason.EVICTED, t - f) for e, (f, t) in parts]  # type: ignore[misc]
                catalog.record_tombstones("gw-a", records)
            told = catalog.hello("gw-a", hello(*EPOCHS)).coverage
            assert list(told) == [model[epoch].frame() for epoch in EPOCHS]
        catalog.close()
        connection = sqlite3.connect(Path(folder) / "catalog.sqlite")
        [(rows,)] = connection.execute("SELECT count(*) FROM coverage")
        [(counted,)] = connection.execute("SELECT coalesce(sum(fragments), 0) FROM epoch")
        connection.close()
        wanted = sum(len(coverage.stored) + len(coverage.tombstoned) for coverage in model.values())
        assert rows == counted == wanted  # neighbours are one row
