"""The GNSS driver against a receiver on a pseudo-terminal, and against bytes that no receiver should send."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.driver import Cell
from hardware.drivers.nmea_gps import NmeaGps, NmeaGpsConfig, checksum
from hardware.errors import BusDown, DeviceDataBad, DeviceError, DeviceNoAnswer, DeviceNotReady
from hardware.serial_bus import SerialBus
from simulator.serial.gps import SimulatedGps, bursts_of, sentence
from simulator.serial.port import SerialPort
from wire.clock import NS_PER_S, SystemClock

GGA = "GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,"
RMC = "GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W"
NO_FIX = "GPGGA,,,,,,0,,,,M,,M,,"  # as a Telit HE910 says it
VOID = "GPRMC,,V,,,,,,,,,,N"


class Said:
    """A line on which the given bytes have come already, and nothing comes any more."""

    name = "/dev/ttyS9"

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)
        self.waited_s = 0.0

    def drain(self) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""

    def read(self, count: int, timeout_s: float) -> bytes:
        self.waited_s += timeout_s
        return self.chunks.pop(0) if self.chunks else b""


def driver_of(*chunks: bytes) -> NmeaGps:
    driver = NmeaGps(NmeaGpsConfig(), Said(*chunks))
    driver.open()
    return driver


def found(cells: list[Cell]) -> list[int | str]:
    return [cell if isinstance(cell, int) else type(cell).__name__ for cell in cells]


def test_no_fix_is_a_gap_and_never_zero() -> None:
    cells = list(driver_of(sentence(NO_FIX) + sentence(VOID)).read())
    assert found(cells) == [*["DeviceNotReady"] * 5, *["DeviceNotReady"] * 2, 0]
    assert str(cells[0]) == "no fix"


def test_a_fix_that_is_lost_within_a_reading_is_lost() -> None:
    cells = list(driver_of(sentence(GGA) + sentence(RMC) + sentence(NO_FIX) + sentence(VOID)).read())
    assert found(cells)[:5] == ["DeviceNotReady"] * 5


def test_south_and_west_are_negative_and_speed_alone_comes_from_vtg() -> None:
    text = sentence(GGA.replace("N,", "S,").replace("E,", "W,")) + sentence("GNVTG,286.35,T,,M,1.25,N,0.00,K,A")
    assert found(list(driver_of(text).read())) == [-481173000, -115166667, 54540, 1250, 28635, 8, 90, 1]


def test_a_bad_checksum_is_counted_and_the_good_rest_counts() -> None:
    bad = sentence(RMC).replace(b"022.4", b"922.4")
    driver = driver_of(bad + sentence(GGA))
    assert found(list(driver.read()))[:4] == [481173000, 115166667, 54540, "DeviceNotReady"]
    assert driver.sentences_bad == 1
    driver = driver_of(bad + bad)
    with pytest.raises(DeviceDataBad, match="2 bad sentences"):
        driver.read()


@pytest.mark.parametrize(
    "body",
    [
        "GPGGA,123519,9907.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,",
        "GPGGA,123519,4807.038,N,01131.000,E,x,08,0.9,545.4,M,46.9,M,,",
        "GPGGA,1",
        "GPVTG,nan,T,,M,inf,N,0.00,K,A",
    ],
)
def test_a_sentence_that_makes_no_sense_is_bad_data(body: str) -> None:
    driver = driver_of(sentence(body))
    with pytest.raises(DeviceDataBad):
        driver.read()
    assert driver.sentences_bad == 1


def test_a_place_that_is_no_number_is_a_gap() -> None:
    cells = found(list(driver_of(sentence("GPRMC,123519,A,abc,N,01131.000,E,022.4,084.4,230394,003.1,W")).read()))
    assert cells == [*["DeviceNotReady"] * 3, 22400, 8440, *["DeviceNotReady"] * 3]


def test_silence_noise_and_other_sentences() -> None:
    driver = driver_of()
    with pytest.raises(DeviceNoAnswer, match=r"in 1\.5 s"):
        driver.read()
    assert driver.bus.waited_s == pytest.approx(1.5)
    with pytest.raises(DeviceDataBad, match="Check baud"):
        driver_of(b"\x00\xff\x80" * 50).read()
    with pytest.raises(DeviceDataBad, match="1 bad"):
        driver_of(sentence("GPGSA,A,1,,,,,,,,,,,,,,,").replace(b"A,1", b"A,2")).read()
    with pytest.raises(DeviceNotReady, match="neither GGA"):
        driver_of(sentence("GPGSA,A,1,,,,,,,,,,,,,,,")).read()


def test_a_sentence_may_come_in_two_readings() -> None:
    text = sentence(RMC) + sentence(GGA)
    driver = driver_of(text[:40], b"", text[40:])
    driver.bus.chunks = [text[:40], text[40:]]
    assert found(list(driver.read())) == [481173000, 115166667, 54540, 22400, 8440, 8, 90, 1]


def test_a_buffer_that_ran_over_is_thrown_away_because_its_newest_bytes_are_lost() -> None:
    old = (sentence(GGA.replace("N,", "S,")) + sentence(RMC.replace("N,", "S,"))) * 100
    driver = driver_of(old, sentence(GGA) + sentence(RMC))
    assert found(list(driver.read()))[0] == 481173000


@given(st.binary(max_size=400) | st.text("$GPAMRCV,.*019NSEW\r\n", max_size=300).map(str.encode))
def test_any_bytes_give_cells_or_a_device_error(noise: bytes) -> None:
    driver = driver_of(noise, b"\n")
    with suppress(DeviceError):
        assert len(driver.read()) == 8


@given(st.sampled_from(["GGA", "RMC", "VTG"]), st.lists(st.text("0123456789.-NSEWAV", max_size=8), max_size=16))
def test_any_fields_give_cells_or_a_device_error(kind: str, fields: list[str]) -> None:
    driver = driver_of(sentence(f"GP{kind},{','.join(fields)}"))
    try:
        cells = driver.read()
    except DeviceError:
        return
    for cell, channel in zip(cells, NmeaGps.CHANNELS):
        assert isinstance(cell, (int, DeviceError)), channel.name


def test_checksum() -> None:
    assert checksum(GGA.encode()) == b"*47"


@pytest.fixture
def gps(tmp_path: Path) -> Iterator[tuple[SimulatedGps, SerialPort]]:
    part = SimulatedGps(SystemClock())
    port = SerialPort(tmp_path / "gps", part, SystemClock())
    yield part, port
    port.close()


def test_the_receiver_is_where_it_drives(gps: tuple[SimulatedGps, SerialPort]) -> None:
    part, port = gps
    bus = SerialBus(str(port.link))
    driver = NmeaGps(NmeaGpsConfig(), bus)
    driver.open()
    latitude, longitude, altitude, speed, course, *rest = driver.read()
    second = SystemClock().wall_ns() // NS_PER_S
    near = [part.position(second + step) for step in (-2, -1, 0)]
    assert any(
        (latitude, longitude) == (pytest.approx(a * 1e7, abs=2), pytest.approx(b * 1e7, abs=2)) for a, b, _ in near
    )
    assert (altitude, speed, rest) == (4200, 19438, [9, 85, 1])
    assert isinstance(course, int)
    part.has_fix = False
    bus.drain()
    assert isinstance(driver.read()[0], DeviceNotReady)
    port.unplug()
    with pytest.raises(BusDown):
        driver.read()
    bus.close()


def test_a_recorded_log_comes_burst_by_burst(tmp_path: Path) -> None:
    burst = sentence("GPGSV,1,1,00") + sentence(RMC) + sentence(GGA)
    (tmp_path / "log").write_bytes(burst * 3)
    bursts = list(bursts_of(tmp_path / "log"))
    assert b"".join(bursts) == burst * 3
    assert all(each.count(b"GGA") <= 1 for each in bursts)
    assert sum(b"GGA" in each for each in bursts) == 3
