"""CSV replay: exact counts, honest gaps, errors with file and line."""

import contextlib
import gzip
from collections.abc import Iterator
from decimal import Context, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hardware.drivers.csv_replay import CsvReplay, parse, quick_parser, quick_rows
from hardware.errors import BusDown, DeviceDataBad, DeviceMismatch, DeviceNotReady, EndOfData

TEMPERATURE = {"name": "temperature", "unit": "Cel", "column": "t1", "resolution": 0.01}


OPENED: list[CsvReplay] = []


@pytest.fixture(autouse=True)
def _close_all() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def replay(path: Path, columns: list[dict[str, Any]] | None = None, **options: Any) -> CsvReplay:
    table = {"path": str(path), "columns": columns or [TEMPERATURE], **options}
    device = CsvReplay(msgspec.convert(table, CsvReplay.Config))
    OPENED.append(device)
    device.open()
    return device


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_come_one_per_read_then_the_data_ends(tmp_path: Path) -> None:
    device = replay(write(tmp_path / "a.csv", "time,t1\n0,25.08\n\n1,-0.5\n"))
    assert device.read() == [2508]
    assert device.read() == [-50]
    for _ in range(2):
        with pytest.raises(EndOfData, match=r"a\.csv:4: no more rows"):
            device.read()


def test_a_looping_file_begins_again(tmp_path: Path) -> None:
    device = replay(write(tmp_path / "a.csv", "t1\n1\n2\n"), loop=True)
    assert [device.read()[0] for _ in range(5)] == [100, 200, 100, 200, 100]
    device = replay(write(tmp_path / "empty.csv", "t1\n"), loop=True)
    with pytest.raises(EndOfData):
        device.read()


def test_gzip_and_other_delimiters(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbft1;x\r\n3.25;1\r\n"))
    assert replay(path, delimiter=";").read() == [325]


def test_a_cut_gzip_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"t1\n" + b"3.25\n" * 9999)[:40])
    device = replay(path)

    def read_on() -> None:
        for _ in range(9999):
            device.read()

    with pytest.raises(BusDown, match="cannot be read further"):
        read_on()


def test_channels_are_int_at_a_resolution_and_float_without(tmp_path: Path) -> None:
    columns = [TEMPERATURE, {"name": "half", "unit": "count", "resolution": 2.5}, {"name": "free", "unit": "/"}]
    device = replay(write(tmp_path / "a.csv", "t1,half,free\n1,5,nan\n"), columns)
    channels = CsvReplay.channels_of(device.config)
    assert [(c.value_type, c.num, c.den) for c in channels] == [("int", 1, 100), ("int", 5, 2), ("float64", 1, 1)]
    assert str(device.read()) == "[100, 2, nan]"


def test_a_bad_cell_is_a_gap_of_its_channel_alone(tmp_path: Path) -> None:
    columns = [{"name": name, "unit": "/", "resolution": 0.1} for name in "abcd"]
    cells = replay(write(tmp_path / "a.csv", "a,b,c,d\n1.5,,x\n"), columns).read()
    assert cells[0] == 15
    assert isinstance(cells[1], DeviceNotReady)
    assert isinstance(cells[2], DeviceDataBad)
    assert "a.csv:2: c: 'x' is not a number" in str(cells[2])
    assert isinstance(cells[3], DeviceDataBad)
    assert "3 fields" in str(cells[3])


def test_missing_files_and_columns_are_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(BusDown, match="No such file"):
        replay(tmp_path / "none.csv")
    with pytest.raises(DeviceMismatch, match=r"a\.csv:1: no column 't1'\. Did you mean 't10'\?"):
        replay(write(tmp_path / "a.csv", "time,t10\n"), [{**TEMPERATURE, "column": "t1"}])
    with pytest.raises(EndOfData, match="empty"):
        replay(write(tmp_path / "b.csv", ""))


def test_bytes_that_are_no_text_are_bad_data(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"t1\n\xff\xfe\n")
    with pytest.raises(DeviceDataBad, match=r"a\.csv"):
        replay(path).read()


