"""The database's own clock as an SQL expression: all replicas of the service see one time."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

SQLITE_FUNCTION = "wall_us"  # the process and its embedded database have one clock


class _WallClock(FunctionElement[int]):
    """Microseconds since 1970, as of now and not as of the transaction's start."""

    type = sa.BigInteger()
    inherit_cache = True


@compiles(_WallClock, "sqlite")  # type: ignore[no-untyped-call, untyped-decorator, unused-ignore]
def _sqlite(_element: _WallClock, _compiler: Any, **_: Any) -> str:
    return f"{SQLITE_FUNCTION}()"


@compiles(_WallClock, "postgresql")  # type: ignore[no-untyped-call, untyped-decorator, unused-ignore]
def _postgresql(_element: _WallClock, _compiler: Any, **_: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"


now_us = _WallClock()


def database_time(connection: Connection) -> int:
    """What the clock says now, microseconds since 1970."""
    return int(connection.execute(sa.select(now_us)).scalar_one())
