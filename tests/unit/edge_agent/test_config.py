from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.example import EXAMPLE
from edge_agent.config.lines import key_lines, line_of
from edge_agent.config.load import load
from edge_agent.config.model import CalibrateLinear, Config, Delta, I2cSection, Median, SerialSection
from edge_agent.config.values import nearest, parse_duration, parse_size, show_duration, show_size
from edge_agent.errors import ConfigInvalid
from wire.reading import Priority

GOOD = """
[agent]
name = "greenhouse-07"
interval = "10s"
labels = { site = "oslo" }
state_dir = "state"
[cloud]
url = "https://fleet.example.org"
ca = "ca.pem"
cert = "/keys/gw.pem"
key = "/keys/gw.key"
batch = "0s"
[buffer]
max_size = "2 GB"
[bus.i2c-1]
kind = "i2c"
[[sensor]]
id = "climate"
driver = "bme280"
bus = "i2c-1"
interval = "500ms"
priority = "low"
address = 0x77
[sensor.channel.temperature]
filter = [{ median = 5 }, { delta = 0.05, heartbeat = "5m" }, { calibrate_linear = [[0.0, 0.2], [40, 39.8]] }]
high = 60
"""

BAD = """\
[agent]
name = "green house"
intervall = "10s"
interval = "1ms"
[cloud]
url = "http://x:1"
ca = "ca.pem"
[buffer]
max_size = "2 XB"
[bus.i2c-1]
kind = "i3c"
[bus.weather]
kind = "i2c"
[[sensor]]
id = "climate"
driver = "bme28"
bus = "i2c-1"
[[sensor]]
id = "climate"
driver = "bme280"
bus = "i2c1"
adress = 0x76
[[sensor]]
id = "attic"
driver = "bme280"
bus = "i2c-1"
address = 0x78
timeout = "soon"
[sensor.channel.temprature]
filter = [{ median = 1 }]
[sensor.channel.humidity]
low = 5
high = 2
filter = [
  { median = 4 },
  { delta = 0.05, heartbeat = "5 min" },
  { trottle = "3s" },
]
[[sensor]]
id = "file"
driver = "csv-replay"
bus = "i2c-1"
path = "x"
columns = [
  { name = "t", unit = "C", resolution = 0.01 },
  { nam = "t", unit = "Cel" },
]
[modle]
x = 1
"""

BAD_SAID = """\
a.toml:2 [agent]: name = "green house" must be 1 to 63 letters, digits, '.', '_' or '-'
a.toml:3 [agent]: unknown key "intervall" – did you mean "interval"?
a.toml:4 [agent]: interval = "1ms" is below the least, 10ms
a.toml:5 [cloud]: "url", "ca", "cert" and "key" go together, or none after a join
a.toml:6 [cloud]: url = "http://x:1" must be https://HOST:PORT
a.toml:9 [buffer]: max_size = "2 XB" is not a size: write a number and B, kB, MB, GB, KiB, MiB or GiB, as in "2 GB"
a.toml:11 [bus.i2c-1]: kind = "i3c" is not one of "i2c", "serial" – did you mean "i2c"?
a.toml:12 [bus.weather]: "device" is missing: write device = "/dev/i2c-N"
a.toml:16 sensor "climate": driver "bme28" unknown – did you mean "bme280"?
a.toml:19 sensor "climate": the id is taken: a.toml:15 has it too
a.toml:21 sensor "climate": bus "i2c1" unknown – did you mean "i2c-1"?
a.toml:22 sensor "climate": unknown key "adress" – did you mean "address"?
a.toml:27 sensor "attic": address = 120 (0x78) is not one of 0x76, 0x77
a.toml:28 sensor "attic": timeout = "soon" is not a duration: write a number and ms, s, m, h or d, as in "10s"
a.toml:29 sensor "attic": channel "temprature" unknown – did you mean "temperature"?
a.toml:30 sensor "attic" channel "temprature" filter: median = 1 must be integer >= 3
a.toml:31 sensor "attic" channel "humidity": low = 5.0 is not below high = 2.0 %RH
a.toml:35 sensor "attic" channel "humidity": median = 4 must be odd, so that raw stays raw
a.toml:36 sensor "attic" channel "humidity" filter: heartbeat = "5 min" is not a duration: write a number and ms, s, \
m, h or d, as in "10s"
a.toml:37 sensor "attic" channel "humidity" filter: unknown key "trottle" – did you mean "throttle"?
a.toml:42 sensor "file": bus = "i2c-1": this driver uses no bus; leave it out
a.toml:46 sensor "file" columns: unknown key "nam" – did you mean "name"?
a.toml:46 sensor "file" columns: "name" is missing
a.toml:48 [modle]: unknown table "modle" – did you mean "model"?
"""


