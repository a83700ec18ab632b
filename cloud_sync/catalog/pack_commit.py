"""The one transaction that makes a pack's messages durable: docs/ARCHITECTURE.md, "Exactly once"."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloud_sync.catalog import coverage_rows, epoch_rows
from cloud_sync.catalog.catalog import PackEntry, PackTicket
from cloud_sync.catalog.coverage_rows import CoverageRows
from cloud_sync.catalog.database import Database
from cloud_sync.catalog.database_clock import now_us
from cloud_sync.catalog.epoch_rows import EpochName, EpochRow
from cloud_sync.catalog.schema import epoch, gateway, message, message_set, meta, pack
from cloud_sync.catalog.series_rows import SeriesRows, Use
from cloud_sync.errors import PackExpired
from wire.coverage import Coverage, Fit
from wire.ranges import SEQ_MAX, Range
from wire.reading import Kind
from wire.segment import Header
from wire.sync.outcomes import AlreadyStored, CatalogOutcome, Overlaps, Stored, UnknownSeries

_seen = gateway.update().where(gateway.c.id.in_(sa.bindparam("ids", expanding=True))).values(last_seen_us=now_us)
_new_pack = (
    pack.insert()
    .from_select(
        ["id", "key", "size", "messages", "committed_us"],
        sa.select(
            sa.bindparam("b_id", type_=sa.BigInteger),
            sa.bindparam("b_key", type_=sa.Text),
            sa.bindparam("b_size", type_=sa.BigInteger),
            sa.bindparam("b_messages", type_=sa.Integer),
            now_us,
        ).where(now_us < sa.bindparam("b_deadline_us", type_=sa.BigInteger)),
    )
    .returning(pack.c.id)
)
_epoch_id = sa.select(epoch.c.id).where(
    epoch.c.gateway == sa.bindparam("gateway"), epoch.c.epoch == sa.bindparam("epoch")
)
_take_ids = (
    meta.update()
    .values(message_id_next=meta.c.message_id_next + sa.bindparam("b_count"))
    .returning(meta.c.message_id_next)
)


@dataclass(slots=True)
class _Work:
    """What the entries, taken in order, make of the rows."""

    epochs: dict[EpochName, EpochRow]
    coverage: dict[int, CoverageRows]
    stored: list[tuple[PackEntry, int]] = field(default_factory=list)  # with the epoch's row id
    offsets: list[dict[str, int | bool]] = field(default_factory=list)


def commit_pack(
    database: Database, series: SeriesRows, ticket: PackTicket, size: int, entries: Sequence[PackEntry]
) -> list[CatalogOutcome]:
    """See `Catalog.commit_pack`."""
    with database.write() as connection:
        _insert_pack(connection, ticket, size, len(entries))
        defined = series.defined(connection, {block.set_id for entry in entries for block in entry.header.blocks})
        work = _load(database, connection, entries)
        outcomes = [_decide(connection, work, entry, defined) for entry in entries]
        growth = coverage_rows.save(connection, work.coverage)
        for row in work.epochs.values():
            row.grow(growth[row.id])
        epoch_rows.save_epochs(connection, work.epochs.values())
        epoch_rows.record_offsets(connection, work.offsets)
        if entries:
            connection.execute(_seen, {"ids": list({entry.gateway for entry in entries})})
        uses = series.use(connection, _uses(work))
        _insert_messages(connection, ticket, work)  # last: from here on other commits wait for this one
    series.remember(uses)
    return outcomes


def covered(connection: Connection, entries: Sequence[PackEntry]) -> list[bool]:
    """See `SqlCatalog.covered`."""
    names = list(dict.fromkeys((entry.gateway, entry.epoch) for entry in entries))
    ids = {
        name: row_id
        for name in names
        for row_id in connection.execute(_epoch_id, {"gateway": name[0], "epoch": name[1]}).scalars()
    }
    whole = coverage_rows.load_whole(connection, list(ids.values()))
    return [
        (row_id := ids.get((entry.gateway, entry.epoch))) is not None
        and _fit(whole[row_id], entry.header) is Fit.COVERED
        for entry in entries
    ]


def _uses(work: _Work) -> set[Use]:
    return {(entry.gateway, block.set_id) for entry, _ in work.stored for block in entry.header.blocks}


def _insert_pack(connection: Connection, ticket: PackTicket, size: int, messages: int) -> None:
    """The pack's row, unless the deadline has passed by the database's own clock."""
    values = {"b_id": ticket.pack_id, "b_key": ticket.key, "b_size": size, "b_messages": messages}
    if connection.execute(_new_pack, {**values, "b_deadline_us": ticket.deadline_us}).one_or_none() is None:
        raise PackExpired(f"pack {ticket.key} came after its deadline; nothing of it was stored")


def _load(database: Database, connection: Connection, entries: Sequence[PackEntry]) -> _Work:
    """Lock the epochs, then read the coverage that the entries can touch."""
    names = list(dict.fromkeys((entry.gateway, entry.epoch) for entry in entries))
    epochs = epoch_rows.lock_epochs(database, connection, names)
    windows: dict[int, Range] = {}
    for entry in entries:
        epoch_id = epochs[entry.gateway, entry.epoch].id
        atoms = entry.header.atoms
        low, high = windows.get(epoch_id, (SEQ_MAX, 0))
        windows[epoch_id] = (
            min(low, min((atom.first for atom in atoms), default=low)),
            max(high, max((atom.end for atom in atoms), default=high)),
        )
    fragments = {row.id: row.fragments for row in epochs.values()}
    return _Work(epochs, coverage_rows.load(connection, fragments, windows))


def _decide(connection: Connection, work: _Work, entry: PackEntry, defined: Collection[int]) -> CatalogOutcome:
    """Classify one entry against all that is stored, the entries before it included, and take it if it is new."""
    row = work.epochs[entry.gateway, entry.epoch]
    row.next_seq = max(row.next_seq, entry.next_seq)
    coverage = work.coverage[row.id].coverage
    fit = _fit(coverage, entry.header)
    if fit is Fit.COVERED:
        return AlreadyStored()
    if fit is Fit.OVERLAP:
        whole = coverage_rows.load_whole(connection, [row.id])[row.id]
        whole.store(coverage.stored - whole.stored)  # what this very transaction has added
        return Overlaps(whole.frame())
    unknown = tuple(block.set_id for block in entry.header.blocks if block.set_id not in defined)
    if unknown:
        return UnknownSeries(unknown)
    atoms = [(atom.first, atom.end) for atom in entry.header.atoms]
    if entry.header.kind is Kind.RAW:
        coverage.store(atoms)
    else:
        coverage.store_rollup(*atoms[0])
    row.next_seq = max(row.next_seq, *(end for _, end in atoms))
    row.span_max_us = max(row.span_max_us, min(entry.t_max_us - entry.t_min_us, SEQ_MAX))  # an int64 of the database
    if row.take_anchor(entry.header.anchor):
        work.offsets.append({"epoch_id": row.id, "version": row.offset_version, **row.offset_values()})
    work.stored.append((entry, row.id))
    return Stored()


def _fit(coverage: Coverage, header: Header) -> Fit:
    """How a message lies to what is stored. A roll-up is alone in its message: `ingest.check`."""
    if header.kind is Kind.RAW:
        return coverage.classify((atom.first, atom.end) for atom in header.atoms)
    return coverage.classify_rollup(header.atoms[0].first, header.atoms[0].end)


def _insert_messages(connection: Connection, ticket: PackTicket, work: _Work) -> None:
    if not work.stored:
        return
    end = connection.execute(_take_ids, {"b_count": len(work.stored)}).scalar_one()
    messages, sets = [], []
    for id_, (entry, epoch_id) in enumerate(work.stored, start=end - len(work.stored)):
        header = entry.header
        messages.append(
            {
                "id": id_,
                "epoch_id": epoch_id,
                "pack_id": ticket.pack_id,
                "offset": entry.offset,
                "length": entry.length,
                "first": header.atoms[0].first,
                "cells": header.count,
                "priority": int(header.priority),
                "kind": int(header.kind),
                "boot_min_us": entry.t_min_us,
                "boot_max_us": entry.t_max_us,
            }
        )
        sets += [
            {"epoch_id": epoch_id, "set_id": set_id, "boot_max_us": entry.t_max_us, "message_id": id_}
            for set_id in dict.fromkeys(block.set_id for block in header.blocks)
        ]
    connection.execute(message.insert(), messages)
    if sets:
        connection.execute(message_set.insert(), sets)
