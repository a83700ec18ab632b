from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.mqtt import PublishSection
from edge_agent.mqtt.discovery import CLASS_UNITS, component_ids, components_of, config_topic, document, slug
from edge_agent.mqtt.inlet import Inlet
from edge_agent.mqtt.message import Outgoing
from edge_agent.mqtt.publisher import ALARMS_KEPT_MAX, Publisher
from tests.unit.edge_agent.mqtt.parts import config_of
from tests.unit.edge_agent.parts import ManualClock
from wire.alarm import Alarm, Phase

CONFIG_TOPIC = "homeassistant/device/edge-gw/config"


def alarm(number: int = 1, series: str = "boiler/temperature", value: float | None = 99.5) -> Alarm:
    return Alarm(
        number,
        series,
        "high 80",
        Phase.RAISED,
        1_000_000_000,
        1_001_500_000,
        19.5,
        80.0,
        value,
        None,
        None,
        80.0,
        "Cel",
    )


@pytest.fixture
def inlet(tmp_path: Path) -> Inlet:
    return Inlet(config_of(tmp_path).sensors[0])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def publisher(inlet: Inlet, clock: ManualClock) -> Publisher:
    publisher = Publisher("gw", PublishSection(readings=10.0, discovery=True), clock)
    publisher.show([inlet.sensor])
    return publisher


def topics(outgoing: list[Outgoing]) -> list[str]:
    return [each.topic for each in outgoing]


def test_readings_go_when_due_and_only_what_is_new(publisher: Publisher, inlet: Inlet, clock: ManualClock) -> None:
    assert publisher.due(clock.now_ns) == []  # nothing yet
    inlet.tick("plant/x/state", b'{"env": {"t": 21.53}}', clock.now_ns)
    assert publisher.due(clock.now_ns) == []  # not yet
    clock.move(publisher.wait_s(clock.now_ns))
    (told,) = publisher.due(clock.now_ns)
    assert told.topic == "edge/gw/boiler"
    assert not told.retain
    assert json.loads(told.payload) == {
        "time": "2023-11-14T22:30:00.000Z",
        "values": {"temperature": 21.53, "load": None},
    }
    clock.move(10)
    assert publisher.due(clock.now_ns) == []
    inlet.tick("plant/x/state", b"garbage", clock.now_ns)
    clock.move(10)
    (told,) = publisher.due(clock.now_ns)
    assert json.loads(told.payload)["values"] == {"temperature": None, "load": None}


def test_readings_on_request(publisher: Publisher, inlet: Inlet, clock: ManualClock) -> None:
    assert publisher.listens_to("edge/gw/boiler/get")
    assert not publisher.listens_to("plant/x/state")
    inlet.tick("plant/x/state", b'{"load": 0.5}', clock.now_ns)
    assert topics(publisher.message("edge/gw/boiler/get", b"")) == ["edge/gw/boiler"]
    assert publisher.message("edge/gw/unknown/get", b"") == []


def test_alarms_go_at_once_and_the_oldest_is_given_up(publisher: Publisher, clock: ManualClock) -> None:
    wakes: list[int] = []
    publisher.wake = lambda: wakes.append(1)
    publisher.due(clock.now_ns)
    for number in range(ALARMS_KEPT_MAX + 3):
        publisher.alarm(alarm(number))
    told = publisher.due(clock.now_ns)
    assert (len(told), publisher.alarms_dropped, len(wakes)) == (ALARMS_KEPT_MAX, 3, ALARMS_KEPT_MAX + 3)
    first = json.loads(told[0].payload)
    assert (told[0].topic, told[0].qos, told[0].retain) == ("edge/gw/$alarm/boiler/temperature", 1, False)
    assert first == {
        "id": "0000000000000003",
        "phase": "raised",
        "series": "boiler/temperature",
        "rule": "high 80",
        "cause": "boiler/temperature: 99.5 Cel, expected at most 80 Cel (high 80, 19.5)",
        "onset": "2023-11-14T22:30:00.000Z",
        "time": "2023-11-14T22:30:01.500Z",
        "score": 19.5,
        "threshold": 80.0,
        "value": 99.5,
        "expected": None,
        "low": None,
        "high": 80.0,
        "unit": "Cel",
    }
    assert publisher.due(clock.now_ns) == []
    publisher.alarm(alarm(series="a/b+#", value=float("nan")))
    (odd,) = publisher.due(clock.now_ns)
    assert odd.topic == "edge/gw/$alarm/a/b__"
    assert json.loads(odd.payload, parse_constant=pytest.fail)["value"] is None


