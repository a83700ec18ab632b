"""The Modbus driver and the serial bus against units that speak the wire protocol on a pseudo-terminal."""

from __future__ import annotations

import logging
import struct
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.model import ChannelPlan, SensorPlan, SerialSection
from edge_agent.sources.line import BusLine
from edge_agent.sources.sources import make_lines
from hardware.drivers.modbus import FORMATS, Batch, Modbus, ModbusConfig, Register, batches_of
from hardware.errors import BusDown, DeviceDataBad, DeviceError, DeviceNoAnswer, ModbusRefused
from hardware.serial_bus import SerialBus
from simulator.serial.modbus import ModbusLine, Unit, UnitFault, crc16
from simulator.serial.port import SerialPort
from wire.clock import NS_PER_S, SystemClock
from wire.reading import CellState, Priority

TIMEOUT_S = 0.1


class Rig:
    def __init__(self, folder: Path) -> None:
        self.unit = Unit(
            holding={at: at for at in range(300)}, input={0: 7}, coil={at: at % 3 == 0 for at in range(40)}
        )
        self.port = SerialPort(folder / "tty", ModbusLine({3: self.unit}), SystemClock())
        self.bus = SerialBus(str(self.port.link))

    def driver(self, *registers: Register, **options: Any) -> Modbus:
        driver = Modbus(ModbusConfig(unit_id=3, register=registers, answer_timeout=TIMEOUT_S, **options), self.bus)
        driver.open()
        return driver


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.bus.close()
    rig.port.close()


def word(name: str, address: int, **options: Any) -> Register:
    return Register(name, address, "count", **options)


@given(st.sampled_from(list(FORMATS)), st.booleans(), st.booleans(), st.data())
def test_every_type_in_every_order(kind: str, words_little: bool, bytes_little: bool, data: st.DataObject) -> None:
    bits = 8 * struct.calcsize(FORMATS[kind])
    if kind.startswith("float"):
        value: float = data.draw(st.floats(width=32 if bits == 32 else 64, allow_nan=False))
    else:
        value = data.draw(st.integers(0, 2**bits - 1)) - (2 ** (bits - 1) if kind.startswith("int") else 0)
    raw = struct.pack(">" + FORMATS[kind], value)
    words = [raw[at : at + 2] for at in range(0, len(raw), 2)]
    words = words[::-1] if words_little else words
    register = word(
        "x",
        0,
        type=kind,
        word_order="little" if words_little else "big",
        byte_order="little" if bytes_little else "big",
    )
    found = register.decode([int.from_bytes(each, "little" if bytes_little else "big") for each in words])
    assert (found, type(found)) == (value, float if kind.startswith("float") else int)


registers = st.lists(
    st.builds(
        lambda at, kind, function: word("x", at, type=kind if function == "holding" else "bit", function=function),
        st.integers(0, 400),
        st.sampled_from(["uint16", "int32", "float64"]),
        st.sampled_from(["holding", "coil"]),
    ),
    min_size=1,
    max_size=40,
)


@given(registers, st.integers(0, 125), st.integers(1, 125))
def test_batches_hold_every_register_once_within_the_limits(found: list[Register], gap: int, limit: int) -> None:
    batches = batches_of(found, gap, limit)
    assert sorted(place for batch in batches for place in batch.places) == list(range(len(found)))
    for batch in batches:
        each = [found[place] for place in batch.places]
        assert batch.count <= max(limit * 16 if batch.function == 1 else limit, *(one.size for one in each))
        assert min(one.address for one in each) == batch.address
        assert max(one.address + one.size for one in each) == batch.address + batch.count
        used = {at for one in each for at in range(one.address, one.address + one.size)}
        holes = sorted({*range(batch.address, batch.address + batch.count)} - used)
        assert all(any(at + step in used for step in range(1, gap + 2)) for at in holes)


def test_neighbours_are_one_request(rig: Rig) -> None:
    driver = rig.driver(word("a", 10), word("b", 12, type="int32"), word("c", 250), word("d", 0, function="input"))
    assert list(driver.read()) == [10, 12 << 16 | 13, 250, 7]
    assert rig.unit.requests == 3
    assert batches_of([word("a", 0), word("b", 125)], 125, 125) == [Batch(3, 0, 1, (0,)), Batch(3, 125, 1, (1,))]


def test_bits_of_many_bytes(rig: Rig) -> None:
    driver = rig.driver(*(word(str(at), at, function="coil", type="bit") for at in range(40)))
    assert list(driver.read()) == [int(at % 3 == 0) for at in range(40)]
    assert rig.unit.requests == 1


