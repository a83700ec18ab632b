from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config.load import load
from edge_agent.errors import ConfigInvalid
from hardware.driver import Channel
from tests.unit.edge_agent.mqtt.parts import BOILER, config_of

BAD = """\
[mqtt.site]
url = "http://broker"
keepalive = "1s"
pasword_file = "x"
[mqtt.site.publish]
readings = "soon"
prefix = "edge/#"
[mqtt.other]
url = "mqtt://broker:1883"
ca = "ca.pem"
[mqtt.other.publish]
discovery = true
[mqtt.third]
url = "mqtts://broker:99999"
[[sensor]]
id = "a"
driver = "mqtt"
topic = "plant/#/state"
channels = [{ name = "t", unit = "Cel", path = "a." }]
[[sensor]]
id = "b"
driver = "mqtt"
broker = "sit"
topic = "plant/x"
channels = [{ name = "t", unit = "Cel" }]
[[sensor]]
id = "c"
driver = "mqtt"
topic = "plant/x"
channels = [{ name = "t", unit = "Cel", resolution = 0.1, type = "float32" }]
[[sensor]]
id = "d"
driver = "mqtt"
topic = "plant/x"
qos = 2
channels = [{ name = "t", unit = "Cel", topic = "cellar/t" }]
[[sensor]]
id = "e"
driver = "mqtt"
topic = "plant/x"
channels = [{ name = "t", unit = "C", type = "double" }]
[[sensor]]
id = "f"
driver = "mqtt"
topic = "plant/x"
channels = [{ name = "t", unit = "Cel" }]
"""

BAD_SAID = """\
a.toml:2 [mqtt.site]: url = "http://broker" must be mqtt://HOST:PORT or mqtts://HOST:PORT
a.toml:3 [mqtt.site]: keepalive = "1s" is below the least, 5s
a.toml:4 [mqtt.site]: unknown key "pasword_file" – did you mean "password_file"?
a.toml:6 [mqtt.site.publish]: readings = "soon" is not a duration: write a number and ms, s, m, h or d, as in "10s"
a.toml:7 [mqtt.site.publish]: prefix = "edge/#" must be levels of letters, digits, '.', '_' or '-' with '/' between
a.toml:8 [mqtt.other]: ca, cert and key are for mqtts://
a.toml:11 [mqtt.other.publish]: discovery needs values to show: write readings = "10s"
a.toml:13 [mqtt.third]: port 99999 of the url is not 1 to 65535
a.toml:19 sensor "a" channels: path "a." is not understood from "." on: write a.b, a[0].b or ["a.b"]
a.toml:20 sensor "b": broker "sit" unknown – did you mean "site"?
a.toml:30 sensor "c" channels: channel "t": resolution makes counts, leave type = "float32" out
a.toml:35 sensor "d": qos = 2 (0x2) is not one of 0x0, 0x1
a.toml:41 sensor "e" channels: type = "double" is not one of "int", "float32", "float64" (known: float32, float64, \
int)
a.toml:42 sensor "f": "broker" is missing: there is not exactly one
"""

CROSSED = """\
[agent]
name = "gw"
[mqtt.site]
url = "mqtt://broker"
[mqtt.site.publish]
readings = "5s"
discovery = true
[[sensor]]
id = "all"
driver = "mqtt"
topic = "edge/+/boiler"
channels = [{ name = "t", unit = "Cel" }]
[[sensor]]
id = "one"
driver = "mqtt"
topic = "plant/x/+"
channels = [{ name = "t", unit = "Cel" }]
[[sensor]]
id = "same"
driver = "mqtt"
topic = "plant/x/+"
channels = [{ name = "t", unit = "Cel" }]
[[sensor]]
id = "other"
driver = "mqtt"
topic = "plant/#"
channels = [{ name = "t", unit = "Cel" }]
[[sensor]]
id = "home"
driver = "mqtt"
topic = "homeassistant/status"
channels = [{ name = "t", unit = "Cel" }]
"""

CROSSED_SAID = """\
a.toml:11 sensor "all": topic = "edge/+/boiler" takes in "edge/gw/#", what this gateway itself tells or is told
a.toml:26 sensor "other": topic = "plant/#" has messages in common with "plant/x/+" of sensor "one", which may come \
twice; write both alike, or apart
a.toml:31 sensor "home": topic = "homeassistant/status" takes in "homeassistant/#", what this gateway itself tells or \
is told
"""


def problems_of(folder: Path, text: str) -> list[str]:
    (folder / "a.toml").write_text(text)
    with pytest.raises(ConfigInvalid) as caught:
        load(folder / "a.toml")
    return caught.value.problems


def test_every_mistake_is_named_with_its_line(tmp_path: Path) -> None:
    assert problems_of(tmp_path, BAD) == BAD_SAID.splitlines()


def test_filters_that_cross_are_refused(tmp_path: Path) -> None:
    assert problems_of(tmp_path, CROSSED) == CROSSED_SAID.splitlines()


def test_a_sensor_needs_a_broker(tmp_path: Path) -> None:
    sensor = BOILER[BOILER.index("[[sensor]]") :]
    (problem,) = problems_of(tmp_path, sensor)
    assert problem.endswith('sensor "boiler": "broker" is missing: there is not exactly one (add [mqtt.NAME])')


def test_channels_and_urls(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    (plan,) = config.sensors
    assert [each.channel for each in plan.channels] == [
        Channel("temperature", "Cel", "temperature", "int", 1, 100),
        Channel("load", "%", value_type="float32"),
    ]
    for url, host, port in (
        ("mqtt://broker", "broker", 1883),
        ("mqtts://broker", "broker", 8883),
        ("mqtt://10.0.0.1:99", "10.0.0.1", 99),
        ("mqtt://[::1]:77", "::1", 77),
        ("mqtts://[fe80::1]", "fe80::1", 8883),
    ):
        section = config_of(tmp_path, BOILER.replace("mqtt://127.0.0.1", url)).brokers["site"]
        assert (section.host, section.port) == (host, port)
