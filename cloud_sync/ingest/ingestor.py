"""Messages to a durable pack: check, PUT, catalog. Blocking code without a thread: a simulation can drive it."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cloud_sync.catalog.catalog import Catalog, PackEntry, PackTicket
from cloud_sync.catalog.definitions import definition_text
from cloud_sync.errors import StoreDown
from cloud_sync.ingest.check import Checked, Shape, check, compare
from cloud_sync.metrics import Metrics
from cloud_sync.outage import Outage
from cloud_sync.storage.object_store import ObjectStore
from cloud_sync.storage.pack import PackRecord, encode_pack
from wire.alarm import Alarm
from wire.clock import NS_PER_S, Clock
from wire.ranges import RangeSet
from wire.reading import Tombstone
from wire.series import SeriesSet
from wire.sync.frames import MessageFrame
from wire.sync.outcomes import AlreadyStored, CatalogOutcome, Corrupt, Outcome, Overlaps, Stored, UnknownSeries

log = logging.getLogger(__name__)

PUT_PAUSES_S = (0.1, 0.4, 1.6)  # between attempts; then the streams are dropped and the gateways come again
SERIES_PREFIX = "series/"
PROBE_KEY = "meta/probe"  # written only to learn whether the store takes data again
PROBE = bytes(64 * 1024)  # more than the last free block of a full disk

_Item = tuple[str, MessageFrame]


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of one message. `atoms`: the Seq ranges that its header names; empty when it is corrupt."""

    outcome: Outcome
    atoms: RangeSet


