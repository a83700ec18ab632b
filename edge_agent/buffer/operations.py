"""What can be asked about the outbox, by name: through the control socket, or of the file where no agent runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.asking import RequestRefused
from edge_agent.control import Operation
from edge_agent.errors import AgentError
from wire.ranges import SEQ_MAX

if TYPE_CHECKING:
    from edge_agent.outbox.buffer_file import BufferFile
    from edge_agent.outbox.prune import Pruned, Wish

SCHEMA_VERSION = 1


class BufferOperations:
    """Requests by name, for `ControlServer`; each opens the file anew, which costs less than a millisecond."""

    def __init__(self, path: Path, prune: Callable[[Wish], Pruned]) -> None:
        self._path = path
        self._prune = prune

    def by_name(self) -> dict[str, Operation]:
        """Names of the control socket."""
        return {
            "buffer-stats": lambda _: self._read(lambda file: {"schema_version": SCHEMA_VERSION, **file.overview()}),
            "buffer-series": lambda request: self._read(lambda file: file.series_sets(_after(request))),
            "buffer-atoms": lambda request: self._read(lambda file: file.atoms(_after(request))),
            "buffer-prune": self._pruned,
        }

    def _read(self, look: Callable[[BufferFile], dict[str, Any]]) -> dict[str, Any]:
        from edge_agent.outbox.buffer_file import BufferFile  # not in the memory of an agent that nobody asks

        try:
            with closing(BufferFile(self._path)) as file:
                return look(file)
        except AgentError as error:
            raise RequestRefused(str(error)) from error

    def _pruned(self, request: Mapping[str, Any]) -> object:
        from edge_agent.outbox.prune import Wish

        keep, aside, damaged = (request.get(name) for name in ("history_bytes_max", "set_aside", "damaged"))
        counted = keep is None or (isinstance(keep, int) and not isinstance(keep, bool) and 0 <= keep <= SEQ_MAX)
        if not counted or not isinstance(aside, bool) or not isinstance(damaged, bool):
            raise RequestRefused("history_bytes_max is null or a number of bytes, set_aside and damaged true or false")
        try:
            return asdict(self._prune(Wish(keep, aside, damaged)))
        except AgentError as error:
            raise RequestRefused(str(error)) from error


def _after(request: Mapping[str, Any]) -> int:
    after = request.get("after", -1)
    if not isinstance(after, int) or isinstance(after, bool) or not -1 <= after <= SEQ_MAX:
        raise RequestRefused(f"after is a whole number from -1 to {SEQ_MAX}: the `after` of the page before")
    return after
