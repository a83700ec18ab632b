"""Errors of buses and drivers, named by what the caller does next. Each becomes a gap with its reason.

DeviceError
├── DeviceNoAnswer    gap, try again next cycle: NAK, or silence on a line
├── DeviceTimeout     gap; the bus is suspect: the deadline passed
├── DeviceNotReady    gap, try again next cycle: no new conversion
├── DeviceDataBad     gap: checksum, framing or an impossible code
│   └── ModbusRefused  gap: the unit answered with an exception code
├── DeviceMismatch    gap until reopened: another chip answers at the address
├── EndOfData         gap: a replayed file ended
└── BusDown           every sensor of the bus gaps; reset and reopen
"""


class DeviceError(Exception):
    """Root of the package's errors. The message names the part, the bus, the value and what helps."""


class DeviceNoAnswer(DeviceError):
    """Nobody acknowledged the address."""


class DeviceTimeout(DeviceError):
    """No answer within the deadline."""


class DeviceNotReady(DeviceError):
    """The part has no fresh value yet."""


class DeviceDataBad(DeviceError):
    """The answer fails its check or lies outside what the part can give."""


class DeviceMismatch(DeviceError):
    """The part's id is not the expected one."""


class EndOfData(DeviceError):
    """A recorded source has no more rows."""


class BusDown(DeviceError):
    """The bus device is missing, refused or broken."""


MODBUS_CODES = {  # MODBUS Application Protocol V1.1b3, 7
    1: "ILLEGAL FUNCTION",
    2: "ILLEGAL DATA ADDRESS",
    3: "ILLEGAL DATA VALUE",
    4: "SERVER DEVICE FAILURE",
    5: "ACKNOWLEDGE",
    6: "SERVER DEVICE BUSY",
    8: "MEMORY PARITY ERROR",
    10: "GATEWAY PATH UNAVAILABLE",
    11: "GATEWAY TARGET DEVICE FAILED TO RESPOND",
}


class ModbusRefused(DeviceDataBad):
    """The unit understood the request and refused it; `code` says why."""

    def __init__(self, where: str, function: int, address: int, code: int) -> None:
        name = MODBUS_CODES.get(code, "unknown")
        super().__init__(f"{where}: exception {code} ({name}) to function {function} at address {address}")
        self.code = code
