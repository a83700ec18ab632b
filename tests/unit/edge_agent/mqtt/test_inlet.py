from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.load import load
from edge_agent.mqtt.inlet import Inlet
from tests.unit.edge_agent.mqtt.parts import BOILER, config_of
from tests.unit.edge_agent.parts import S
from wire.reading import CellState
from wire.series import StampUnit

ABSENT, BAD, NOT_READY = CellState.ABSENT, CellState.BAD_DATA, CellState.NOT_READY


@pytest.fixture
def inlet(tmp_path: Path) -> Inlet:
    return Inlet(config_of(tmp_path).sensors[0])


@pytest.mark.parametrize(
    ("payload", "raw", "states"),
    [
        (b'{"env": {"t": 21.53}, "load": 0.5}', (2153, 0.5), None),
        (b'{"load": 0.5}', (0, 0.5), bytes([ABSENT, 0])),  # says nothing of the temperature
        (b'{"env": {"t": null}, "load": 1}', (0, 1.0), bytes([NOT_READY, 0])),
        (b'{"env": {"t": "hot"}, "load": 1}', (0, 1.0), bytes([BAD, 0])),
        (b'{"env": {"t": "21.5"}, "load": true}', (2150, 1.0), None),
        (b'{"env": 3, "load": 1}', (0, 1.0), bytes([ABSENT, 0])),
        (b'{"other": 1}', (0, 0), bytes([BAD, BAD])),
        (b"[]", (0, 0), bytes([BAD, BAD])),
        (b"offline", (0, 0), bytes([BAD, BAD])),
        (b"", (0, 0), bytes([BAD, BAD])),
    ],
)
def test_a_message_is_one_tick(inlet: Inlet, payload: bytes, raw: tuple[float, ...], states: bytes | None) -> None:
    tick = inlet.tick("plant/x/state", payload, 5 * S + 1999)
    assert tick is not None
    assert (tick.raw, tick.states, tick.stamp) == (raw, states, 5_000_001)
    assert tick.set_id == inlet.set.id
    assert inlet.set.stamp_unit is StampUnit.US


@given(st.binary(max_size=100))
def test_any_payload_is_a_tick_or_nothing(tmp_path_factory: pytest.TempPathFactory, payload: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    if not file.exists():
        file.write_text(BOILER)
    inlet = Inlet(load(file).sensors[0])
    tick = inlet.tick("plant/x/state", payload, S)
    assert tick is None or len(tick.raw) == 2


def test_plain_payloads_by_topic(tmp_path: Path) -> None:
    text = BOILER.split("[[sensor]]")[0] + (
        '[[sensor]]\nid = "cellar"\ndriver = "mqtt"\ntopic = "cellar/#"\nchannels = [\n'
        '{ name = "t", unit = "Cel", topic = "cellar/t", resolution = 0.1 },\n'
        '{ name = "h", unit = "%RH", topic = "cellar/h" }]\n'
    )
    inlet = Inlet(config_of(tmp_path, text).sensors[0])
    ticks = [inlet.tick(topic, payload, S) for topic, payload in (("cellar/t", b" 20.5\n"), ("cellar/h", b"61"))]
    assert [(tick.raw, tick.states) for tick in ticks if tick] == [
        ((205, 0), bytes([0, ABSENT])),
        ((0, 61.0), bytes([ABSENT, 0])),
    ]
    assert inlet.tick("cellar/door", b"open", S) is None
    bad = inlet.tick("cellar/h", b"nan", S)
    assert bad is not None
    assert bad.states == bytes([ABSENT, BAD])


def test_a_loss_is_told_once_and_its_end_once(inlet: Inlet, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for payload in (
        b"x",
        b"y",
        b'{"load": 1}',
        b'{"load": "a"}',
        b'{"load": "b"}',
        b'{"env": {"t": 1}}',
        b'{"load": 2}',
    ):
        inlet.tick("plant/x/state", payload, S)
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(" (")[0].split(" after")[0] for line in said] == [
        'sensor "boiler" is lost',
        'sensor "boiler" is back',
        'channel "boiler/load" is lost',
        'channel "boiler/load" is back',
    ]


def test_a_gap_passes_a_filter_once(tmp_path: Path) -> None:
    text = BOILER + "".join(
        f"[sensor.channel.{name}]\nfilter = [{{ delta = 1.0 }}]\n" for name in ("temperature", "load")
    )
    inlet = Inlet(config_of(tmp_path, text).sensors[0])
    assert inlet.gap(CellState.BUS_DOWN, S) is not None
    assert inlet.gap(CellState.BUS_DOWN, 2 * S) is None