def config_of(folder: Path, text: str, **more: str) -> Config:
    (folder / "a.toml").write_text(text)
    for name, content in more.items():
        (folder / "conf.d").mkdir(exist_ok=True)
        (folder / "conf.d" / f"{name}.toml").write_text(content)
    return load(folder / "a.toml")


SERIAL = """
[bus.plain]
kind = "serial"
port = "/dev/ttyUSB0"
[bus.rs485]
kind = "serial"
port = "/dev/serial/by-id/usb-FTDI-if00-port0"
baud = 19200
parity = "even"
stop = 2
"""

SERIAL_BAD = """\
[bus.a]
kind = "serial"
port = "ttyUSB0"
baud = 5
parity = "E"
bits = 9
device = "/dev/i2c-1"
[bus.b]
kind = "serial"
[bus.c]
kind = "i2c"
device = "/dev/i2c-1"
baud = 9600
[bus.d]
device = "/dev/i2c-1"
[[sensor]]
id = "climate"
driver = "bme280"
bus = "b"
[[sensor]]
id = "fan"
driver = "bme280"
bus = "ok"
[bus.ok]
kind = "serial"
port = "/dev/ttyUSB0"
[[sensor]]
id = "dust"
driver = "pms5003"
bus = "seven"
[bus.seven]
kind = "serial"
port = "/dev/ttyUSB1"
bits = 7
"""

SERIAL_SAID = """\
a.toml:3 [bus.a]: port = "ttyUSB0" must be a path such as /dev/ttyUSB0 or /dev/serial/by-id/...
a.toml:4 [bus.a]: baud = 5 must be integer >= 50
a.toml:5 [bus.a]: parity = "E" is not one of "none", "even", "odd" (known: even, none, odd)
a.toml:6 [bus.a]: bits = 9 must be integer <= 8
a.toml:7 [bus.a]: unknown key "device" (known: baud, bits, kind, parity, port, stop)
a.toml:8 [bus.b]: "port" is missing
a.toml:13 [bus.c]: unknown key "baud" (known: device, kind)
a.toml:14 [bus.d]: "kind" is missing: one of "i2c", "serial"
a.toml:23 sensor "fan": bus "ok" is of kind "serial"; this driver needs "i2c"
a.toml:30 sensor "dust": bus "seven" has bits = 7; this driver needs 8
"""


def problems_of(folder: Path, text: str, **more: str) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        config_of(folder, text, **more)
    return caught.value.problems


def test_serial_buses(tmp_path: Path) -> None:
    assert config_of(tmp_path, SERIAL).buses == {
        "plain": SerialSection("serial", "/dev/ttyUSB0"),
        "rs485": SerialSection("serial", "/dev/serial/by-id/usb-FTDI-if00-port0", 19200, "even", 8, 2),
    }


def test_every_mistake_of_a_serial_bus_is_told(tmp_path: Path) -> None:
    assert "\n".join(problems_of(tmp_path, SERIAL_BAD)) + "\n" == SERIAL_SAID


def test_a_good_file_becomes_one_object_per_part(tmp_path: Path) -> None:
    config = config_of(tmp_path, GOOD)
    assert (config.agent.name, config.agent.interval, config.agent.labels) == ("greenhouse-07", 10.0, {"site": "oslo"})
    assert config.state_dir == tmp_path / "state"
    assert config.cloud is not None
    assert (config.cloud.address, config.cloud.ca) == ("fleet.example.org:8443", str(tmp_path / "ca.pem"))
    assert (config.cloud.cert, config.cloud.batch) == ("/keys/gw.pem", 0.0)
    assert (config.buffer.max_size, config.buffer.commit_interval) == (2_000_000_000, 5.0)
    assert config.buses["i2c-1"] == I2cSection("i2c", "/dev/i2c-1")
    (sensor,) = config.sensors
    assert (sensor.id, sensor.interval, sensor.priority, sensor.config.address) == ("climate", 0.5, Priority.LOW, 0x77)
    temperature, pressure, _ = sensor.channels
    assert temperature.filters == (Median(median=5), Delta(delta=0.05, heartbeat=300.0))
    assert temperature.calibration == CalibrateLinear(calibrate_linear=[(0.0, 0.2), (40.0, 39.8)])
    assert (temperature.low, temperature.high, temperature.stale) == (-40, 60, 1.5)
    assert (pressure.filters, pressure.calibration, pressure.high) == ((), None, 110_000)


