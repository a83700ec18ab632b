"""The BME280's compensation and its refusals, against numbers that are not ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.drivers.bme280 import (
    BME280,
    BME280Config,
    Calibration,
    Codes,
    compensate,
    compensate_humidity,
    compensate_pressure,
    compensate_temperature,
    fine_temperature,
)
from hardware.drivers.testing_i2c import RegisterBus
from hardware.errors import DeviceDataBad, DeviceMismatch, DeviceNotReady

LOW = bytes.fromhex("706b436718fc7d8e43d6d00b270b8c00f9ff8c3cf8c67017004b")
HIGH = bytes.fromhex("7201001329031e")
CALIBRATION = Calibration.unpack(LOW, HIGH)
RESULT = bytes.fromhex("00240000655ac07eed006800")


def dump(result: bytes = RESULT, **changes: int) -> dict[int, int]:
    registers = {0xD0: 0x60}
    registers.update(enumerate(LOW, 0x88))
    registers.update(enumerate(HIGH, 0xE1))
    registers.update(enumerate(result, 0xF3))
    registers.update({int(name.removeprefix("r"), 16): value for name, value in changes.items()})
    return registers


def device(registers: dict[int, int]) -> BME280:
    return BME280(BME280Config(), RegisterBus(registers))


def float_formula(c: Calibration, codes: Codes) -> tuple[float, float, float]:
    """BST-BME280-DS002 8.1, compensation in double precision: Cel, Pa, %RH. Shares no line with the driver."""
    t1, t2, t3 = c.t
    v1 = (codes.temperature / 16384.0 - t1 / 1024.0) * t2
    v2 = (codes.temperature / 131072.0 - t1 / 8192.0) ** 2 * t3
    t_fine = v1 + v2
    p1, p2, p3, p4, p5, p6, p7, p8, p9 = c.p
    v1 = t_fine / 2.0 - 64000.0
    v2 = v1 * v1 * p6 / 32768.0
    v2 = v2 + v1 * p5 * 2.0
    v2 = v2 / 4.0 + p4 * 65536.0
    v1 = (p3 * v1 * v1 / 524288.0 + p2 * v1) / 524288.0
    v1 = (1.0 + v1 / 32768.0) * p1
    p = (1048576.0 - codes.pressure - v2 / 4096.0) * 6250.0 / v1
    v1 = p9 * p * p / 2147483648.0
    v2 = p * p8 / 32768.0
    p = p + (v1 + v2 + p7) / 16.0
    h1, h2, h3, h4, h5, h6 = c.h
    h = t_fine - 76800.0
    h = (codes.humidity - (h4 * 64.0 + h5 / 16384.0 * h)) * (
        h2 / 65536.0 * (1.0 + h6 / 67108864.0 * h * (1.0 + h3 / 67108864.0 * h))
    )
    h = h * (1.0 - h1 * h / 524288.0)
    return t_fine / 5120.0, p, min(max(h, 0.0), 100.0)


def test_calibration_is_unpacked_as_the_datasheet_lays_it_out() -> None:
    assert CALIBRATION.t == (27504, 26435, -1000)
    assert CALIBRATION.p == (36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000)
    assert CALIBRATION.h == (75, 370, 0, 313, 50, 30)


def test_twelve_bit_humidity_trims_keep_their_sign() -> None:
    high = bytes([0, 0, 0, 0xFF, 0x2E, 0x80, 0xE2])  # H4 = -2, H5 = -2046, H6 = -30
    assert Calibration.unpack(LOW, high).h[3:] == (-2, -2046, -30)


def test_worked_example_of_the_datasheet() -> None:
    """BST-BMP280-DS001 3.12; the BME280's datasheet gives the same formulas and no numbers.

    The example prints 25767236 for pressure; its own 64-bit formula, executed, gives 3 / 256 Pa less.
    """
    t_fine = fine_temperature(CALIBRATION, 519888)
    assert t_fine == 128422
    assert compensate_temperature(t_fine) == 2508
    assert compensate_pressure(CALIBRATION, 415148, t_fine) == 25767233


@given(
    st.integers(400_000, 620_000).filter(lambda code: code != 0x80000),
    st.integers(200_000, 520_000),
    st.integers(20_000, 45_000).filter(lambda code: code != 0x8000),
)
def test_integers_agree_with_the_floating_point_formula(t: int, p: int, h: int) -> None:
    codes = Codes(t, p, h)
    raw = compensate(CALIBRATION, codes)
    cel, pa, rh = float_formula(CALIBRATION, codes)
    t_fine = fine_temperature(CALIBRATION, t)
    assert compensate_temperature(t_fine) / 100 == pytest.approx(cel, abs=0.02)
    assert isinstance(raw[1], int)
    assert raw[1] / 256 == pytest.approx(pa, abs=3)  # t_fine is a whole number of 1/5120 Cel: up to 2 Pa
    assert isinstance(raw[2], int)
    assert raw[2] / 1024 == pytest.approx(rh, abs=0.02)


@given(st.integers(0, 65535), st.integers(-200_000, 500_000))
def test_humidity_stays_between_0_and_100(code: int, t_fine: int) -> None:
    assert 0 <= compensate_humidity(CALIBRATION, code, t_fine) <= 100 * 1024


@given(st.binary(min_size=26, max_size=26), st.binary(min_size=7, max_size=7), st.binary(min_size=8, max_size=8))
def test_any_registers_give_a_value_or_a_reason(low: bytes, high: bytes, data: bytes) -> None:
    for cell in compensate(Calibration.unpack(low, high), Codes.unpack(data)):
        assert isinstance(cell, (int, DeviceDataBad))


def test_a_divisor_of_zero_is_bad_data() -> None:
    blank = Calibration((27504, 26435, -1000), (0,) * 9, CALIBRATION.h)
    with pytest.raises(DeviceDataBad, match="divisor"):
        compensate_pressure(blank, 415148, 128422)


def test_each_skipped_channel_is_a_gap_of_its_own() -> None:
    t, p, h = compensate(CALIBRATION, Codes(519888, 0x80000, 26624))
    assert t == 2508
    assert isinstance(p, DeviceDataBad)
    assert isinstance(h, int)
    t, p, h = compensate(CALIBRATION, Codes(519888, 415148, 0x8000))
    assert (t, p) == (2508, 25767233)
    assert isinstance(h, DeviceDataBad)
    assert all(isinstance(cell, DeviceDataBad) for cell in compensate(CALIBRATION, Codes(0x80000, 415148, 26624)))


def test_trigger_writes_humidity_first_and_says_how_long_a_conversion_takes() -> None:
    part = device(dump())
    part.open()
    assert part.trigger() == 0.0093
    assert part.bus.writes[-1] == bytes([0xF2, 0x01, 0xF4, 0x25])


@pytest.mark.parametrize("head", ["08240000", "00250000"])
def test_a_running_conversion_is_not_ready(head: str) -> None:
    part = device(dump(bytes.fromhex(head) + RESULT[4:]))
    part.open()
    with pytest.raises(DeviceNotReady, match=r"9\.3 ms"):
        part.read()


def test_a_part_that_still_copies_its_calibration_is_not_ready() -> None:
    with pytest.raises(DeviceNotReady, match="calibration"):
        device(dump(rF3=0x01)).open()


def test_a_bmp280_is_named() -> None:
    with pytest.raises(DeviceMismatch, match=r"BME280 at 0x76 on i2c-1: chip id 0x58, expected 0x60 \(a BMP280\?\)"):
        device(dump(rD0=0x58)).open()


@pytest.mark.parametrize("byte", [0x00, 0xFF])
def test_a_blank_calibration_is_refused(byte: int) -> None:
    with pytest.raises(DeviceDataBad, match="blank"):
        device(dump(r88=byte, r89=byte)).open()


def test_data_that_the_part_cannot_give_is_bad() -> None:
    part = device(dump(RESULT[:4] + b"\xff" * 8))
    part.open()
    with pytest.raises(DeviceDataBad, match="impossible"):
        part.read()