def test_a_refused_register_costs_its_own_channel_and_later_cycles_ask_it_alone(rig: Rig) -> None:
    del rig.unit.holding[11]
    driver = rig.driver(word("a", 10), word("b", 11), word("c", 12))
    for requests in (4, 3):
        rig.unit.requests = 0
        a, b, c = driver.read()
        assert (a, c, rig.unit.requests) == (10, 12, requests)
        assert isinstance(b, ModbusRefused)
        assert "exception 2 (ILLEGAL DATA ADDRESS) to function 3 at address 11" in str(b)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (UnitFault.FAILURE, "SERVER DEVICE FAILURE"),
        (UnitFault.BAD_CRC, "bad checksum"),
        (UnitFault.OTHER_UNIT, "another unit"),
        (UnitFault.CUT, "3 bytes of 7 came"),
    ],
)
def test_a_bad_answer_is_bad_data_and_the_next_is_good(rig: Rig, fault: UnitFault, said: str) -> None:
    driver = rig.driver(word("a", 10))
    rig.unit.fault = fault
    (cell,) = driver.read()
    assert isinstance(cell, DeviceDataBad)
    if fault is not UnitFault.CUT:
        assert said in str(cell)
    rig.unit.fault = UnitFault.NONE
    assert list(driver.read()) == [10]


def test_silence_is_no_answer_within_the_deadline(rig: Rig) -> None:
    driver = rig.driver(word("a", 10), word("b", 200))
    rig.unit.fault = UnitFault.SILENT
    clock = SystemClock()
    before = clock.boottime_ns()
    with pytest.raises(DeviceNoAnswer, match=r"unit 3 .* no answer in 0.1 s"):
        driver.read()
    assert 0.1 <= (clock.boottime_ns() - before) / NS_PER_S < 1.0  # one request, not two
    rig.unit.fault = UnitFault.NONE
    assert list(driver.read()) == [10, 200]


def test_a_silence_in_the_middle_keeps_what_came_before(rig: Rig) -> None:
    driver = rig.driver(word("a", 10), word("b", 100), word("c", 200))
    line = rig.port.part
    assert isinstance(line, ModbusLine)
    answer = line._answer

    def once(unit: Unit, frame: bytes) -> bytes:
        unit.fault = UnitFault.SILENT if unit.requests >= 1 else UnitFault.NONE
        return answer(unit, frame)

    line._answer = once  # type: ignore[method-assign]
    a, b, c = driver.read()
    assert a == 10
    assert [type(cell) for cell in (b, c)] == [DeviceNoAnswer, DeviceNoAnswer]
    assert rig.unit.requests == 2


def test_an_answer_that_comes_late_is_not_taken_for_the_next_one(rig: Rig) -> None:
    driver = rig.driver(word("a", 10), word("b", 11))
    line = rig.port.part
    assert isinstance(line, ModbusLine)
    request = bytes.fromhex("0303000a0002")
    said = [line.feed(request + crc16(request).to_bytes(2, "little"))]
    assert len(said[0]) == 9
    rig.unit.holding.update({10: 1, 11: 2})
    line.emit = lambda now_ns: said.pop() if said else b""  # type: ignore[method-assign]
    clock = SystemClock()
    for _ in range(200):
        if rig.bus._port.in_waiting == 9:
            break
        clock.sleep(0.01)
    assert rig.bus._port.in_waiting == 9
    assert list(driver.read()) == [1, 2]


def test_swapped_words_are_suspected_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.unit.holding.update({20: 0x0000, 21: 0x41A4})  # 20.5 as float32, low word first
    driver = rig.driver(word("t", 20, type="float32", low=-40, high=85))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            driver.read()
    (record,) = caplog.records
    assert 'with its words swapped it would be 20.5. Try: word_order = "little"' in record.getMessage()
    right = rig.driver(word("t", 20, type="float32", low=-40, high=85, word_order="little"))
    with caplog.at_level(logging.WARNING):
        assert list(right.read()) == [20.5]
    assert len(caplog.records) == 1


def test_numbers_that_no_channel_can_hold_are_bad_data(rig: Rig) -> None:
    rig.unit.holding.update({20: 0x7FC0, 21: 0, 30: 0xFFFF, 31: 0, 32: 0, 33: 0})
    cells = rig.driver(word("nan", 20, type="float32"), word("big", 30, type="uint64")).read()
    assert [type(cell) for cell in cells] == [DeviceDataBad, DeviceDataBad]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"type": "bit"}, "is for coil and discrete"),
        ({"function": "coil"}, 'type = "bit"'),
        ({"scale": 0}, "scale = 0"),
        ({"type": "float32", "scale": 0.1}, "a float comes as it is"),
        ({"address": 65535, "type": "int32"}, "pass 65535"),
        ({"address": 40001 * 2}, "address"),
        ({"typ": "int16"}, "typ"),
    ],
)
def test_registers_that_cannot_be(options: dict[str, Any], said: str) -> None:
    row = {"name": "x", "address": 1, "unit": "V", **options}
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.convert({"unit_id": 1, "register": [row]}, ModbusConfig)


