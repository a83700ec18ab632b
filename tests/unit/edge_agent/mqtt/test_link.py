from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_agent.mqtt.link import ANSWER_S_MAX, Link
from edge_agent.mqtt.publisher import Publisher
from tests.unit.edge_agent.mqtt.parts import FakeBroker as Broker
from tests.unit.edge_agent.mqtt.parts import config_of
from tests.unit.edge_agent.parts import ManualClock
from wire.reading import CellState, Tick

GOOD = b'{"env": {"t": 1}, "load": 1}'


class Bench:
    """A link between a broker and a journal that a test can fill."""

    def __init__(self, folder: Path) -> None:
        config = config_of(folder)
        section = config.brokers["site"]
        assert section.publish is not None
        self.clock = ManualClock()
        self.broker = Broker()
        self.events: list[str] = []
        self.ticks: list[Tick] = []
        self.has_room = True
        self.publisher = Publisher("gw", section.publish, self.clock)
        self.link = Link(
            "site",
            section,
            config.sensors,
            self.publisher,
            client_id="gw-site",
            take=self.take,
            room=lambda: self.has_room,
            clock=self.clock,
            make_client=self.broker.make,
        )
        self.publisher.show([inlet.sensor for inlet in self.link.inlets])

    def take(self, ticks: Sequence[Tick]) -> None:
        assert not self.broker.acked[len(self.ticks) :], "acknowledged before it was journalled"
        self.ticks += ticks

    @property
    def states(self) -> list[bytes | None]:
        return [tick.states for tick in self.ticks]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_message_is_journalled_and_then_acknowledged(bench: Bench) -> None:
    bench.link.step()
    bench.broker.deliver("plant/x/state", GOOD, 7)
    assert (len(bench.ticks), bench.broker.acked) == (1, [7])
    bench.broker.deliver("plant/x/state", GOOD, 8, dup=True)
    assert (bench.link.messages, bench.link.redelivered) == (2, 1)


def test_a_message_whose_journalling_fails_is_not_acknowledged(bench: Bench) -> None:
    bench.link.step()
    bench.link._take = lambda _: (_ for _ in ()).throw(ValueError("broken"))  # type: ignore[assignment]
    with pytest.raises(ValueError, match="broken"):
        bench.broker.deliver("plant/x/state", GOOD)
    assert bench.broker.acked == []


def test_a_full_journal_leaves_messages_with_the_broker(bench: Bench) -> None:
    bench.link.step()
    bench.has_room = False
    bench.broker.deliver("plant/x/state", GOOD)
    assert (bench.broker.acked, bench.broker.dropped) == ([], 1)
    gaps = len(bench.ticks)
    bench.clock.move(5)
    bench.link.step()
    assert bench.broker.connects == 1
    assert "journal is full" in bench.link.error
    bench.has_room = True
    bench.clock.move(5)
    bench.link.step()
    assert (bench.broker.connects, len(bench.ticks), bench.link.error) == (2, gaps, "")


@pytest.mark.parametrize(("topic", "retain"), [("other/x", False), ("plant/x/state", True)])
def test_what_nobody_wants_is_acknowledged_and_counted(bench: Bench, topic: str, retain: bool) -> None:
    bench.link.step()
    bench.broker.deliver(topic, GOOD, 3, retain=retain)
    assert (bench.ticks, bench.broker.acked, bench.link.skipped) == ([], [3], 1)


def test_a_broker_that_is_away_is_one_gap_and_told_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edge_agent.mqtt")
    bench.broker.is_there = False
    for _ in range(200):
        bench.link.step()
        bench.clock.move(1)
    assert bench.states == [bytes([CellState.BUS_DOWN] * 2)]
    assert 6 <= bench.broker.connects <= 10  # 0, 0, 1, 2, 4 … 60 s
    assert max(bench.broker.waits) <= 2.0
    bench.broker.is_there = True
    bench.clock.move(60)
    bench.link.step()
    said = [record.getMessage() for record in caplog.records]
    assert said == ['broker "site" is lost: refused', said[1]]
    assert said[1].startswith('broker "site" is back after ')
    assert bench.link.inlets[0].sensor.error == ""


def test_a_broker_that_does_not_answer_is_dropped(bench: Bench) -> None:
    bench.broker.answers = False
    bench.link.step()
    bench.clock.move(ANSWER_S_MAX - 1)
    bench.link.step()
    assert bench.broker.dropped == 0
    bench.clock.move(2)
    bench.link.step()
    assert bench.broker.dropped == 1


def test_two_clients_of_one_name_do_not_storm_the_broker(bench: Bench) -> None:
    for _ in range(60):
        bench.link.step()
        bench.clock.move(1)
        bench.link.step()
        if bench.link.is_connected:
            bench.broker.link.lost("session taken over")
    assert bench.broker.connects < 10
    bench.clock.move(60)
    bench.link.step()
    bench.clock.move(11)  # it lasts
    bench.link.step()
    bench.broker.link.lost("cut")
    bench.link.step()
    assert bench.link.is_connected  # at once


def test_what_is_asked_and_told_at_a_connect(bench: Bench) -> None:
    bench.link.step()
    assert [(each.topic, each.qos, each.retained) for each in bench.broker.asked] == [
        ("plant/+/state", 1, "never"),
        ("edge/gw/+/get", 0, "always"),
        ("homeassistant/status", 0, "always"),
        ("homeassistant/device/edge-gw/config", 0, "always"),
    ]
    assert [(each.topic, each.retain) for each in bench.broker.told] == [
        ("homeassistant/device/edge-gw/config", True),
        ("edge/gw", True),
    ]
    assert bench.broker.will is not None
    assert (bench.broker.will.payload, bench.broker.client_id) == (b"offline", "gw-site")
    bench.link.close()
    assert bench.broker.told[-1] == bench.broker.will


def test_a_topic_that_the_broker_refuses_is_the_sensors_error(bench: Bench) -> None:
    bench.link.step()
    bench.broker.link.refused("plant/+/state", "Not authorized")
    assert bench.link.inlets[0].sensor.error == "the broker refuses plant/+/state: Not authorized"
