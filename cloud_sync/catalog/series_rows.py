"""Series sets in the catalog: which are defined, and which gateway uses which. Neither is ever taken back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloud_sync.catalog.database import Database, portions
from cloud_sync.catalog.definitions import definition_set, definition_text
from cloud_sync.catalog.schema import gateway_series_set, series_set
from wire.series import SeriesSet

Use = tuple[str, int]  # gateway, series set

_find = sa.select(series_set.c.id).where(series_set.c.id.in_(sa.bindparam("ids", expanding=True)))
_definitions = sa.select(series_set.c.definition).where(series_set.c.id.in_(sa.bindparam("ids", expanding=True)))
_of_gateway = (
    sa.select(series_set.c.definition)
    .join(gateway_series_set, gateway_series_set.c.set_id == series_set.c.id)
    .where(gateway_series_set.c.gateway == sa.bindparam("gateway"))
    .order_by(series_set.c.id)
)


class SeriesRows:
    """Remembers what was seen committed, so that a message of a known set costs no statement."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._defined: set[int] = set()
        self._used: set[Use] = set()

    def defined(self, connection: Connection, set_ids: Collection[int]) -> set[int]:
        """Which of these sets have a definition. Ask before the transaction inserts any."""
        doubtful = [set_id for set_id in set_ids if set_id not in self._defined]
        for ids in portions(doubtful):
            self._defined.update(connection.execute(_find, {"ids": ids}).scalars())
        return self._defined.intersection(set_ids)

    def define(self, connection: Connection, sets: Sequence[SeriesSet]) -> None:
        """Insert definitions; those that are there stay."""
        ordered = sorted(sets, key=lambda s: s.id)  # in one order for all, so that two cannot wait for each other
        known = self.defined(connection, [s.id for s in ordered])
        rows = [{"id": s.id, "definition": definition_text(s)} for s in ordered if s.id not in known]
        if rows:
            connection.execute(self._database.insert(series_set).on_conflict_do_nothing(), rows)

    def use(self, connection: Connection, uses: Iterable[Use]) -> list[Use]:
        """Insert who uses what; returns the uses to `remember` once the transaction is committed."""
        new = [use for use in dict.fromkeys(uses) if use not in self._used]
        if new:
            rows = [{"gateway": gateway, "set_id": set_id} for gateway, set_id in new]
            connection.execute(self._database.insert(gateway_series_set).on_conflict_do_nothing(), rows)
        return new

    def remember(self, uses: Iterable[Use]) -> None:
        """These are committed."""
        self._used.update(uses)

    def definitions(self, connection: Connection, set_ids: Collection[int]) -> list[SeriesSet]:
        """Those of these sets that are defined."""
        return [
            definition_set(text)
            for ids in portions(list(set_ids))
            for text in connection.execute(_definitions, {"ids": ids}).scalars()
        ]

    def of_gateway(self, connection: Connection, gateway: str) -> list[SeriesSet]:
        """Every set that the gateway has ever used."""
        return [definition_set(text) for text in connection.execute(_of_gateway, {"gateway": gateway}).scalars()]
