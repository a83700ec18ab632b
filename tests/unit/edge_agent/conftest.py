from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.edge_agent.outbox.parts import Gateway


@pytest.fixture(autouse=True)
def nothing_runs_on() -> Iterator[None]:
    """An outbox that a test leaves open would be closed by the garbage collector, inside another test."""
    yield
    for gateway in tuple(Gateway.running):
        gateway.kill()