def test_no_alarms_where_nobody_wants_them(clock: ManualClock) -> None:
    publisher = Publisher("gw", PublishSection(alarms=False), clock)
    publisher.alarm(alarm())
    assert publisher.due(clock.now_ns) == []


def check_discovery(payload: bytes) -> dict[str, Any]:
    """What Home Assistant asks of a device's announcement."""
    found: dict[str, Any] = json.loads(payload)
    assert {"device", "origin", "components", "availability"} <= set(found)
    assert found["device"]["identifiers"]
    assert found["origin"]["name"]
    assert all(each["topic"] for each in found["availability"])
    for key, component in found["components"].items():
        assert component["platform"] == "sensor"
        if len(component) == 1:
            continue
        assert key == slug(key) or "_" in key
        assert {"unique_id", "state_topic", "value_template", "state_class", "name"} <= set(component)
        assert set(component["unique_id"]) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
        if "device_class" in component:
            assert component.get("unit_of_measurement", "") in CLASS_UNITS[component["device_class"]]
    return found


def test_discovery_names_every_channel(publisher: Publisher) -> None:
    announced, online = publisher.connected()
    assert (announced.topic, announced.retain, online) == (CONFIG_TOPIC, True, Outgoing("edge/gw", b"online", True))
    found = check_discovery(announced.payload)
    assert found["components"]["boiler-temperature"] == {
        "platform": "sensor",
        "unique_id": "edge-gw-boiler-temperature",
        "name": "boiler temperature",
        "state_topic": "edge/gw/boiler",
        "value_template": "{{ value_json['values'][\"temperature\"] }}",
        "state_class": "measurement",
        "unit_of_measurement": "°C",
        "device_class": "temperature",
        "suggested_display_precision": 2,
    }
    assert "device_class" not in found["components"]["boiler-load"]


def test_home_assistants_birth_brings_everything_again(publisher: Publisher, inlet: Inlet, clock: ManualClock) -> None:
    inlet.tick("plant/x/state", b'{"load": 0.5}', clock.now_ns)
    publisher.due(clock.now_ns)
    assert publisher.message("homeassistant/status", b"offline") == []
    assert topics(publisher.message("homeassistant/status", b"online")) == [CONFIG_TOPIC, "edge/gw", "edge/gw/boiler"]


def test_what_is_gone_is_taken_back_and_what_is_off_is_removed(
    publisher: Publisher, inlet: Inlet, clock: ManualClock
) -> None:
    kept = document("gw", "edge/gw", [inlet.sensor])
    assert publisher.message(CONFIG_TOPIC, json.dumps(kept).encode()) == []
    kept["components"]["old-t"] = {"platform": "sensor", "unique_id": "x"}
    back, clean = publisher.message(CONFIG_TOPIC, json.dumps(kept).encode())
    assert check_discovery(back.payload)["components"]["old-t"] == {"platform": "sensor"}
    assert set(check_discovery(clean.payload)["components"]) == set(component_ids([inlet.sensor]))
    off = Publisher("gw", PublishSection(), clock)
    assert off.connected()[0] == Outgoing(CONFIG_TOPIC, b"", retain=True)
    assert off.filters == ["edge/gw/+/get"]


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.text(), lambda x: st.dictionaries(st.sampled_from(["components", "platform", "a"]), x)
    ).map(lambda x: json.dumps(x).encode())
)
def test_any_retained_payload_is_understood_or_ignored(payload: bytes) -> None:
    assert isinstance(components_of(payload), list)


@given(st.text(), st.text())
def test_slugs_are_safe_and_stay_apart(one: str, other: str) -> None:
    assert set(slug(one)) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
    assert (slug(one) == slug(other)) is (one == other)
    assert config_topic("ha", one).count("/") == 3
