"""How people describe simulated parts and faults: `1=bme280@0x76,bme280@0x77`, `1/0x76=nak@10-20`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from simulator.chips.ads1115 import SimulatedAds1115
from simulator.chips.bme280 import SimulatedBme280
from simulator.chips.chip import Fault, I2cChip
from simulator.chips.ina219 import SimulatedIna219
from simulator.chips.sht3x import SimulatedSht3x

PART = re.compile(r"(?P<chip>[a-z0-9-]+)@(?P<address>0x[0-9a-fA-F]{2})")
ADDRESSES = range(0x08, 0x78)  # UM10204 3.1.12: the others are reserved


class SpecInvalid(ValueError):
    """A description of buses or faults that cannot be read; the message shows the form."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part on one bus."""

    bus: int
    chip: str
    address: int

    @property
    def name(self) -> str:
        """`i2c-1/0x76`, as the log calls it."""
        return f"i2c-{self.bus}/0x{self.address:02x}"


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """A fault of one part from one moment to another, seconds after the start; `end_s` None: for good."""

    bus: int
    address: int
    fault: Fault
    start_s: float
    end_s: float | None


CHIPS: dict[str, Callable[..., I2cChip]] = {
    "ads1115": SimulatedAds1115,
    "bme280": SimulatedBme280,
    "ina219": SimulatedIna219,
    "sht3x": SimulatedSht3x,
}


def parse_parts(text: str) -> list[Part]:
    """`1=bme280@0x76,bme280@0x77`. Raises SpecInvalid."""
    number, equals, rest = text.partition("=")
    if not equals or not number.isdigit():
        raise SpecInvalid(f"{text!r}: write BUS=CHIP@ADDRESS, as in 1=bme280@0x76,bme280@0x77")
    parts = []
    for item in rest.split(","):
        match = PART.fullmatch(item.strip())
        if match is None:
            raise SpecInvalid(f"{item!r}: write CHIP@ADDRESS, as in bme280@0x76")
        if match["chip"] not in CHIPS:
            raise SpecInvalid(f"chip {match['chip']!r} is not simulated; there is: {', '.join(CHIPS)}")
        address = int(match["address"], 16)
        if address not in ADDRESSES:
            raise SpecInvalid(f"{item!r}: an I2C address is {ADDRESSES[0]:#04x} to {ADDRESSES[-1]:#04x}")
        parts.append(Part(int(number), match["chip"], address))
    return parts


def parse_fault(text: str) -> PlannedFault:
    """`1/0x76=nak@10-20`: from second 10 to 20; `@10-` for good. Raises SpecInvalid."""
    match = re.fullmatch(r"(\d+)/(0x[0-9a-fA-F]{2})=([a-z-]+)@(\d+\.?\d*)-(\d+\.?\d*)?", text)
    if match is None:
        raise SpecInvalid(
            f"{text!r}: write BUS/ADDRESS=FAULT@START-END in seconds, as in 1/0x76=nak@10-20 or 1/0x76=nak@0-"
        )
    bus, address, fault, start, end = match.groups()
    return PlannedFault(int(bus), int(address, 16), parse_fault_name(fault), float(start), float(end) if end else None)


def parse_fault_name(text: str) -> Fault:
    """One of `Fault`. Raises SpecInvalid."""
    try:
        return Fault(text)
    except ValueError as error:
        raise SpecInvalid(f"fault {text!r} is none of {', '.join(Fault)}") from error
