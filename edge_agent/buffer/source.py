"""Where a command reads the outbox: of the running agent, or in the file, which is locked meanwhile."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from edge_agent.asking import ask
from edge_agent.buffer.operations import BufferOperations
from edge_agent.config.model import Config
from edge_agent.errors import NotRunning, StateUnusable
from edge_agent.outbox.buffer_file import BufferFile
from edge_agent.outbox.database import Database
from edge_agent.outbox.lock import StateLock
from edge_agent.outbox.opening import OUTBOX
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.prune import Pruned, Wish, prune
from edge_agent.outbox.texts import set_of
from wire.series import SeriesSet


class Source(Protocol):
    """Answers the requests of `BufferOperations`. `file` is None while an agent has it."""

    @property
    def running(self) -> bool: ...
    @property
    def file(self) -> BufferFile | None: ...
    def ask(self, request: Mapping[str, object]) -> Any: ...


@dataclass(frozen=True, slots=True)
class _Agent:
    config: Config
    running: bool = True
    file: BufferFile | None = None

    def ask(self, request: Mapping[str, object]) -> Any:
        return ask(self.config.runtime_dir, request)


@dataclass(frozen=True, slots=True)
class _File:
    operations: BufferOperations
    file: BufferFile | None
    running: bool = False

    def ask(self, request: Mapping[str, object]) -> Any:
        return self.operations.by_name()[str(request["op"])](request)


@contextmanager
def open_source(config: Config) -> Iterator[Source]:
    """The agent, if one answers; else the file, under the lock that keeps an agent from starting meanwhile.

    Raises:
        StateBusy: an agent has the directory and does not answer.
        StateUnusable, OutboxCorrupt: see `BufferFile`.
        RequestRefused: the agent's socket may not be used.
    """
    try:
        ask(config.runtime_dir, {"op": "buffer-series", "after": -1})
    except NotRunning:
        pass
    else:
        yield _Agent(config)
        return
    path = config.state_dir / OUTBOX
    if not path.exists():
        raise StateUnusable(f"{path}: there is no outbox. Has the agent ever run with this configuration?")
    lock = StateLock(config.state_dir, "lock")
    try:
        file = BufferFile(path)
        try:
            yield _File(BufferOperations(path, lambda wish: _prune(config, wish)), file)
        finally:
            file.close()
    finally:
        lock.release()


def series_sets(source: Source) -> dict[int, SeriesSet]:
    """Every definition, by id."""
    return {set_id: set_of(text) for set_id, text in _pages(source, "buffer-series", "sets")}


def atoms(source: Source) -> Iterator[tuple[int, bool, int, bytes]]:
    """Every atom by key: key, whether it is owed to the cloud, count, segment."""
    for atom_id, owed, count, data in _pages(source, "buffer-atoms", "atoms"):
        yield atom_id, owed, count, base64.b64decode(data)


def _pages(source: Source, op: str, name: str) -> Iterator[Any]:
    after: int | None = -1
    while after is not None:
        page = source.ask({"op": op, "after": after})
        yield from page[name]
        after = page["after"]


def _prune(config: Config, wish: Wish) -> Pruned:
    database = Database(config.state_dir / OUTBOX, OutboxOptions(bytes_max=config.buffer.max_size))
    try:
        return prune(Outbox(database), wish)
    finally:
        database.close()