def test_every_mistake_is_told_at_once_with_its_line_and_the_nearest_word(tmp_path: Path) -> None:
    said = "\n".join(problems_of(tmp_path, BAD)) + "\n"
    assert said == BAD_SAID


def test_the_example_passes_its_own_check(tmp_path: Path) -> None:
    config = config_of(tmp_path, EXAMPLE)
    assert [sensor.id for sensor in config.sensors] == ["climate"]


def test_the_example_passes_with_every_line_in_force(tmp_path: Path) -> None:
    lines = []
    for at, line in enumerate(EXAMPLE.splitlines()):
        begins_key = line.startswith(("# [", "#   {", "# ]")) or " = " in line.partition("#")[2].partition("#")[0]
        lines.append(line[2:] if at > 3 and line.startswith("# ") and begins_key else line)
    config = config_of(tmp_path, "\n".join(lines))
    assert len(config.sensors[0].channels[0].filters) == 2
    assert config.sensors[0].channels[0].stuck == 100


def test_conf_d_adds_and_never_overrides_in_silence(tmp_path: Path) -> None:
    more = '[agent]\ninterval = "1s"\nlog_level = "debug"\n[[sensor]]\nid = "b"\ndriver = "bme280"\nbus = "i2c-1"\n'
    assert problems_of(tmp_path, GOOD, more=more) == ["more.toml:2 [agent]: interval is set twice, first at a.toml:4"]
    config = config_of(tmp_path, GOOD, more=more.replace('interval = "1s"\n', ""))
    assert config.agent.log_level == "debug"
    assert [sensor.id for sensor in config.sensors] == ["climate", "b"]


def test_two_sensors_at_one_address(tmp_path: Path) -> None:
    more = '[[sensor]]\nid = "b"\ndriver = "bme280"\nbus = "i2c-1"\naddress = 0x77\n'
    assert problems_of(tmp_path, GOOD, more=more) == [
        'more.toml:5 sensor "b": address 0x77 on i2c-1 is sensor "climate"\'s'
    ]


def test_a_unit_that_senml_does_not_know(tmp_path: Path) -> None:
    text = '[[sensor]]\nid = "a"\ndriver = "csv-replay"\npath = "x"\ncolumns = [{ name = "t", unit = "Cels" }]\n'
    (problem,) = problems_of(tmp_path, text)
    assert problem.endswith('channel "t": unit "Cels" is not a SenML unit (RFC 8428) – did you mean "Cel"?')


def test_a_driver_own_rule_speaks(tmp_path: Path) -> None:
    text = '[[sensor]]\nid = "a"\ndriver = "csv-replay"\npath = "x"\ncolumns = []\n'
    assert problems_of(tmp_path, text) == ['a.toml:1 sensor "a": columns is empty: name at least one']


