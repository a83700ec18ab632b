"""The BME280 model, read by our driver and by hand."""

import pytest

from hardware.drivers.bme280 import BME280, BME280Config
from hardware.errors import DeviceDataBad, DeviceMismatch, DeviceNoAnswer, DeviceNotReady, DeviceTimeout
from simulator.chips.bme280 import SimulatedBme280
from simulator.chips.chip import Fault
from simulator.i2c_line import I2cLine
from simulator.world import Air, World
from tests.unit.simulator.rig import LineBus, StepClock

AIR = Air(23.45, 98_765.0, 45.6)


class Rig:
    """One simulated part and our driver on it."""

    def __init__(self, air: Air = AIR, seed: int = 7) -> None:
        self.given: list[tuple[int | None, ...]] = []
        self.clock = StepClock()
        self.chip = SimulatedBme280(lambda: air, self.clock, seed, lambda values: self.given.append(tuple(values)))
        self.line = I2cLine(1, {0x76: self.chip})
        self.bus = LineBus(self.line)
        self.driver = BME280(BME280Config(), self.bus)
        self.clock.sleep(0.002)

    def cycle(self) -> tuple[object, ...]:
        self.clock.sleep(self.driver.trigger())
        return tuple(self.driver.read())


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.driver.open()
    return rig


@pytest.mark.parametrize("air", [AIR, Air(-35.0, 45_000.0, 5.0), Air(80.0, 108_000.0, 95.0), Air(0.0, 101_325.0, 50.0)])
def test_the_driver_reads_the_air_that_is_there(air: Air) -> None:
    rig = Rig(air)
    rig.driver.open()
    t, p, h = rig.cycle()
    assert isinstance(t, int)
    assert isinstance(p, int)
    assert isinstance(h, int)
    assert t / 100 == pytest.approx(air.temperature_cel, abs=0.4)
    assert p / 256 == pytest.approx(air.pressure_pa, abs=20)
    assert h / 1024 == pytest.approx(air.humidity_rh, abs=0.6)


def test_no_two_conversions_are_equal_and_each_is_logged_once(rig: Rig) -> None:
    read = [rig.cycle() for _ in range(1000)]
    assert len(set(read)) == 1000
    assert rig.given == read
    rig.driver.read()  # the same conversion once more is not given out twice
    assert len(rig.given) == 1000


def test_a_conversion_takes_its_time(rig: Rig) -> None:
    assert rig.driver.trigger() == 0.0093
    with pytest.raises(DeviceNotReady):
        rig.driver.read()
    assert rig.given == []
    rig.clock.sleep(0.008)  # typical, DS 9.1
    rig.driver.read()
    assert len(rig.given) == 1


def test_after_a_reset_the_calibration_is_copied_first(rig: Rig) -> None:
    rig.bus.write(0x76, 0xE0, b"\xb6")
    with pytest.raises(DeviceNotReady, match="calibration"):
        rig.driver.open()
    rig.clock.sleep(0.002)
    rig.driver.open()
    assert len(rig.cycle()) == 3


def test_before_any_conversion_every_channel_shows_its_skipped_code(rig: Rig) -> None:
    assert all(isinstance(cell, DeviceDataBad) for cell in rig.driver.read())


def test_humidity_is_latched_by_ctrl_meas(rig: Rig) -> None:
    rig.bus.transfer(0x76, bytes([0xF2, 0x00, 0xF4, 0b001_001_01]), 0)
    rig.bus.write(0x76, 0xF2, b"\x01")  # without a write of ctrl_meas it changes nothing
    rig.clock.sleep(0.01)
    t, p, h = rig.driver.read()
    assert isinstance(t, int)
    assert isinstance(p, int)
    assert isinstance(h, DeviceDataBad)
    assert rig.given[-1][2] is None


def test_low_bits_follow_the_oversampling(rig: Rig) -> None:
    for setting, coarse in ((0b001, 4), (0b011, 2), (0b101, 0)):
        bits = 0
        for _ in range(40):
            rig.bus.transfer(0x76, bytes([0xF2, 1, 0xF4, setting << 5 | setting << 2 | 1]), 0)
            rig.clock.sleep(0.2)
            bits |= rig.bus.read(0x76, 0xF9, 1)[0] >> 4
        assert bits == 0xF >> coarse << coarse


def test_normal_mode_goes_on_by_itself(rig: Rig) -> None:
    rig.bus.write(0x76, 0xF5, b"\x00")
    rig.bus.transfer(0x76, bytes([0xF2, 1, 0xF4, 0b001_001_11]), 0)
    seen = set()
    for _ in range(10):
        rig.clock.sleep(0.02)
        seen.add(rig.bus.read(0x76, 0xF7, 8))
    assert len(seen) == 10


@pytest.mark.parametrize(
    ("fault", "error"),
    [(Fault.NAK, DeviceNoAnswer), (Fault.HANG, DeviceTimeout), (Fault.GARBLED, DeviceDataBad)],
)
def test_faults_come_and_go(rig: Rig, fault: Fault, error: type[Exception]) -> None:
    rig.chip.fault = fault
    with pytest.raises(error):
        rig.cycle()
    rig.chip.fault = Fault.NONE
    assert len(rig.cycle()) == 3


def test_wrong_id_stuck_and_skipped(rig: Rig) -> None:
    first = rig.cycle()
    rig.chip.fault = Fault.STUCK
    assert rig.cycle() == first
    assert len(rig.given) == 1
    rig.chip.fault = Fault.SKIPPED
    assert all(isinstance(cell, DeviceDataBad) for cell in rig.cycle())
    rig.chip.fault = Fault.WRONG_ID
    with pytest.raises(DeviceMismatch, match="BMP280"):
        rig.driver.open()


def test_the_world_is_a_function_of_seed_and_time() -> None:
    assert World(3).at(1e9) == World(3).at(1e9)
    assert World(3).at(1e9) != World(4).at(1e9)
    for hour in range(0, 24 * 60, 5):
        air = World(5).at(1.7e9 + hour * 3600)
        assert 10 < air.temperature_cel < 32
        assert 99_000 < air.pressure_pa < 104_000
        assert 10 < air.humidity_rh <= 100
