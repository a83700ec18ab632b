"""Serial lines, as drivers get them. The only importer of pyserial and pymodbus (its framing; the line is ours).

A line may be a USB adapter that is pulled and comes back: any failure of the node is BusDown, and the agent opens it
anew. No call waits longer than it was told.
"""

from __future__ import annotations

import errno
import os
from typing import Any, Literal

from hardware.errors import BusDown, DeviceDataBad, DeviceNoAnswer, DeviceTimeout, ModbusRefused

WRITE_S_MAX = 1.0  # 256 bytes at 2400 baud and more; a line that takes nothing for so long is stuck
DRAIN_BYTES_MAX = 1 << 20  # a line that is never empty still lets go; the kernel holds less than 70 kB
NOISE_BYTES_MAX = 4096  # as much as is discarded before a request; a line that still talks is not ours
SILENCE_CHARS = 3.5  # MODBUS over Serial Line V1.02, 2.5.1.1: between frames
SILENCE_S_MIN = 0.00175  # the same, above 19,200 baud
EXCEPTION_BYTES = 5  # unit, function with its high bit, code, CRC
OVERHEAD_BYTES = 5  # unit, function, byte count, CRC

Parity = Literal["none", "even", "odd"]


class SerialBus:
    """One tty, opened for this process alone."""

    def __init__(self, port: str, baud: int = 9600, parity: Parity = "none", bits: int = 8, stop: int = 1) -> None:
        """Open it. Raises BusDown with the fix."""
        import serial

        self.name = port
        self._failures: tuple[type[Exception], ...] = (serial.SerialException, OSError)
        self._write_timeout: type[Exception] = serial.SerialTimeoutException
        self._char_s = (1 + bits + (parity != "none") + stop) / baud
        try:
            self._port: Any = serial.Serial(
                port,
                baud,
                bytesize=bits,
                parity=parity[0].upper(),
                stopbits=stop,
                timeout=0,
                write_timeout=WRITE_S_MAX,
                exclusive=True,
            )
        except Exception as error:  # termios.error is none of the others
            raise BusDown(_open_problem(port, baud, parity, bits, stop, error)) from error
        self._framer: Any = None

    def write(self, data: bytes) -> None:
        """See `hardware.driver.SerialBus`."""
        try:
            self._port.write(data)
        except self._write_timeout as error:
            raise DeviceTimeout(f"{self.name}: {len(data)} bytes were not taken in {WRITE_S_MAX} s") from error
        except self._failures as error:
            raise self._lost(error) from error

    def read(self, count: int, timeout_s: float) -> bytes:
        """See `hardware.driver.SerialBus`."""
        try:
            self._port.timeout = timeout_s
            data: bytes = self._port.read(count)
        except self._failures as error:
            raise self._lost(error) from error
        except TypeError as error:  # pyserial forgets its descriptor in close()
            raise BusDown(f"{self.name} is closed") from error
        return data

    def drain(self) -> bytes:
        """See `hardware.driver.SerialBus`."""
        found = bytearray()
        while len(found) < DRAIN_BYTES_MAX:
            chunk = self.read(4096, 0)
            if not chunk:
                break
            found += chunk
        return bytes(found)

    def modbus_read(self, unit: int, function: int, address: int, count: int, timeout_s: float) -> list[int]:
        """See `hardware.driver.SerialBus`."""
        where = f"unit {unit} on {self.name}"
        framer, request = self._modbus(unit, function, address, count)
        self._wait_for_silence()
        self.write(framer.buildFrame(request))
        size = OVERHEAD_BYTES + (2 * count if function in (3, 4) else (count + 7) // 8)
        answer = self.read(EXCEPTION_BYTES, timeout_s + EXCEPTION_BYTES * self._char_s)
        if not answer:
            raise DeviceNoAnswer(f"{where}: no answer in {timeout_s:g} s. Check address, baud, parity, A and B")
        if len(answer) == EXCEPTION_BYTES and not answer[1] & 0x80:
            answer += self.read(size - EXCEPTION_BYTES, timeout_s + size * self._char_s)
        _, response = framer.handleFrame(answer, unit, 0)
        if response is None:
            what = f"{len(answer)} bytes of {size} came" if len(answer) < size else "bad checksum or another unit"
            raise DeviceDataBad(f"{where}: {what}: 0x{answer[:16].hex()}")
        if response.function_code == function | 0x80:
            raise ModbusRefused(where, function, address, response.exception_code)
        values = [int(value) for value in (response.registers or response.bits)[:count]]
        if response.function_code != function or len(values) != count:
            came = f"function {response.function_code} with {len(values)} values came"
            raise DeviceDataBad(f"{where}: {came}, asked for function {function} with {count}")
        return values

    def close(self) -> None:
        """See `hardware.driver.SerialBus`."""
        try:
            self._port.close()
        except self._failures:
            return  # the node is gone, and with it what there was to release

    def _modbus(self, unit: int, function: int, address: int, count: int) -> tuple[Any, Any]:
        from pymodbus.framer import FramerRTU
        from pymodbus.pdu import DecodePDU

        if self._framer is None:
            self._framer = FramerRTU(DecodePDU(is_server=False))
        kind, _ = DecodePDU.pdu_table[function]
        return self._framer, kind(dev_id=unit, address=address, count=count)

    def _wait_for_silence(self) -> None:
        """Until the line was silent for 3.5 characters: what came late for an earlier request is discarded."""
        silence_s = max(SILENCE_CHARS * self._char_s, SILENCE_S_MIN)
        for _ in range(NOISE_BYTES_MAX):
            if not self.read(1, silence_s):
                return
            self.drain()
        raise DeviceDataBad(f"{self.name}: the line is never silent. Does another master talk on it?")

    def _lost(self, error: Exception) -> BusDown:
        return BusDown(f"{self.name} is gone: {error}")


def _open_problem(port: str, baud: int, parity: str, bits: int, stop: int, error: Exception) -> str:
    code = getattr(error, "errno", None) or (error.args[0] if error.args else None)
    match code:
        case errno.ENOENT:
            fix = "no such device. Try: ls /dev/serial/by-id"
        case errno.EACCES | errno.EPERM:
            fix = f"not allowed. Try: sudo usermod -aG dialout {os.environ.get('USER', 'USER')}, then log in again"
        case errno.EAGAIN | errno.EBUSY:
            fix = f"in use by another program. Try: fuser {port}"
        case errno.EINVAL:
            fix = f"does not do {baud} baud {bits}{parity[0].upper()}{stop}"
        case _:
            fix = str(error)
    return f"{port}: {fix}"