class Ingestor:
    """The write path's core. Any thread may call; calls share only the store, the catalog and the counters."""

    def __init__(self, catalog: Catalog, store: ObjectStore, clock: Clock, metrics: Metrics) -> None:
        self.commit_s = 0.0  # the last pack's PUT and commit
        self._catalog = catalog
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._store_outage = Outage("object store", clock)
        self._trying = threading.Lock()
        self._shapes: dict[int, Shape] = {}
        self._said: set[tuple[str, str]] = set()

    def write(self, items: Sequence[_Item]) -> list[Resolved]:
        """Make the messages of (gateway, message) durable in one pack; one result per item, in order.

        A corrupt message is refused by itself and does not touch the others. On an error nothing may be
        acknowledged: either nothing was stored, or it is not known.

        Raises:
            StoreDown: the object store did not take the pack in any attempt.
            CatalogDown: the catalog did not answer, or it is not known whether it committed.
            PackExpired: the commit came after its deadline; nothing was stored.
        """
        judged = [check(message.segment) for _, message in items]
        self._learn_shapes({set_id for one in judged if isinstance(one, Checked) for set_id in one.shapes})
        good: list[tuple[_Item, Checked]] = []
        refused: dict[int, Resolved] = {}
        for index, one in enumerate(judged):
            verdict = one if isinstance(one, Corrupt) else compare(one, self._shapes)
            if verdict is not None:
                refused[index] = Resolved(verdict, RangeSet())
            elif isinstance(one, Checked):
                good.append((items[index], one))
        stored = iter(self._commit(good) if good else ())
        done = [refused[index] if index in refused else next(stored) for index in range(len(items))]
        self._count(items, done)
        return done

    def record_tombstones(self, gateway: str, tombstones: Sequence[Tombstone]) -> None:
        """Make them durable. Raises CatalogDown."""
        self._catalog.record_tombstones(gateway, tombstones)
        self._metrics.tombstones.inc(len(tombstones))

    def record_alarms(self, gateway: str, alarms: Sequence[tuple[int, Alarm]]) -> None:
        """Make them durable, each with its epoch. Raises CatalogDown."""
        self._catalog.record_alarms(gateway, alarms)

    def require_writable(self) -> None:
        """Raise StoreDown or CatalogDown when its last write was refused and one more is refused as well."""
        lost = self._store_outage.error
        if lost is not None:
            if not self._trying.acquire(blocking=False):  # a store that hangs holds one thread, not all
                raise StoreDown(str(lost)) from lost
            try:
                self._put_object(PROBE_KEY, PROBE)
            finally:
                self._trying.release()
        self._catalog.require_writable()

    def put_series_sets(self, gateway: str, sets: Sequence[SeriesSet]) -> None:
        """Make definitions durable beside the packs, then known. Raises StoreDown, CatalogDown."""
        self._learn_shapes({one.id for one in sets})
        for one in sets:
            if one.id not in self._shapes:
                self._put_object(f"{SERIES_PREFIX}{one.id:016x}.json", definition_text(one).encode())
        self._catalog.put_series_sets(gateway, sets)

    def _learn_shapes(self, set_ids: set[int]) -> None:
        """Ask the catalog for the definitions of sets not met before. What is defined stays so."""
        if unseen := set_ids - self._shapes.keys():
            for series_set in self._catalog.definitions(sorted(unseen)):
                self._shapes[series_set.id] = Shape.of(series_set)

    def _commit(self, good: Sequence[tuple[_Item, Checked]]) -> list[Resolved]:
        records = [
            PackRecord(gateway, message.epoch, message.next_seq, one.t_min_us, one.t_max_us, message.segment)
            for (gateway, message), one in good
        ]
        started_ns = self._clock.boottime_ns()
        ticket, size, offsets = self._put(records)
        entries = [
            PackEntry(
                record.gateway,
                record.epoch,
                record.next_seq,
                one.header,
                offset,
                len(record.segment),
                record.t_min_us,
                record.t_max_us,
            )
            for record, (_, one), offset in zip(records, good, offsets)
        ]
        outcomes = self._catalog.commit_pack(ticket, size, entries)
        self.commit_s = (self._clock.boottime_ns() - started_ns) / NS_PER_S
        self._metrics.packs.inc()
        return [_resolved(outcome, one) for outcome, (_, one) in zip(outcomes, good)]

    def _put(self, records: Sequence[PackRecord]) -> tuple[PackTicket, int, list[int]]:
        """Write the pack, under a new key in each attempt."""
        for pause_s in (*PUT_PAUSES_S, None):
            ticket = self._catalog.open_pack()
            data, offsets = encode_pack(ticket.pack_id, self._catalog.generation(), ticket.deadline_us, records)
            try:
                self._put_object(ticket.key, data)
            except StoreDown:
                if pause_s is None:
                    raise
                self._clock.sleep(pause_s)
            else:
                return ticket, len(data), offsets
        raise AssertionError("the last attempt returns or raises")

    def _put_object(self, key: str, data: bytes) -> None:
        try:
            self._store.put(key, data)
        except StoreDown as error:
            self._store_outage.failed(error)
            raise
        self._store_outage.worked()

    def _count(self, items: Sequence[_Item], results: Sequence[Resolved]) -> None:
        metrics = self._metrics
        kinds = Counter(_NAMES[type(result.outcome)] for result in results)
        for name, count in kinds.items():
            metrics.messages.labels(name).inc(count)
        stored = [(item, result) for item, result in zip(items, results) if isinstance(result.outcome, Stored)]
        metrics.readings.inc(sum(result.atoms.count for _, result in stored))
        metrics.bytes.inc(sum(len(message.segment) for (_, message), _ in stored))
        for (gateway, _), result in zip(items, results):
            if isinstance(result.outcome, Corrupt):
                self._note_refusal(gateway, result.outcome)

    def _note_refusal(self, gateway: str, refusal: Corrupt) -> None:
        """Count each; say the first of a gateway and code, so that a flood of garbage is not one of log lines."""
        self._metrics.refused.labels(refusal.code).inc()
        if (gateway, refusal.code) not in self._said:
            self._said.add((gateway, refusal.code))
            log.warning("message refused gateway=%s code=%s detail=%s", gateway, refusal.code, refusal.detail)


_NAMES = {
    Stored: "stored",
    AlreadyStored: "already-stored",
    Overlaps: "overlap",
    UnknownSeries: "series-unknown",
    Corrupt: "refused",
}


def _resolved(outcome: CatalogOutcome, checked: Checked) -> Resolved:
    return Resolved(outcome, RangeSet((atom.first, atom.end) for atom in checked.header.atoms))
