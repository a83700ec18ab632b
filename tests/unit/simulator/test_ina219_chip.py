"""The INA219 model, read by our driver; the driver's settings and arithmetic."""

from fractions import Fraction

import msgspec
import pytest

from hardware.drivers.ina219 import INA219, Ina219Config
from hardware.errors import DeviceDataBad, DeviceMismatch, DeviceNoAnswer, DeviceNotReady, DeviceTimeout
from simulator.chips.chip import Fault
from simulator.chips.ina219 import SimulatedIna219, Supply, samples, supply_of
from simulator.world import Air
from tests.unit.simulator.rig import Bench, StepClock


class Rig(Bench):
    def __init__(self, config: Ina219Config | None = None, supply: Supply | None = None) -> None:
        self.given: list[tuple[int | None, ...]] = []
        clock = StepClock()
        config = config or Ina219Config()
        self.chip = SimulatedIna219(
            lambda: Air(25.0, 0, 0), clock, 7, lambda values: self.given.append(tuple(values)), config.shunt_ohms
        )
        if supply is not None:
            self.chip.supply = lambda: supply
        super().__init__(clock, self.chip, INA219, config)
        self.config = config

    def values(self) -> list[float]:
        cells = self.cycle()
        channels = INA219.channels_of(self.config)
        assert all(isinstance(cell, int) for cell in cells), cells
        return [(cell * channel.num + channel.off) / channel.den for cell, channel in zip(cells, channels)]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("config", "supply"),
    [
        (Ina219Config(), Supply(12.0, 2.0)),
        (Ina219Config(), Supply(5.0, -1.5)),
        (Ina219Config(shunt_ohms=0.002, current_max=20, samples=16), Supply(24.0, 15.0)),
        (Ina219Config(shunt_ohms=1.0, current_max=0.03, bus_range=16, samples=128), Supply(3.3, 0.02)),
    ],
)
def test_the_driver_reads_what_flows(config: Ina219Config, supply: Supply) -> None:
    rig = Rig(config, supply)
    rig.driver.open()
    volt, shunt_mv, ampere, watt = rig.values()
    step = float(config.current_step)
    assert volt == pytest.approx(supply.volt, abs=0.008)
    assert shunt_mv == pytest.approx(1000 * supply.ampere * config.shunt_ohms, abs=0.1)
    assert ampere == pytest.approx(supply.ampere, abs=0.1e-3 / config.shunt_ohms + step)
    assert watt == pytest.approx(abs(volt * ampere), abs=20 * step + 0.001)
    assert len(rig.given) == 1


def test_the_step_is_the_one_the_rounded_calibration_makes() -> None:
    example = Ina219Config(shunt_ohms=0.002, current_max=32.768)
    assert (example.calibration, example.current_step, example.gain) == (0x5000, Fraction(1, 1000), 1)
    config = Ina219Config(shunt_ohms=0.1, current_max=2)
    assert config.calibration == 6606  # 0.04096 / (62 uA * 0.1 Ohm) = 6606.45
    assert config.current_step == Fraction(40960, 6606 * 100_000)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"current_max": 4}, "400 mV; the part measures 320 mV"),
        ({"shunt_ohms": 0.0001, "current_max": 1}, "need a calibration of 13"),
        ({"address": 0x50}, "address"),
        ({"samples": 3}, "samples"),
    ],
)
def test_options_that_cannot_be(options: dict[str, float], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.convert(options, Ina219Config)


def test_an_overflow_costs_current_and_power_only() -> None:
    config = Ina219Config(current_max=1.0)  # gain for 160 mV; 1.6 A clips the shunt, current overflows above 1.02 A
    rig = Rig(config, Supply(12.0, 1.2))
    rig.driver.open()
    volt, shunt, current, power = rig.cycle()
    assert (volt, isinstance(shunt, int)) == (3000, True)
    assert isinstance(current, DeviceDataBad)
    assert isinstance(power, DeviceDataBad)
    assert "Raise current_max" in str(power)


def test_a_clipped_shunt_lies_outside_the_channels_range() -> None:
    config = Ina219Config(current_max=3.2)
    rig = Rig(config, Supply(12.0, 5.0))
    rig.driver.open()
    _, shunt_mv, ampere, _ = rig.values()
    shunt, current = INA219.channels_of(config)[1:3]
    assert shunt.high is not None
    assert current.high is not None
    assert (shunt_mv, shunt_mv > shunt.high, ampere > current.high) == (320.0, True, True)
    rig.chip.supply = lambda: Supply(12.0, 3.1)
    _, shunt_mv, ampere, _ = rig.values()
    assert (shunt_mv < shunt.high, ampere < current.high) == (True, True)


def test_a_part_that_lost_power_is_opened_again_and_gives_no_zero() -> None:
    rig = Rig()
    rig.driver.open()
    rig.values()
    rig.chip.power_on()
    with pytest.raises(DeviceMismatch, match="lost power"):
        rig.cycle()
    rig.driver.open()
    assert rig.values()[2] == pytest.approx(supply_of(Air(25.0, 0, 0)).ampere, abs=0.002)


@pytest.mark.parametrize(
    ("fault", "at_open", "later"),
    [
        (Fault.NAK, DeviceNoAnswer, DeviceNoAnswer),
        (Fault.HANG, DeviceTimeout, DeviceTimeout),
        (Fault.WRONG_ID, DeviceMismatch, DeviceNotReady),
        (Fault.GARBLED, DeviceMismatch, DeviceMismatch),
        (Fault.SKIPPED, None, DeviceNotReady),
    ],
)
def test_faults(fault: Fault, at_open: type[Exception] | None, later: type[Exception]) -> None:
    rig = Rig()
    rig.driver.open()
    rig.chip.fault = fault
    with pytest.raises(later):
        rig.cycle()
    if at_open:
        with pytest.raises(at_open):
            rig.driver.open()
    else:
        rig.driver.open()


def test_a_reading_before_the_end_of_the_conversion_is_not_ready() -> None:
    rig = Rig()
    rig.driver.open()
    rig.driver.trigger()
    rig.clock.sleep(0.001)
    with pytest.raises(DeviceNotReady):
        rig.driver.read()


def test_recognised_after_a_reset_and_while_it_is_in_use() -> None:
    rig = Rig()
    assert INA219.recognise(rig.bus, 0x40)
    rig.driver.open()
    rig.cycle()
    assert INA219.recognise(rig.bus, 0x40)
    rig.chip.fault = Fault.WRONG_ID
    assert not INA219.recognise(rig.bus, 0x40)
    rig.chip.fault = Fault.GARBLED
    assert not INA219.recognise(rig.bus, 0x40)


def test_averages() -> None:
    assert [samples(code) for code in (0b0011, 0b1000, 0b1001, 0b1111)] == [1, 1, 2, 128]
