"""A recorded CSV file as a sensor: one row per read. For demonstrations, tests and taking over old loggers' data.

The first line names the columns. Files that end in `.gz` are unpacked on the way.
"""

from __future__ import annotations

import contextlib
import csv
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, TextIO

import msgspec

from hardware.driver import Cell, Channel, Driver, DriverConfig
from hardware.errors import BusDown, DeviceDataBad, DeviceError, DeviceMismatch, DeviceNotReady, EndOfData

INT64_MAX = (1 << 63) - 1


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One column of the file and the channel it becomes."""

    name: str  # of the channel
    unit: str  # SenML
    column: str = ""  # in the file's first line; the channel's name where empty
    resolution: float | None = None  # kept as exact counts of this step; a float64 where absent
    device_class: str = ""
    low: float | None = None
    high: float | None = None
    rate_max: float | None = None

    def __post_init__(self) -> None:
        if self.resolution is not None and not 0 < self.resolution < float("inf"):
            raise ValueError(f"resolution {self.resolution} of column {self.name} must be above 0")

    @property
    def header(self) -> str:
        """What the file calls it."""
        return self.column or self.name

    @property
    def step(self) -> Fraction | None:
        """The resolution as the decimal number that was written: 0.01 is 1/100."""
        return None if self.resolution is None else Fraction(Decimal(repr(self.resolution)))


class CsvReplayConfig(DriverConfig, frozen=True):
    """Which file, and what to take from it."""

    path: Annotated[str, msgspec.Meta(min_length=1, extra={"kind": "path"})]  # relative to the configuration file
    columns: tuple[Column, ...]
    delimiter: str = ","
    loop: bool = False  # begin again after the last row; otherwise every later read is a gap

    def __post_init__(self) -> None:
        if not self.columns:
            raise ValueError("columns is empty: name at least one")
        if len(self.delimiter) != 1:
            raise ValueError(f"delimiter {self.delimiter!r} must be one character")


class CsvReplay(Driver):
    """One file. A cell that is empty or no number is a gap of its channel alone."""

    Config = CsvReplayConfig
    is_prompt = True

    @classmethod
    def channels_of(cls, config: CsvReplayConfig) -> Sequence[Channel]:
        """See `Driver`. A column with a resolution is int; value = raw * num / den."""
        channels = []
        for column in config.columns:
            step = column.step
            channels.append(
                Channel(
                    column.name,
                    column.unit,
                    column.device_class,
                    value_type="float64" if step is None else "int",
                    num=1 if step is None else step.numerator,
                    den=1 if step is None else step.denominator,
                    low=column.low,
                    high=column.high,
                    rate_max=column.rate_max,
                )
            )
        return channels

    def open(self) -> None:
        """Open the file and find the columns.

        Raises BusDown when it cannot be opened, DeviceMismatch when a column is missing, EndOfData when it is empty.
        """
        self.close()
        path = self.config.path
        try:
            self._file: TextIO | None = open_text(path)
        except OSError as error:
            raise BusDown(f"csv-replay: {path}: {error.strerror or error}") from error
        self._rows: Iterator[list[str]] = csv.reader(self._file, delimiter=self.config.delimiter)
        try:
            header = self._next_row()
            if header is None:
                raise EndOfData(f"{path}: the file is empty")
            self._places = [
                (column, self._place_of(column, header), quick_parser(column.step)) for column in self.config.columns
            ]
            self._quick = quick_rows({column.step for column in self.config.columns})
        except DeviceError:
            self.close()
            raise

    def read(self) -> Sequence[Cell]:
        """The next row. Raises EndOfData after the last one, unless the file loops."""
        row = self._next_row()
        if row is None and self.config.loop:
            self.open()
            row = self._next_row()
        if row is None:
            raise EndOfData(f"{self._where}: no more rows. Set loop = true to begin again")
        with contextlib.suppress(ValueError, IndexError):
            return self._quick([row[place] for _, place, _ in self._places])
        cells: list[Cell] = []
        for column, place, quick in self._places:
            try:
                cells.append(quick(row[place]))
            except (ValueError, IndexError):
                cells.append(self._cell(column, place, row))
        return cells

    def close(self) -> None:
        """See `Driver`."""
        file: TextIO | None = getattr(self, "_file", None)
        if file is not None:
            file.close()
        self._file = None

    @property
    def _where(self) -> str:
        return f"{self.config.path}:{getattr(self._rows, 'line_num', 0)}"

    def _next_row(self) -> list[str] | None:
        """The next row that is not blank, or None at the end."""
        if self._file is None:
            raise BusDown(f"csv-replay: {self.config.path} is not open")
        try:
            for row in self._rows:
                if row:
                    return row
        except (csv.Error, UnicodeDecodeError) as error:
            raise DeviceDataBad(f"{self._where}: {error}") from error
        except (OSError, EOFError, zlib.error) as error:
            raise BusDown(f"{self._where}: cannot be read further: {error}") from error
        return None

    def _place_of(self, column: Column, header: list[str]) -> int:
        if column.header in header:
            return header.index(column.header)
        import difflib  # an agent that reads needs it not

        close = difflib.get_close_matches(column.header, header, n=1)
        guess = f" Did you mean {close[0]!r}?" if close else f" It has: {', '.join(header)}"
        raise DeviceMismatch(f"{self._where}: no column {column.header!r}.{guess}")

    def _cell(self, column: Column, place: int, row: list[str]) -> Cell:
        """Whatever a cell may hold; what a plain one holds is for `quick_parser`."""
        try:
            text = row[place].strip()
        except IndexError:
            return DeviceDataBad(f"{self._where}: {len(row)} fields, column {column.header!r} is the {place + 1}th")
        if not text:
            return DeviceNotReady(f"{self._where}: {column.header} is empty")
        try:
            return parse(text, column.step)
        except DeviceError as error:
            return DeviceDataBad(f"{self._where}: {column.header}: {error}")


def open_text(path: str) -> TextIO:
    """The file as text, unpacked if it ends in `.gz`; line ends are left to the CSV reader."""
    if path.endswith(".gz"):
        import gzip

        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return Path(path).open(encoding="utf-8-sig", newline="")


def quick_parser(step: Fraction | None) -> Callable[[str], int | float]:
    """As `parse`, without its exact arithmetic, for digits with at most as many decimals as a decimal step has;
    ValueError for all else."""
    if step is None:
        return float
    decimals = _decimals_of(step)
    if decimals is None:
        return _refuse
    zeros = ["0" * (decimals - given) for given in range(decimals + 1)]

    def count(text: str) -> int:
        """So many steps."""
        whole, _, rest = text.partition(".")
        given = len(rest)
        if given > decimals or not whole[-1:].isdecimal() or (given and not rest.isdecimal()):
            raise ValueError
        number = int(whole + rest + zeros[given])
        if -INT64_MAX <= number <= INT64_MAX:
            return number
        raise ValueError

    return count


def quick_rows(steps: Collection[Fraction | None]) -> Callable[[Sequence[str]], list[int]]:
    """As `parse` for all cells of a row at once, where they have one decimal step and each as many decimals as it;
    ValueError for all else."""
    decimals = next(map(_decimals_of, steps)) if len(steps) == 1 else None
    if not decimals:
        return _refuse
    point = -decimals - 1

    def counts(cells: Sequence[str]) -> list[int]:
        """So many steps each."""
        tails = "".join([cell[point:] for cell in cells])
        text = ",".join(cells)
        numbers = list(map(int, text.replace(".", "").split(",")))
        if (
            tails[::-point] != "." * len(cells)  # these are all points of the row, and between them are digits
            or text.count(".") != len(cells)
            or not tails.replace(".", "").isdecimal()
            or len(tails) != -point * len(cells)
            or len(numbers) != len(cells)
            or not -INT64_MAX <= min(numbers) <= max(numbers) <= INT64_MAX
        ):
            raise ValueError
        return numbers

    return counts


def _decimals_of(step: Fraction | None) -> int | None:
    """How many decimals a decimal step has; None where it is none."""
    decimals = 0 if step is None else len(str(step.denominator)) - 1
    return decimals if step == Fraction(1, 10**decimals) else None


def _refuse(given: object) -> Any:
    raise ValueError


def parse(text: str, step: Fraction | None) -> int | float:
    """A decimal number as a count of steps, exactly, or as the nearest float64 where step is None.

    Raises DeviceDataBad for what is no number, no whole count of steps, or over 63 bits.
    """
    try:
        if step is None:
            return float(text)
        number = Decimal(text)
        # Without this a text like 1e999999999 would be expanded to its digits.
        if not number.is_finite() or abs(number.adjusted()) > 40:
            raise DeviceDataBad(f"{text!r} is not a number that counts of {float(step)} can hold")
        over, under = number.as_integer_ratio()
    except (ValueError, InvalidOperation) as error:
        raise DeviceDataBad(f"{text!r} is not a number") from error
    count, rest = divmod(over * step.denominator, under * step.numerator)
    if rest:
        raise DeviceDataBad(f"{text} is not a whole count of the resolution {float(step)}; give a finer one, or none")
    if abs(count) > INT64_MAX:
        raise DeviceDataBad(f"{text} is over {INT64_MAX} counts of the resolution {float(step)}")
    return count
