"""`edge-agent model`: one row in, one row out, causal; refusals say what to do."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_agent.commands.model import model
from edge_agent.detect.library import find_model
from tests.unit.edge_agent.detect import toys


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(model, [str(word) for word in words], catch_exceptions=False)


def write(path: Path, rows: int = 400, delimiter: str = ",", spoil: bool = False) -> Path:
    random = np.random.default_rng(2)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["datetime", "pressure", "flow", "note"])
        for row in range(rows):
            pressure = 5 + np.sin(row / 7) + random.normal(0, 0.1) + 6 * (row == 350)
            flow = random.normal(20, 1)
            stamp = f"2026-11-20 {row // 3600:02}:{row // 60 % 60:02}:{row % 60:02}"
            cells = [stamp, f"{pressure:.3f}", f"{flow:.3f}", "ok"]
            if spoil and row % 9 == 4:
                cells[1] = ["", "nan", "broken", "inf"][row % 4]
            writer.writerow(cells)
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_in_one_row_out(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.csv"), tmp_path / "out.csv"
    done = call(
        "run", "value-novelty", "--csv", source, "--columns", "pressure, flow", "--calibrate", 104, "--out", target
    )
    assert done.exit_code == 0, done.output
    rows = read(target)
    assert list(rows[0]) == ["stamp", "score", "threshold", "alarm", "top"]
    assert len(rows) == 400
    assert rows[0]["stamp"] == "2026-11-20 00:00:00"
    assert all((float(row["score"]) >= float(row["threshold"])) == (row["alarm"] == "1") for row in rows)
    assert all(row["score"] == "0" for row in rows[:103])
    assert (rows[350]["alarm"], rows[350]["top"]) == ("1", "pressure")


@pytest.mark.parametrize("cut", [1, 150, 351, 399])
def test_cut_anywhere_and_the_rows_before_stay(tmp_path: Path, cut: int) -> None:
    source, whole, part = write(tmp_path / "in.csv"), tmp_path / "whole.csv", tmp_path / "part.csv"
    shorter = tmp_path / "short.csv"
    shorter.write_text("".join(source.read_text().splitlines(keepends=True)[: cut + 1]))
    words = ("--columns", "pressure", "--columns", "flow", "--calibrate", "104")
    call("run", "value-novelty", "--csv", source, *words, "--out", whole)
    call("run", "value-novelty", "--csv", shorter, *words, "--out", part)
    assert part.read_text().splitlines() == whole.read_text().splitlines()[: cut + 1]


@pytest.mark.parametrize(("delimiter", "suffix"), [(";", ".csv"), ("\t", ".tsv"), (",", ".csv.gz")])
def test_other_delimiters_and_gzip(tmp_path: Path, delimiter: str, suffix: str) -> None:
    plain, target = write(tmp_path / "in.csv", delimiter=delimiter), tmp_path / "out.csv"
    source = tmp_path / f"x{suffix}"
    source.write_bytes(gzip.compress(plain.read_bytes()) if suffix.endswith("gz") else plain.read_bytes())
    done = call(
        "run", "value-novelty", "--csv", source, "--columns", "pressure", "--out", target, "--calibrate", 104, "--json"
    )
    assert json.loads(done.output)["rows"] == 400
    assert read(target)[350]["alarm"] == "1"


def test_cells_that_are_no_numbers_are_missing_and_counted(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.csv", spoil=True), tmp_path / "out.csv"
    done = call("run", "value-novelty", "--csv", source, "--columns", "pressure", "--out", target, "--json")
    assert json.loads(done.stdout)["unreadable_cells"] == sum(row % 9 == 4 and row % 4 == 2 for row in range(400))
    assert len(read(target)) == 400


@pytest.mark.parametrize(("stamp", "calibrates"), [("2026-01-01T00:02:30", True), ("2026-01-01T00:01:30", False)])
def test_stamps_tell_a_gap(tmp_path: Path, stamp: str, calibrates: bool) -> None:
    """The toy forgets after 100 s; a row that steps back in time is no gap."""
    toys.write(tmp_path)
    lines = ["when,v", *(f"2026-01-01T00:00:{second:02},1" for second in range(20)), f"{stamp},60", "2026-01-01,1"]
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("\n".join(lines))
    done = call("run", "toy", "--models", tmp_path, "--csv", source, "--timestamp", "when", "--out", target)
    assert done.exit_code == 0
    assert (float(read(target)[20]["score"]) == 0.0) is calibrates


def test_refusals(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.csv"), tmp_path / "out.csv"
    for words, reason in (
        (("nothing", "--csv", source), "model 'nothing' is not in"),
        (("value-novelty", "--csv", source, "--columns", "heat"), "has 0 columns 'heat'; its columns are datetime"),
        (("value-novelty", "--csv", source, "--timestamp", "when"), "no column 'when'"),
        (("value-novelty", "--csv", source, "--threshold", "0.001"), "threshold 0.001 is not in 0.3 to 100"),
    ):
        done = call("run", *words, "--out", target)
        assert done.exit_code == 1
        assert reason in done.stderr
        assert not target.exists()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "in.csv:1: no header line"),
        (b"2026-01-01 00:00:00,1,2\n", "in.csv:1: no header line"),
        (b"time,a\n2026-01-01,1\n2026-01-02,1,5\n", "in.csv:3: 3 cells, but the header has 2"),
        (b'time,a\n2026-01-01,"1\n2026-01-02,2\n', "in.csv:3: unexpected end of data"),
        (b"time,a\n2026-01-01," + b"1" * 200_000, "in.csv:2: field larger than field limit"),
        (b"time,a,a\n2026-01-01,1,2\n", "has 2 columns 'a'"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(tmp_path: Path, data: bytes, reason: str) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(data)
    done = call("run", "value-novelty", "--csv", source, "--out", tmp_path / "out.csv")
    assert done.exit_code == 1
    assert reason in done.stderr


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbftime,a\n2026-01-01 00:00:00,1\n2026-01-01 00:00:01,2\n",
        b"time;a\r\n2026-01-01 00:00:00;1\r\n2026-01-01 00:00:01;2\r\n",
        b"a,time\n1,2026-01-01 00:00:00\nNaN,2026-01-01 00:00:01",
        b"time,a,\n2026-01-01 00:00:00,1,\n2026-01-01 00:00:01\n",
        b"time,a\n2026-01-01 00:00:00,\x00\n2026-01-01 00:00:01,\xe9\n",
        "time\ta\r\n2026-01-01 00:00:00\t1\r\n2026-01-01 00:00:01\t2\r\n".encode("utf-16"),
        b"time,a\n2026-01-01 00:00:00,1e308\n2026-01-01 00:00:01,-1e400\n",
    ],
)
def test_odd_files_give_a_row_for_each_of_theirs(tmp_path: Path, data: bytes) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(data)
    done = call("run", "value-novelty", "--csv", source, "--out", target)
    assert done.exit_code == 0, done.stderr
    assert [row["stamp"] for row in read(target)] == ["2026-01-01 00:00:00", "2026-01-01 00:00:01"]


def test_what_a_newcomer_may_miss_is_said(tmp_path: Path) -> None:
    """A file shorter than the calibration, and columns of words, give no alarm: not because nothing happened."""
    source, target = write(tmp_path / "in.csv"), tmp_path / "out.csv"
    done = call("run", "value-novelty", "--csv", source, "--out", target)
    assert "the first 1040 rows are learnt from and the file has 400: none could alarm" in done.stderr
    assert "column 'note' holds no number" in done.stderr
    done = call(
        "run", "value-novelty", "--csv", source, "--out", target, "--columns", "flow", "--calibrate", 104, "--json"
    )
    assert done.stderr == ""
    assert json.loads(done.stdout)["columns_without_numbers"] == []


def test_a_comma_is_a_point_where_cells_do_not_end_at_one(tmp_path: Path) -> None:
    words = ("--columns", "pressure,flow", "--calibrate", "104")
    call("run", "value-novelty", "--csv", write(tmp_path / "in.csv"), *words, "--out", tmp_path / "out.csv")
    other = write(tmp_path / "other.csv", delimiter=";")
    other.write_text(other.read_text().replace(".", ","))
    done = call("run", "value-novelty", "--csv", other, *words, "--out", tmp_path / "other.out", "--json")
    assert json.loads(done.stdout)["unreadable_cells"] == 0
    assert (tmp_path / "other.out").read_text() == (tmp_path / "out.csv").read_text()


def test_only_a_header_gives_only_a_header(tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("time,a\n")
    assert call("run", "value-novelty", "--csv", source, "--out", target).exit_code == 0
    assert target.read_text() == "stamp,score,threshold,alarm,top\n"


@pytest.mark.parametrize("damage", [slice(0, -20), slice(1, None)])
def test_damaged_gzip_is_told(tmp_path: Path, damage: slice) -> None:
    source = tmp_path / "in.csv.gz"
    source.write_bytes(gzip.compress(write(tmp_path / "plain.csv").read_bytes())[damage])
    done = call("run", "value-novelty", "--csv", source, "--columns", "flow", "--out", tmp_path / "out.csv")
    assert done.exit_code == 1
    assert "in.csv.gz: damaged gzip data" in done.stderr


def test_the_input_is_never_written_over(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv")
    before = source.read_bytes()
    done = call("run", "value-novelty", "--csv", source, "--out", tmp_path / "." / "in.csv")
    assert (done.exit_code, "is the input too" in done.stderr) == (1, True)
    assert source.read_bytes() == before


def test_list_and_test(tmp_path: Path) -> None:
    shutil.copytree(find_model("value-novelty").parent, tmp_path / "value-novelty")
    good = call("test", "--models", tmp_path, "--json")
    assert good.exit_code == 0
    assert set(json.loads(good.output)["models"]["value-novelty/1"].values()) == {""}
    toys.write(tmp_path, opset=18)
    listed = call("list", "--models", tmp_path, "--json")
    problems = {row["model"]: row["problem"] for row in json.loads(listed.output)["models"]}
    assert listed.exit_code == 1
    assert problems["value-novelty/1"] == ""
    assert "opset default 18" in problems["toy/1"]
    bad = call("test", "toy", "--models", tmp_path)
    assert bad.exit_code == 1
    assert "toy/1  contract: " in bad.output


def test_golden_vectors_that_do_not_come_out_fail_the_test(tmp_path: Path) -> None:
    toys.write(tmp_path)  # its golden.npz has one tick and no scores
    done = call("test", "toy", "--models", tmp_path)
    assert done.exit_code == 1
    assert "golden file: golden.npz lacks dt" in done.output


def test_the_commands_alone_import_nothing_heavy() -> None:
    code = "import sys, edge_agent.cli; print([m for m in ('numpy', 'onnxruntime', 'msgspec') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
