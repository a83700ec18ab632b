"""What may leave the gateway now: a port, the machine obeys windows and budgets without knowing them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Leave:
    """`until`: when to ask again at the latest, on the machine's clock; None: when something else happens.

    `ask_time`: a stream may be opened although nothing may leave, so that Welcome tells the time.
    """

    bulk: bool = True  # readings and tombstones
    alarms: bool = True  # changes of alarms, and atoms of the alarm class
    ask_time: bool = False
    why: str = ""  # for people; empty when all may leave
    until: float | None = None


class Governor(Protocol):
    """Who says what may leave. Asked often: answers are cheap and consistent with `now`, monotonic seconds."""

    def leave(self, now: float) -> Leave:
        """What may leave at `now`."""
        ...

    def told_time(self, server_time_us: int, now: float) -> None:
        """Welcome named the cloud's wall clock, microseconds since 1970."""
        ...


class Unrestrained:
    """Everything may always leave."""

    def leave(self, now: float) -> Leave:
        """See `Governor`."""
        return Leave()

    def told_time(self, server_time_us: int, now: float) -> None:
        """See `Governor`."""