def test_a_calibration_that_no_series_can_have(tmp_path: Path) -> None:
    text = GOOD.replace("[[0.0, 0.2], [40, 39.8]]", "[[0, 0], [1e-9, 1e9]]")
    (problem,) = problems_of(tmp_path, text)
    assert "63 bits" in problem


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[agent]\nname = \n", "a.toml:2: not TOML: Invalid value"),
        ("[agent]\na = 1\na = 2\n", "a.toml:3: not TOML: Cannot overwrite a value"),
        ("sensor = 3\n", "a.toml:1 sensor: must be a table, written [[sensor]]"),
        ("sensor = [3]\n", "a.toml:1 sensor: must be a table, written [[sensor]]"),
        ("agent = 3\n", "a.toml:1 agent: must be a table, written [agent]"),
        ("[bus]\nx = 3\n", "a.toml:2 [bus.x]: must be a table"),
        ("[[sensor]]\nid = 3\ndriver = 'bme280'\n", 'a.toml:2 sensor "3": id = 3 must be string, not integer'),
        ("[agent]\nlabels = { a = 1 }\n", "a.toml:2 [agent]: labels = { a = 1 } must be string, not integer"),
        ("[agent]\nlog_level = 'loud'\n", 'a.toml:2 [agent]: log_level = "loud" is not one of'),
        (
            "[[sensor]]\nid = 'a'\ndriver = 'bme280'\nbus = 'x'\naddress = true\n",
            'a.toml:5 sensor "a": address = true (0x1) is not one of 0x76, 0x77',
        ),
        ("[agent]\ninterval = 10\n", "a.toml:2 [agent]: interval = 10 is not a duration"),
    ],
)
def test_shapes_that_are_wrong(tmp_path: Path, text: str, said: str) -> None:
    assert any(problem.startswith(said) for problem in problems_of(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="no such file – make one: edge-agent config init"):
        load(tmp_path / "none.toml")
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        load(tmp_path / "a.toml")


def test_lines_of_every_shape_of_toml() -> None:
    text = '''\
# first
top."dotted key".x = 1
[a.b] # comment ] "
s = """one
two \\""" three"""
l = 'lit#eral'
m = \'\'\'
x''\'\'\'
arr = [
  1, # one
  { k = "v", "q.r" = [2,
   3] },
]
[[t]]
n = 2024-01-01T00:00:00Z
[[t]]
[t.sub]
z = -1e5
[[t.deep]]
q = 'x'
'''
    tomllib.loads(text)
    lines = key_lines(text)
    expected = {
        ("top", "dotted key", "x"): 2,
        ("a", "b"): 3,
        ("a", "b", "s"): 4,
        ("a", "b", "l"): 6,
        ("a", "b", "m"): 7,
        ("a", "b", "arr"): 9,
        ("a", "b", "arr", 0): 10,
        ("a", "b", "arr", 1, "k"): 11,
        ("a", "b", "arr", 1, "q.r", 1): 12,
        ("t", 0, "n"): 15,
        ("t", 1): 16,
        ("t", 1, "sub", "z"): 18,
        ("t", 1, "deep", 0, "q"): 20,
    }
    assert {path: lines.get(path) for path in expected} == expected
    assert line_of(lines, ("t", 1, "nothing", "here")) == 16
    assert line_of(lines, ("nothing",)) == 1


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in items for found in paths_of(item, (*path, key)))]


@given(st.text(alphabet="[]{}=\"'#.,\n\\ ab1", max_size=60))
def test_whatever_tomllib_reads_the_scanner_follows(text: str) -> None:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = key_lines(text)
    for path in paths_of(values)[1:]:
        assert 1 <= lines[path] <= text.count("\n") + 1


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("10s", 10), ("2m", 120), ("1h 30m", 5400), ("1.5h", 5400), ("7d", 604800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "1 week", "10s x", 10, None, True])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "count"), [("2 GB", 2 * 10**9), ("64KiB", 65536), ("1.5 MB", 1_500_000), ("7 B", 7)])
def test_sizes(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "2", "2 gb", "2 TB", "-1 B", 7])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


def test_shown_as_people_write_them() -> None:
    assert [show_duration(each) for each in (0.01, 0.5, 1.5, 10, 90, 300, 7200, 86400)] == [
        "10ms", "500ms", "1.5s", "10s", "90s", "5m", "2h", "1d",
    ]  # fmt: skip
    assert [show_size(each) for each in (12, 4_200, 2e9)] == ["12 B", "4.2 kB", "2 GB"]


def test_nearest_word_whatever_the_case() -> None:
    assert nearest("BME280", ["bme280", "csv-replay"]) == ' – did you mean "bme280"?'
    assert nearest("zzz", ["bme280", "csv-replay"]) == " (known: bme280, csv-replay)"
    assert nearest("zzz", []) == ""


def test_a_sensor_of_more_channels_than_a_set_holds(tmp_path: Path) -> None:
    columns = ", ".join(f'{{ name = "t{n}", unit = "Cel" }}' for n in range(4097))
    (problem,) = problems_of(
        tmp_path, f'[[sensor]]\nid = "a"\ndriver = "csv-replay"\npath = "x"\ncolumns = [{columns}]\n'
    )
    assert problem.endswith('sensor "a": 4097 channels; a sensor has at most 4096. Split it into two sensors')
