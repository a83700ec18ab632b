"""A network that delays, stalls, goes mute and cuts. What it carries are the bytes that gRPC would."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from simulator.virtual.world import World


class Listener(Protocol):
    """Who takes streams."""

    def accept(self, stream: Stream) -> bool: ...


class Stream:
    """One connection. Each end has its own idea of whether it is still there."""

    def __init__(self, world: World, link: Link, name: str) -> None:
        self.name = name  # what the client's certificate says
        self.on_up: Callable[[bytes], object] = lambda _: None
        self.on_down: Callable[[bytes], object] = lambda _: None
        self.on_lost: Callable[[], object] = lambda: None
        self.cloud_open = self.gateway_open = True
        self.mute: set[str] = set()  # ways on which everything is read and nothing arrives
        self._world = world
        self._link = link
        self._last = {"up": 0.0, "down": 0.0}

    def up(self, data: bytes) -> None:
        """The gateway sends."""
        self._carry("up", lambda: self.cloud_open and self.on_up(data))

    def down(self, data: bytes) -> None:
        """The cloud sends."""
        if self._link.cuts_answer():
            self.lose()
        self._carry("down", lambda: self.gateway_open and self.on_down(data))

    def _carry(self, way: str, arrive: Callable[[], object]) -> None:
        if way in self.mute:
            return
        when = max(self._last[way], self._link.arrival(way))
        self._last[way] = when
        self._world.at(when, arrive)

    def hang_up(self) -> None:
        """The gateway leaves. What it sent may still arrive: the cloud does not know yet."""
        self.gateway_open = False
        if self._link.rng.random() < 0.5:
            self.cloud_open = False

    def lose(self) -> None:
        """The connection breaks. What is under way to the cloud may still arrive, as after a lost FIN."""
        if self._link.rng.random() < 0.5:
            self.cloud_open = False
        if self.gateway_open:
            self.gateway_open = False
            self._world.after(0.05, self.on_lost)


class Link:
    """One gateway's way to the cloud."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.rng = rng
        self._world = world
        self._delay_s = rng.choice([0.002, 0.03, 0.3])
        self._answers_late_s = 0.0
        self._cut_until = self._stalled_until = self._late_until = 0.0
        self._cuts_answer = False
        self._streams: list[Stream] = []

    def arrival(self, way: str) -> float:
        """When what is sent now arrives."""
        late_s = self._answers_late_s if way == "down" and self._world.now < self._late_until else 0.0
        delay_s = self._delay_s * self.rng.uniform(0.8, 1.5) + late_s
        return max(self._world.now, self._stalled_until) + delay_s

    def open(self, name: str, listener: Listener) -> Stream | None:
        """A new stream; None when there is no way or nobody listens."""
        if self._world.now < self._cut_until or self._world.now < self._stalled_until:
            return None
        stream = Stream(self._world, self, name)
        if not listener.accept(stream):
            return None
        self._streams = [each for each in self._streams if each.gateway_open or each.cloud_open] + [stream]
        return stream

    def cut(self, seconds: float) -> None:
        """Every connection breaks, and none is made for a while."""
        self._cut_until = self._world.now + seconds
        for stream in self._streams:
            stream.lose()

    def cut_at_answer(self) -> None:
        """The connection breaks at the cloud's next answer, which does not arrive."""
        self._cuts_answer = True

    def cuts_answer(self) -> bool:
        """Whether this answer is that one."""
        cuts, self._cuts_answer = self._cuts_answer, False
        return cuts

    def stall(self, seconds: float) -> None:
        """Nothing breaks and nothing arrives."""
        self._stalled_until = self._world.now + seconds

    def go_mute(self, seconds: float, ways: set[str]) -> None:
        """Everything is read and, on these ways, nothing arrives; such a connection is reset in the end."""
        for stream in self._streams:
            if stream.gateway_open:
                stream.mute |= ways
                self._world.after(seconds, stream.lose)

    def delay_answers(self, seconds: float, late_s: float) -> None:
        """What the cloud says takes longer for a while."""
        self._late_until = self._world.now + seconds
        self._answers_late_s = late_s

    def heal(self) -> None:
        """Connections can be made."""
        self._cut_until = 0.0
        self._cuts_answer = False
