"""The ADS1115 model, read by our driver; the driver's inputs and scales."""

import msgspec
import pytest

from hardware.drivers.ads1115 import ADS1115, Ads1115Config, Input
from hardware.errors import DeviceMismatch, DeviceNoAnswer, DeviceNotReady, DeviceTimeout
from simulator.chips.ads1115 import SimulatedAds1115
from simulator.chips.chip import Fault
from simulator.world import Air
from tests.unit.simulator.rig import Bench, StepClock

PINS = (0.75, 2.5, 1.25, 3.0)


class Rig(Bench):
    def __init__(self, config: Ads1115Config | None = None) -> None:
        self.given: list[tuple[int | None, ...]] = []
        clock = StepClock()
        self.chip = SimulatedAds1115(
            lambda: Air(21.0, 101_325.0, 50.0), clock, 7, lambda values: self.given.append(tuple(values))
        )
        self.chip.pins = lambda: PINS
        self.config = config or Ads1115Config()
        super().__init__(clock, self.chip, ADS1115, self.config)

    def values(self) -> list[float]:
        cells = self.cycle()
        channels = ADS1115.channels_of(self.config)
        assert all(isinstance(cell, int) for cell in cells), cells
        return [(cell * channel.num + channel.off) / channel.den for cell, channel in zip(cells, channels)]  # type: ignore[operator]


def test_four_voltages_one_after_another() -> None:
    rig = Rig()
    rig.driver.open()
    for _ in range(2):
        before = rig.clock.now_ns
        assert rig.values() == pytest.approx(PINS, abs=4e-4)
        assert (rig.clock.now_ns - before) / 1e9 == pytest.approx(4 * (1.1 / 128 + 50e-6), rel=1e-3)
    assert [len(each) for each in rig.given] == [1] * 8


def test_differences_ranges_and_units() -> None:
    inputs = (
        Input("bridge", "A1-A3", 512, "kg", scale=10, offset=2),
        Input("current", "A2", 2048, "A", scale=-0.1),
        Input("over", "A3", 1024),
    )
    config = Ads1115Config(input=inputs, rate=860)
    rig = Rig(config)
    rig.driver.open()
    bridge, current, over = rig.values()
    assert (bridge, current) == (pytest.approx(-3.0, abs=1e-3), pytest.approx(-0.125, abs=1e-5))
    channels = ADS1115.channels_of(config)
    assert over == pytest.approx(1.024, abs=1e-4)
    for channel, value, is_inside in zip(channels, (bridge, current, over), (True, True, False)):
        assert channel.low is not None
        assert channel.high is not None
        assert (channel.low <= value <= channel.high) is is_inside
    assert [channel.unit for channel in channels] == ["kg", "A", "V"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"input": []}, "length >= 1"),
        ({"input": [{"name": "x", "pin": "A4"}]}, "A4"),
        ({"input": [{"name": "x", "pin": "A0", "scale": 0}]}, "scale = 0"),
        ({"input": [{"name": "x", "pin": "A0", "scale": 0.1234567890123, "offset": 1.2345678901234}]}, "too many"),
        ({"input": [{"name": "x", "pin": "A0", "gain": 1}]}, "gain"),
        ({"rate": 100}, "100"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.convert(options, Ads1115Config)


@pytest.mark.parametrize(
    ("fault", "at_open", "later"),
    [
        (Fault.NAK, DeviceNoAnswer, DeviceNoAnswer),
        (Fault.HANG, DeviceTimeout, DeviceTimeout),
        (Fault.WRONG_ID, DeviceMismatch, DeviceMismatch),
        (Fault.GARBLED, DeviceMismatch, DeviceMismatch),
        (Fault.SKIPPED, None, DeviceNotReady),
    ],
)
def test_faults(fault: Fault, at_open: type[Exception] | None, later: type[Exception]) -> None:
    rig = Rig()
    rig.driver.open()
    rig.chip.fault = fault
    with pytest.raises(later, match="0x48"):
        rig.cycle()
    rig.chip.fault = Fault.NONE
    rig.clock.sleep(0.01)
    assert len(rig.cycle()) == 4
    rig.chip.fault = fault
    if at_open:
        with pytest.raises(at_open, match="0x48"):
            rig.driver.open()


def test_a_part_that_lost_power_in_the_middle_gives_nothing_wrong() -> None:
    rig = Rig()
    rig.driver.open()
    rig.clock.sleep(rig.driver.trigger())
    rig.chip.power_on()
    with pytest.raises(DeviceMismatch, match="lost power"):
        rig.driver.proceed()
    rig.driver.open()
    assert rig.values() == pytest.approx(PINS, abs=4e-4)


def test_a_step_before_the_end_of_the_conversion_is_not_ready() -> None:
    rig = Rig()
    rig.driver.open()
    rig.driver.trigger()
    rig.clock.sleep(0.007)
    with pytest.raises(DeviceNotReady, match="A0"):
        rig.driver.proceed()


def test_recognised_fresh_and_in_use() -> None:
    rig = Rig()
    assert ADS1115.recognise(rig.bus, 0x48)
    rig.driver.open()
    rig.cycle()
    assert ADS1115.recognise(rig.bus, 0x48)
    rig.bus.write(0x48, 3, b"\x12\x34")
    assert not ADS1115.recognise(rig.bus, 0x48)


def test_the_air_makes_voltages_within_the_supply() -> None:
    chip = SimulatedAds1115(lambda: Air(21.0, 101_325.0, 50.0), StepClock(), 1)
    assert all(0 < volt < 3.3 for volt in chip.pins())
