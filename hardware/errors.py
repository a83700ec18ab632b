"""Errors of buses and drivers, named by what the caller does next. Each becomes a gap with its reason.

DeviceError
├── DeviceNoAnswer    gap, try again next cycle: NAK, or silence on a line
├── DeviceTimeout     gap; the bus is suspect: the deadline passed
├── DeviceNotReady    gap, try again next cycle: no new conversion
├── DeviceDataBad     gap: checksum, framing or an impossible code
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
