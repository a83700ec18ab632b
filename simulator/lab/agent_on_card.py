"""`edge-agent` on a card that fails on demand and with a wall clock that can be set: run as a script by the fault lab.

The agent is the real one; the card stands under its SQLite and its `os` (`simulator.disk`), the error of the clock is
added to what `SystemClock` reads, and its sync machine can be made to hear acknowledgements twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent.cli import main as agent
from simulator.disk import State, watching
from simulator.lab.conditions import VARIABLE, follow
from wire.clock import NS_PER_S, SystemClock
from wire.sync.frames import Ack, CloudFrame, GatewayFrame
from wire.sync.gateway import GatewaySync

FREE_BYTES = 0  # on a full card


class EchoedAcks:
    """`GatewaySync.received` that, while `on`, hears each acknowledgement again after the next one."""

    def __init__(self) -> None:
        self.on = False
        self._old: Ack | None = None
        self._hear = GatewaySync.received

    @property
    def received(self) -> Callable[[GatewaySync, CloudFrame, float], list[GatewayFrame]]:
        """To stand in its place."""

        def received(machine: GatewaySync, frame: CloudFrame, now: float) -> list[GatewayFrame]:
            out = self._hear(machine, frame, now)
            if isinstance(frame, Ack):
                if self.on and self._old is not None:
                    out += self._hear(machine, self._old, now)
                self._old = frame
            return out

        return received


def main() -> None:
    """Follow the conditions, and be the agent."""
    error_ns = 0
    echo = EchoedAcks()
    with watching(files=True) as make_disk:
        disk = make_disk(Path(os.environ[VARIABLE]).with_name("state"))

        def apply(conditions: dict[str, Any]) -> None:
            nonlocal error_ns
            state = State(conditions.get("disk", State.SOUND))
            if state is State.FULL and disk.state is not State.FULL:
                disk.fill(FREE_BYTES)
            disk.state = state
            error_ns = round(conditions.get("wall_error_s", 0.0) * NS_PER_S)
            echo.on = conditions.get("echo_acks", False)

        def wall_ns(clock: SystemClock) -> int:
            return time.time_ns() + error_ns

        setattr(SystemClock, "wall_ns", wall_ns)  # noqa: B010 - the clock of this process
        setattr(GatewaySync, "received", echo.received)  # noqa: B010
        follow(apply)
        agent()


if __name__ == "__main__":
    main()
