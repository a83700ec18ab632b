"""From a message's payload to cells: JSON paths, numbers as exact counts, and what is no number at all.

The rule for a field that is not there: ABSENT (nothing is said of its channel), as long as the message brings
another channel of the sensor; a message that brings none is bad as a whole. A field that is null is a gap with
NOT_READY: the device says that it has no value. A field that is no number is a gap with BAD_DATA.
"""

from __future__ import annotations

import re
import struct
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import isfinite
from typing import Any, Literal

import msgspec

from hardware.driver import Raw
from hardware.errors import DeviceDataBad

PAYLOAD_BYTES_MAX = 65_536
TEXT_MAX = 64  # letters of a number in quotes, digits of one without
EXPONENT_MAX = 40  # beyond, no count of 63 bits and no sensor's value; `1e999999999` must not be expanded
INT64_MAX = (1 << 63) - 1

Path = tuple[str | int, ...]
NumberType = Literal["int", "float32", "float64"]
MISSING = object()

_STEP = re.compile(r"""\.?([^.\[\]"']+)|\[(\d{1,9})\]|\[("[^"]*"|'[^']*')\]""")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def parse_path(text: str) -> Path:
    """`a.b`, `$.a[0].b`, `["a key.with dots"][1]` as steps; "" or `$` is the payload itself. Raises ValueError."""
    rest = text.removeprefix("$")
    steps: list[str | int] = []
    at = 0
    while at < len(rest):
        found = _STEP.match(rest, at)
        dotted = rest[at] == "."
        if found is None or (found[1] and not dotted and (steps or text.startswith("$"))) or (dotted and not found[1]):
            raise ValueError(f'path "{text}" is not understood from "{rest[at:]}" on: write a.b, a[0].b or ["a.b"]')
        if found[1]:
            if dotted and not steps and not text.startswith("$"):
                raise ValueError(f'path "{text}" begins with a dot')
            steps.append(found[1])
        else:
            steps.append(int(found[2]) if found[2] else found[3][1:-1])
        at = found.end()
    return tuple(steps)


def decode(payload: bytes) -> Any:
    """The JSON value, numbers with a point as Decimal. Raises DeviceDataBad."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise DeviceDataBad(f"a payload of {len(payload)} bytes; at most {PAYLOAD_BYTES_MAX} are looked at")
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidOperation) as error:
        raise DeviceDataBad(f"the payload {show(payload)} is not JSON: {error}") from error


def plain(payload: bytes) -> str:
    """The payload as the text of a number. Raises DeviceDataBad."""
    if len(payload) > TEXT_MAX:
        raise DeviceDataBad(f"a payload of {len(payload)} bytes is no number")
    try:
        return payload.decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise DeviceDataBad(f"the payload {show(payload)} is no number") from error


def pick(document: Any, path: Path) -> Any:
    """What stands at the path, or MISSING."""
    for step in path:
        if isinstance(step, str):
            if not isinstance(document, dict) or step not in document:
                return MISSING
        elif not isinstance(document, list) or step >= len(document):
            return MISSING
        document = document[step]
    return document


def number(value: Any, kind: NumberType, step: Fraction | None) -> Raw:
    """A JSON number, true, false or the text of a number, as raw: a count of steps (the nearest), or a float.

    Raises DeviceDataBad: no number, not finite, or out of the type's range.
    """
    exact = _decimal(value)
    if kind != "int":
        return _float(float(exact), kind, value)
    if exact and abs(exact.adjusted()) > EXPONENT_MAX:
        raise DeviceDataBad(f"{value} is no count that 63 bits hold")
    count = round(Fraction(exact) / (step or 1))
    if abs(count) > INT64_MAX:
        raise DeviceDataBad(f"{value} is over {INT64_MAX} counts of the resolution")
    return count


def show(payload: bytes) -> str:
    """The payload's beginning, for a message to people."""
    text = repr(payload[:40])[1:]
    return text if len(payload) <= 40 else f"{text}..."


def _decimal(value: Any) -> Decimal:
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, Decimal):
        if len(value.as_tuple().digits) > TEXT_MAX:  # 60,000 digits as a fraction take a third of a second
            raise DeviceDataBad(f"a number of {len(value.as_tuple().digits)} digits; at most {TEXT_MAX} are looked at")
        return value
    if isinstance(value, str) and len(value) <= TEXT_MAX and _NUMBER.fullmatch(value.strip()):
        return Decimal(value.strip())
    raise DeviceDataBad(f"{str(value)[:40]!r} is no number")


def _float(value: float, kind: NumberType, told: Any) -> float:
    if kind == "float32":
        try:
            value = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError as error:
            raise DeviceDataBad(f"{told} is beyond float32") from error
    if not isfinite(value):
        raise DeviceDataBad(f"{told} is beyond {kind}")
    return value
