"""The dust sensor's driver against a part on a pseudo-terminal, and against any bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.drivers.pms5003 import PMS5003, Pms5003Config
from hardware.errors import BusDown, DeviceDataBad, DeviceError, DeviceNoAnswer, DeviceNotReady
from hardware.serial_bus import SerialBus
from simulator.serial.pms5003 import DustFault, SimulatedPms5003, frame
from simulator.serial.port import SerialPort
from wire.clock import SystemClock

WORDS = (6, 8, 10, 5, 8, 9, 1200, 340, 52, 6, 2, 1)
CELLS = [5, 8, 9, 6, 8, 10, 1200, 340, 52, 6, 2, 1]


class Said:
    """A line on which the given bytes come, one piece at a time."""

    name = "/dev/ttyS9"

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)

    def drain(self) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""

    def read(self, count: int, timeout_s: float) -> bytes:
        return self.drain()


def driver_of(*chunks: bytes) -> PMS5003:
    driver = PMS5003(Pms5003Config(), Said(*chunks))
    driver.open()
    return driver


@given(
    st.lists(st.binary(max_size=40).filter(lambda noise: b"BM" not in noise and noise[-1:] != b"B"), max_size=4),
    st.data(),
)
def test_a_frame_is_found_in_any_noise_and_in_any_pieces(noise: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(each + frame(WORDS) for each in noise) + frame(WORDS)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)])]
    assert list(driver_of(*pieces).read()) == CELLS


@given(st.lists(st.sampled_from([b"B", b"M", b"BM\x00\x1c", b"\x00" * 20, frame(WORDS)[:31], b"x"]), max_size=12))
def test_any_bytes_give_cells_or_a_device_error_and_the_next_frame_is_found(pieces: list[bytes]) -> None:
    driver = driver_of(b"".join(pieces))
    with suppress(DeviceError):
        driver.read()
    driver.bus.chunks = [frame(WORDS) + frame(WORDS)]
    assert list(driver.read()) == CELLS


def test_the_newest_frame_counts() -> None:
    other = tuple(word + 1 for word in WORDS)
    assert list(driver_of(frame(WORDS) + frame(other)).read()) == [cell + 1 for cell in CELLS]


def test_every_byte_is_under_the_checksum() -> None:
    good = frame(WORDS)
    for at in range(len(good)):
        with pytest.raises(DeviceError):
            driver_of(good[:at] + bytes([good[at] ^ 0x04]) + good[at + 1 :]).read()


def test_one_reading_without_a_frame_is_not_ready_and_silence_that_lasts_is_no_answer() -> None:
    driver = driver_of(frame(WORDS))
    driver.read()
    with pytest.raises(DeviceNotReady):
        driver.read()
    with pytest.raises(DeviceNoAnswer, match="SET pin"):
        driver.read()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[tuple[SimulatedPms5003, SerialPort, PMS5003]]:
    part = SimulatedPms5003(SystemClock())
    port = SerialPort(tmp_path / "dust", part, SystemClock())
    bus = SerialBus(str(port.link))
    driver = PMS5003(Pms5003Config(), bus)
    driver.open()
    yield part, port, driver
    bus.close()
    port.close()


def test_the_part_on_a_line(line: tuple[SimulatedPms5003, SerialPort, PMS5003]) -> None:
    part, port, driver = line
    assert list(driver.read()) == [*part.last[3:6], *part.last[:3], *part.last[6:]]
    part.fault = DustFault.NOISE
    assert list(driver.read()) == [*part.last[3:6], *part.last[:3], *part.last[6:]]
    part.fault = DustFault.FAN
    with pytest.raises(DeviceDataBad, match="fault 0x02"):
        driver.read()
    port.unplug()
    with pytest.raises(BusDown):
        driver.read()


@pytest.mark.parametrize("fault", [DustFault.BAD_SUM, DustFault.CUT])
def test_bad_frames(line: tuple[SimulatedPms5003, SerialPort, PMS5003], fault: DustFault) -> None:
    part, _, driver = line
    part.fault = fault
    driver.bus.drain()
    with pytest.raises(DeviceDataBad, match="no good frame"):
        driver.read()
    part.fault = DustFault.NONE
    assert len(driver.read()) == 12
