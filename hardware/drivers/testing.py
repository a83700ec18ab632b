"""The conformance kit: what every driver must stand, whoever wrote it.

A driver's author writes one `Golden` (a TOML file: options, the part's registers, the cells expected of them) and
calls `check_all`. The registers stand in for the part through `RegisterBus`, an I2C part that counts its register
pointer up by itself, and that can fail at any transaction.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from hardware.driver import Cell, Driver, DriverConfig
from hardware.drivers.testing_i2c import REGISTERS, RegisterBus
from hardware.errors import BusDown, DeviceDataBad, DeviceError, DeviceMismatch, DeviceNoAnswer, DeviceTimeout

STEPS_LIMIT = 64
NOISY_LIVES = 300
CONVERSION_S_LIMIT = 10.0  # a longer wait would stall a bus for every other part on it


@dataclass(frozen=True)
class Golden:
    """One known case. For a driver without a bus `registers` is empty and `options` name the recorded source."""

    source: str  # where the numbers come from
    options: Mapping[str, Any]
    cells: tuple[int | float | str, ...]  # a raw value, or the class name of the channel's error
    registers: Mapping[int, int] = field(default_factory=dict)
    wrong: Mapping[int, int] = field(default_factory=dict)  # what another part would show instead
    # A part with 16-bit registers or commands: what it answers to written bytes, and to those after an earlier write.
    answers: Mapping[bytes, bytes] = field(default_factory=dict)
    wrong_answers: Mapping[bytes, bytes] = field(default_factory=dict)
    # A part on a serial line: its answers to whole requests, and what it says by itself.
    replies: Mapping[bytes, bytes] = field(default_factory=dict)
    stream: bytes = b""

    @classmethod
    def load(cls, path: Path) -> Golden:
        """From TOML: `source`, `[options]`, `cells`; `[registers]`, `[wrong]`: "0x88" = "70 6B ..."; `[answers]`,
        `[wrong_answers]`: "01" = "85 83" to a read after writing 01, "01 c3 83, 00" = "12 34" to a read after
        writing 00 when the last write before was 01 c3 83; `[replies]`: request = answer; `stream` (hex) or `text`.
        """
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return cls(
            source=table["source"],
            options=table.get("options", {}),
            cells=tuple(table["cells"]),
            registers=_dump(table.get("registers", {})),
            wrong=_dump(table.get("wrong", {})),
            answers=_answers(table.get("answers", {})),
            wrong_answers=_answers(table.get("wrong_answers", {})),
            replies=_answers(table.get("replies", {})),
            stream=bytes.fromhex(table.get("stream", "")) or table.get("text", "").replace("\n", "\r\n").encode(),
        )

    def bus(self) -> RegisterBus:
        """The part on a bus of its own."""
        return RegisterBus(self.registers, self.answers)


def _dump(runs: Mapping[str, str]) -> dict[int, int]:
    registers = {}
    for start, data in runs.items():
        for offset, byte in enumerate(bytes.fromhex(data)):
            registers[int(start, 0) + offset] = byte
    return registers


def _answers(table: Mapping[str, str]) -> dict[bytes, bytes]:
    return {bytes.fromhex(written.replace(",", "")): bytes.fromhex(data) for written, data in table.items()}


def make(driver: type[Driver], golden: Golden, bus: Any) -> Driver:
    """The driver as the agent makes it."""
    config = msgspec.convert(dict(golden.options), driver.Config)
    return driver(config, bus) if driver.bus_kind != "none" else driver(config)


def cycle(device: Driver) -> list[Cell]:
    """One life: open, trigger, read."""
    device.open()
    return measure(device)


def measure(device: Driver) -> list[Cell]:
    """One cycle of an open driver; the waits are judged and not waited for."""
    waits = [device.trigger()]
    while waits[-1] > 0:
        assert len(waits) <= STEPS_LIMIT, f"no end after {STEPS_LIMIT} steps"
        waits.append(device.proceed())
    total_s = sum(waits)
    assert min(waits) >= 0, f"a step asks for {min(waits)} s"
    assert total_s <= CONVERSION_S_LIMIT, f"a conversion asks for {total_s} s; 0 to {CONVERSION_S_LIMIT} are allowed"
    return list(device.read())


def check_config(driver: type[Driver], golden: Golden) -> None:
    """Unknown options are refused; the golden ones are taken."""
    assert issubclass(driver.Config, DriverConfig)
    msgspec.convert(dict(golden.options), driver.Config)
    try:
        msgspec.convert({**golden.options, "no_such_option": 1}, driver.Config)
    except msgspec.ValidationError:
        return
    raise AssertionError("an unknown option was taken")


def check_channels(driver: type[Driver], golden: Golden, units: Collection[str]) -> None:
    """Channels are known before anything is opened, have SenML units, one name each and a sane formula."""
    config = msgspec.convert(dict(golden.options), driver.Config)
    channels = driver.channels_of(config)
    assert channels, "no channels"
    assert len({channel.name for channel in channels}) == len(channels), "two channels share a name"
    for channel in channels:
        assert channel.unit in units, f"{channel.name}: {channel.unit!r} is not a SenML unit"
        assert channel.den >= 1, f"{channel.name}: den {channel.den}"
        assert channel.num != 0, f"{channel.name}: num 0"
        if channel.low is not None and channel.high is not None:
            assert channel.low < channel.high, f"{channel.name}: low {channel.low} is not below high {channel.high}"


def check_golden(driver: type[Driver], golden: Golden) -> None:
    """The known registers give the known cells, of the declared types; twice, and again after a reopen."""
    _check_cells(driver, golden, make(driver, golden, golden.bus()))


def _check_cells(driver: type[Driver], golden: Golden, device: Driver) -> None:
    channels = driver.channels_of(device.config)
    for _ in range(2):
        cells = cycle(device)
        found = tuple(type(cell).__name__ if isinstance(cell, DeviceError) else cell for cell in cells)
        assert found == golden.cells, f"{found}, expected {golden.cells} ({golden.source})"
        assert len(cells) == len(channels)
        for channel, cell in zip(channels, cells):
            expected = int if channel.value_type == "int" else float
            assert isinstance(cell, (expected, DeviceError)), f"{channel.name}: {type(cell)}, not {expected}"
        device.close()


def check_failures(driver: type[Driver], golden: Golden) -> None:
    """A NAK or a time-out at any transaction comes through as it is, and the driver works after a reopen."""
    clean = golden.bus()
    cycle(make(driver, golden, clean))
    for failure in (DeviceNoAnswer("NAK"), DeviceTimeout("stuck")):
        for number in range(clean.transactions):
            bus = golden.bus()
            bus.fail_at, bus.failure = number, failure
            device = make(driver, golden, bus)
            _expect(type(failure), partial(cycle, device), f"transaction {number}")
            device.close()
            assert len(cycle(device)) == len(golden.cells), f"no reading after a failure of transaction {number}"


def check_short_read(driver: type[Driver], golden: Golden) -> None:
    """An answer that is too short is bad data, not a crash; at `open` and in the middle of life."""
    bus = golden.bus()
    bus.short = True
    _expect(DeviceDataBad, lambda: cycle(make(driver, golden, bus)), "short answers from the start")
    bus = golden.bus()
    device = make(driver, golden, bus)
    cycle(device)
    bus.short = True
    _expect(DeviceDataBad, partial(measure, device), "a short result")


def check_noise(driver: type[Driver], golden: Golden) -> None:
    """Whatever a part answers, a life gives as many cells as channels, or an error of the device; never another one."""
    for seed in range(NOISY_LIVES):
        bus = golden.bus()
        bus.noise = random.Random(seed)
        device = make(driver, golden, bus)
        with suppress(DeviceError):
            device.open()
            cells = measure(device)
            assert len(cells) == len(golden.cells), f"{len(cells)} cells from noise {seed}"
        device.close()


def check_wrong_chip(driver: type[Driver], golden: Golden) -> None:
    """Another part, a bus held low and a bus held high are refused by `open`, by name."""
    assert golden.wrong or golden.wrong_answers, "say in [wrong] or [wrong_answers] what another part shows"
    other = RegisterBus({**golden.registers, **golden.wrong}, {**golden.answers, **golden.wrong_answers})
    high = RegisterBus(dict.fromkeys(range(REGISTERS), 0xFF))
    for bus in (other, RegisterBus({}), high):
        _expect(DeviceMismatch, make(driver, golden, bus).open, "another part")


def check_serial(driver: type[Driver], golden: Golden) -> None:
    """The known bytes give the known cells. Garbled ones and silence give none; a line that is pulled is BusDown."""
    from hardware.drivers.testing_serial import serial_line

    with serial_line(golden.replies, golden.stream) as (peer, bus):
        device = make(driver, golden, bus)
        _check_cells(driver, golden, device)
        peer.garble = True
        bus.drain()
        try:
            cells = cycle(device)
        except DeviceError:
            cells = []
        assert all(isinstance(cell, DeviceError) for cell in cells), f"garbled bytes gave {cells}"
        peer.garble = False
        bus.drain()
        cycle(device)
        peer.hang_up()
        _expect(BusDown, partial(measure, device), "a line that was pulled")
        device.close()
    with serial_line({}, b"") as (_, bus):
        _expect(DeviceNoAnswer, partial(cycle, make(driver, golden, bus)), "silence")


def check_close(driver: type[Driver], golden: Golden) -> None:
    """`close` never raises: not before `open`, not twice, not on a dead bus."""
    bus = golden.bus()
    device = make(driver, golden, bus)
    device.close()
    if driver.bus_kind == "serial":
        return
    cycle(device)
    bus.fail_at = bus.transactions
    device.close()
    device.close()


def check_all(driver: type[Driver], golden: Golden, units: Collection[str]) -> None:
    """Every check that fits the driver's kind of bus. Raises AssertionError with what broke."""
    check_config(driver, golden)
    check_channels(driver, golden, units)
    check_close(driver, golden)
    if driver.bus_kind == "serial":
        check_serial(driver, golden)
        return
    check_golden(driver, golden)
    if driver.bus_kind == "i2c":
        check_failures(driver, golden)
        check_short_read(driver, golden)
        check_noise(driver, golden)
        check_wrong_chip(driver, golden)


def _expect(error: type[DeviceError], action: Callable[[], object], case: str) -> None:
    raised: DeviceError | None = None
    try:
        action()
    except DeviceError as caught:
        raised = caught
    assert type(raised) is error, f"{case}: {raised!r} was raised, expected {error.__name__}"
    assert str(raised), f"{case}: the error says nothing"
