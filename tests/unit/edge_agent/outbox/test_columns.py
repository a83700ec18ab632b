"""Bits that change in the file's own words: its definitions of tables."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from edge_agent.outbox.columns import COLUMNS, fault_of_columns
from edge_agent.outbox.database import VERSION
from edge_agent.outbox.schema import migrate
from tests.unit.edge_agent.outbox.parts import Gateway
from tests.unit.edge_agent.outbox.test_salvage import PER_COMMIT, SET, filled


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


def test_the_list_is_what_the_migrations_make() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, VERSION)
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '#_%' ESCAPE '#'")
    assert {name for (name,) in rows} == COLUMNS.keys()
    assert fault_of_columns(connection) == ""
    connection.close()


@pytest.mark.parametrize(
    ("word", "hurt"),
    [
        (b"span_first_us INTEGER", b"span_fyrst_us INTEGER"),
        (b"TABLE losses (", b"TABLE lossms ("),
        (b"number INTEGER NOT NULL, first", b"number INTEGEP NOT NULL, first"),
    ],
    ids=["a column's name", "a table's name", "a type"],
)
def test_a_changed_definition_costs_no_reading(gateway: Gateway, word: bytes, hurt: bytes) -> None:
    """The first is whole to SQLite, and could never be written to again."""
    filled(gateway)
    with sqlite3.connect(gateway.database) as connection:
        (atoms,) = connection.execute("SELECT count(*) FROM atoms").fetchone()
    content = gateway.database.read_bytes()
    assert word in content
    gateway.database.write_bytes(content.replace(word, hurt))
    recorder = gateway.start(SET)
    assert (gateway.state / "outbox.db.corrupt").exists()
    assert recorder.stats().cells == atoms * PER_COMMIT * len(SET.series)
    assert recorder.stats().losses == {}
