"""The SHT3x model, read by our driver and by hand."""

import pytest

from hardware.drivers.sht3x import SHT3x, Sht3xConfig, crc8
from hardware.errors import DeviceDataBad, DeviceMismatch, DeviceNoAnswer, DeviceTimeout
from simulator.chips.chip import Fault
from simulator.chips.sht3x import SimulatedSht3x, code
from simulator.world import Air
from tests.unit.simulator.rig import Bench, StepClock

AIR = Air(23.45, 98_765.0, 45.6)


class Rig(Bench):
    def __init__(self, air: Air = AIR) -> None:
        self.given: list[tuple[int | None, ...]] = []
        clock = StepClock()
        self.chip = SimulatedSht3x(lambda: air, clock, 7, lambda values: self.given.append(tuple(values)))
        super().__init__(clock, self.chip, SHT3x, Sht3xConfig())
        clock.sleep(0.002)


@pytest.mark.parametrize("air", [Air(23.45, 0, 45.6), Air(-39.0, 0, 2.0), Air(120.0, 0, 99.0)])
def test_the_driver_reads_the_air_that_is_there(air: Air) -> None:
    rig = Rig(air)
    rig.driver.open()
    temperature, humidity = rig.cycle()
    assert isinstance(temperature, int)
    assert isinstance(humidity, int)
    assert 175 * temperature / 65535 - 45 == pytest.approx(air.temperature_cel, abs=0.3)
    assert 100 * humidity / 65535 == pytest.approx(air.humidity_rh, abs=0.6)
    assert rig.given == [(temperature, humidity)]


def test_a_part_that_converts_or_has_nothing_to_give_does_not_answer() -> None:
    rig = Rig()
    rig.driver.open()
    with pytest.raises(DeviceNoAnswer):
        rig.driver.read()
    rig.driver.trigger()
    rig.clock.sleep(0.010)
    with pytest.raises(DeviceNoAnswer):
        rig.driver.read()
    rig.clock.sleep(0.0055)
    assert len(rig.driver.read()) == 2
    with pytest.raises(DeviceNoAnswer):
        rig.driver.read()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.NAK, DeviceNoAnswer),
        (Fault.HANG, DeviceTimeout),
        (Fault.WRONG_ID, DeviceMismatch),
        (Fault.GARBLED, DeviceMismatch),
    ],
)
def test_faults_at_open(fault: Fault, error: type[Exception]) -> None:
    rig = Rig()
    rig.chip.fault = fault
    with pytest.raises(error, match="0x44"):
        rig.driver.open()


def test_faults_in_the_middle_of_life() -> None:
    rig = Rig()
    rig.driver.open()
    first = rig.cycle()
    rig.chip.fault = Fault.STUCK
    assert rig.cycle() == first
    rig.chip.fault = Fault.SKIPPED
    with pytest.raises(DeviceNoAnswer):
        rig.cycle()
    rig.chip.fault = Fault.GARBLED
    assert [type(cell) for cell in rig.cycle()] == [DeviceDataBad, DeviceDataBad]
    rig.chip.fault = Fault.NONE
    rig.clock.sleep(0.02)
    assert rig.cycle() != first


def test_one_word_with_a_wrong_checksum_costs_its_own_channel() -> None:
    class OneBit:
        name = "i2c-1"

        def transfer(self, address: int, data: bytes, length: int) -> bytes:
            return bytes.fromhex("beef928001a2")[:length]

    temperature, humidity = SHT3x(Sht3xConfig(), OneBit()).read()
    assert temperature == 0xBEEF
    assert isinstance(humidity, DeviceDataBad)
    assert "0x8001 has checksum 0xa2, not 0x93" in str(humidity)


def test_status_tells_power_on_heater_and_unknown_commands() -> None:
    rig = Rig()

    def status() -> int:
        data = rig.bus.transfer(0x44, b"\xf3\x2d", 3)
        assert crc8(data[:2]) == data[2]
        return int.from_bytes(data[:2], "big")

    assert status() == 0x8010
    rig.bus.transfer(0x44, b"\x30\x41", 0)
    rig.bus.transfer(0x44, b"\x30\x6d", 0)
    assert status() == 0x2000
    rig.bus.transfer(0x44, b"\x12\x34", 0)
    rig.bus.transfer(0x44, b"\x30\x66", 0)
    rig.bus.transfer(0x44, b"\x30\xa2", 0)
    with pytest.raises(DeviceNoAnswer):
        status()
    rig.clock.sleep(0.001)
    assert status() == 0x8010


def test_recognised_without_a_command_to_parts_that_have_registers() -> None:
    rig = Rig()
    assert SHT3x.recognise(rig.bus, 0x44)
    with pytest.raises(DeviceNoAnswer):
        SHT3x.recognise(rig.bus, 0x45)
    rig.chip.fault = Fault.WRONG_ID  # answers a register read
    before = rig.line.transactions
    assert not SHT3x.recognise(rig.bus, 0x44)
    assert rig.line.transactions == before + 1


@pytest.mark.parametrize(("share", "expected"), [(-0.1, 0), (0.0, 0), (1.0, 65535), (1.2, 65535)])
def test_codes_end_at_the_ends(share: float, expected: int) -> None:
    assert code(share) == expected