@pytest.mark.parametrize(
    "options", [{"columns": []}, {"delimiter": ""}, {"columns": [{**TEMPERATURE, "resolution": 0}]}, {"colums": []}]
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"path": "x", "columns": [TEMPERATURE], **options}, CsvReplay.Config)


@given(st.integers(-(2**63) + 1, 2**63 - 1), st.integers(0, 9))
def test_every_count_survives_exactly(count: int, decimals: int) -> None:
    step = Fraction(1, 10**decimals)
    digits = str(abs(count)).rjust(decimals + 1, "0")
    text = ("-" if count < 0 else "") + (digits[:-decimals] + "." + digits[-decimals:] if decimals else digits)
    assert parse(text, step) == count


@pytest.mark.parametrize("text", ["1.005", "nan", "inf", "1e400000000", "", "12,5", str(2**63), "0x10"])
def test_what_is_no_whole_count_is_refused(text: str) -> None:
    with pytest.raises(DeviceDataBad):
        parse(text, Fraction(1, 100))


NUMBERS = st.from_regex(r"[-+ ]?[0-9_٣²]{0,6}[.,]?[0-9_٣² ]{0,5}(e-?[0-9]{1,3})?", fullmatch=True)


@given(st.one_of(st.text(max_size=30), NUMBERS), st.sampled_from(["1", "0.1", "0.01", "1e-9", "0.5", "10", "0.03"]))
@example("_5", "0.01")
@example("1._5", "0.01")
@example("-.", "0.01")
@example(str(2**63), "1")
@example("1.²", "0.1")
def test_what_the_quick_parser_takes_is_what_the_exact_one_says(text: str, step: str) -> None:
    with contextlib.suppress(ValueError):
        assert quick_parser(Fraction(step))(text) == parse(text, Fraction(step))


@given(st.integers(-(2**63) + 1, 2**63 - 1), st.integers(0, 9), st.integers(0, 9))
def test_the_quick_parser_takes_plain_decimals(count: int, decimals: int, given_: int) -> None:
    number = Decimal(count).scaleb(-min(given_, decimals), Context(prec=40))
    count_of = quick_parser(Fraction(1, 10**decimals))
    text = f"{number:f}"
    try:
        exact = parse(text, Fraction(1, 10**decimals))
    except DeviceDataBad:
        with pytest.raises(ValueError):
            count_of(text)
    else:
        assert count_of(text) == exact


@given(
    st.lists(st.one_of(st.from_regex(r"[-+]?[0-9]{0,3}\.[0-9]{2}", fullmatch=True), NUMBERS), min_size=1, max_size=4)
)
@example(["1.25", "1.5 "])
@example(["1._5"])
@example(["1.2.25"])
@example([".5"])
@example(["1,5.25"])
@example(["1.25", "-.75"])
@example(["92233720368547758.08"])
def test_what_is_taken_by_rows_is_what_the_exact_parser_says(cells: list[str]) -> None:
    step = Fraction(1, 100)
    with contextlib.suppress(ValueError):
        assert quick_rows([step])(cells) == [parse(cell, step) for cell in cells]


def test_rows_of_plain_decimals_are_taken_at_once(tmp_path: Path) -> None:
    assert quick_rows([Fraction(1, 100)])(["20.50", "-0.25", " 1.00", "٣.٣٣"]) == [2050, -25, 100, 333]
    for steps in ([None], [Fraction(1)], [Fraction(1, 4)], [Fraction(1, 10), Fraction(1, 100)], []):
        with pytest.raises(ValueError):
            quick_rows(steps)(["0.50", "0.25"])


@given(st.text(max_size=30))
def test_any_text_is_a_number_or_bad_data(text: str) -> None:
    for step in (None, Fraction(1, 100)):
        with contextlib.suppress(DeviceDataBad):
            number = parse(text, step)
            assert type(number) is (float if step is None else int)
            assert step is None or Fraction(Decimal(text.strip())) == number * step