def test_parity_and_bits_reach_the_tty(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pty has no parity and refuses it: the kernel's part of the request is taken away here, and kept."""
    asked: list[int] = []
    real = termios.tcsetattr

    def without_parity(fd: int, when: int, attributes: list[Any]) -> None:
        asked.append(attributes[2])
        flags = attributes[2] & ~(termios.PARENB | termios.PARODD | termios.CSIZE) | termios.CS8
        real(fd, when, [*attributes[:2], flags, *attributes[3:]])

    rig.bus.close()
    with pytest.raises(BusDown, match="does not do 9600 baud 8E1"):
        SerialBus(str(rig.port.link), 9600, "even")
    monkeypatch.setattr(termios, "tcsetattr", without_parity)
    rig.bus = SerialBus(str(rig.port.link), 19200, "even", 8, 1)
    assert list(rig.driver(word("a", 10)).read()) == [10]
    assert (
        asked[-1] & (termios.PARENB | termios.PARODD | termios.CSIZE | termios.CSTOPB) == termios.PARENB | termios.CS8
    )
    rig.bus.close()
    rig.bus = SerialBus(str(rig.port.link), 19200, "odd", 7, 2)
    wanted = termios.PARENB | termios.PARODD | termios.CS7 | termios.CSTOPB
    assert asked[-1] & (termios.PARENB | termios.PARODD | termios.CSIZE | termios.CSTOPB) == wanted


def test_a_second_program_is_refused(rig: Rig) -> None:
    with pytest.raises(BusDown, match="in use by another program"):
        SerialBus(str(rig.port.link))


def test_a_port_that_is_not_there_says_the_fix(tmp_path: Path) -> None:
    with pytest.raises(BusDown, match=r"no such device\. Try: ls /dev/serial/by-id"):
        SerialBus(str(tmp_path / "none"))
    (tmp_path / "file").touch()
    with pytest.raises(BusDown, match="file"):
        SerialBus(str(tmp_path / "file"))


def test_an_adapter_that_is_pulled_and_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = SerialPort(tmp_path / "tty", ModbusLine({3: Unit(holding={10: 42})}), SystemClock())
    line = line_on(port)
    try:
        with caplog.at_level(logging.INFO):
            assert states(line) == (42, 0)
            port.unplug()
            assert [states(line)[1] for _ in range(3)] == [CellState.BUS_DOWN] * 3
            port.plug()
            assert until(line, 0) == (42, 0)
        said = [record.getMessage() for record in caplog.records]
        assert len([text for text in said if "is down" in text]) == 1
        assert len([text for text in said if 'bus "rs485" is back' in text]) == 1
    finally:
        line.close()
        port.close()


def line_on(port: SerialPort) -> BusLine:
    """A line as the agent makes it."""
    config = ModbusConfig(unit_id=3, register=(word("a", 10),), answer_timeout=TIMEOUT_S)
    plan = SensorPlan(
        "pump",
        "modbus",
        Modbus,
        config,
        "rs485",
        0.05,
        Priority.NORMAL,
        2.0,
        tuple(ChannelPlan(channel, 30.0) for channel in Modbus.channels_of(config)),
    )
    section = SerialSection("serial", str(port.link))
    (line,) = make_lines([plan], {"rs485": section}, SystemClock())
    return line


def states(line: BusLine) -> tuple[int | float, int]:
    """One cycle: the value and its state."""
    clock = SystemClock()
    while not (ticks := line.run_due()):
        clock.sleep(max(0.0, (line.next_due_ns() - clock.boottime_ns()) / NS_PER_S))
    (tick,) = ticks
    return tick.raw[0], tick.states[0] if tick.states else 0


def until(line: BusLine, state: int) -> tuple[int | float, int]:
    """Cycles until the state is there; at most 100."""
    found = states(line)
    for _ in range(100):
        if found[1] == state:
            break
        found = states(line)
    return found


def test_close_never_raises(rig: Rig) -> None:
    rig.port.unplug()
    rig.bus.close()
    rig.bus.close()
    with pytest.raises(DeviceError):
        rig.bus.read(1, 0)
