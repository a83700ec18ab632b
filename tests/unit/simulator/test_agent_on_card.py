"""The seams of the fault lab's agent: acknowledgements that are heard again after later ones."""

from __future__ import annotations

import random

from simulator.lab.agent_on_card import EchoedAcks
from tests.sim.memory_outbox import Disk, MemoryOutbox
from wire.coverage import Coverage
from wire.sync.frames import Ack, CloudFrame, Welcome
from wire.sync.gateway import GatewaySync, Identity, SyncOptions


def test_while_it_is_on_each_acknowledgement_comes_again() -> None:
    echo = EchoedAcks()
    outbox = MemoryOutbox(Disk(), 1, lambda: 7, lambda atom: None)
    machine = GatewaySync(outbox, SyncOptions(), Identity(b"m", "0", "0"), random.Random(1))
    machine.connected(0.0)

    def replies(frame: CloudFrame) -> int:
        before = machine.status.replies
        echo.received(machine, frame, 0.0)
        return machine.status.replies - before

    nothing = tuple(Coverage().frame() for _ in outbox.offers())
    assert replies(Welcome(generation=1, coverage=nothing, server_time_us=0, credit_bytes=1 << 20)) == 1
    assert [replies(Ack(1)) for _ in range(2)] == [1, 1]
    echo.on = True
    assert [replies(Ack(1)) for _ in range(2)] == [2, 2]
    echo.on = False
    assert replies(Ack(1)) == 1
