"""The demonstration as anyone runs it: one command, exit code 0, and its numbers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cloud_sync.catalog.sql_catalog import SqlCatalog
from wire.clock import SystemClock

KEYS = {"taken", "stored", "lost", "doubled", "in_flight", "wire_bytes_per_reading", "seconds"}
KEYS |= {"anomaly_delay_s", "false_alarms", "ota_good_active", "ota_bad_refused", "ota_reasons"}


@pytest.mark.system
@pytest.mark.timeout(300)
def test_the_counts_hold(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from simulator.cli import main; main()", "demo", "--headless"]
    command += ["--json", str(tmp_path / "out.json"), "--keep", str(tmp_path / "demo")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=290, check=False, cwd=Path(__file__).parents[2]
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    assert set(result) == KEYS
    assert result["taken"] == result["stored"] > 1000
    assert result["lost"] == 0
    assert result["doubled"] == 0
    assert result["in_flight"] <= 9  # one cycle of the three parts whose agent was killed
    assert result["wire_bytes_per_reading"] > 0
    assert 0 < result["anomaly_delay_s"] < 20
    assert result["false_alarms"] == 0
    assert result["ota_good_active"]
    assert result["ota_bad_refused"]
    assert set(result["ota_reasons"]) == {"nan", "slow"}
    assert result["ota_reasons"]["slow"] == "latency"
    catalog = SqlCatalog.open(tmp_path / "demo" / "cloud" / "catalog.sqlite", SystemClock())
    steps = [row.report for row in catalog.assignments.reports("pump-house", 100)]
    catalog.close()
    way = [step.stage for step in reversed(steps) if step.release == "value-novelty/1"]
    assert way[:6] == ["assigned", "downloaded", "tested", "shadow", "staged", "probation"]
    assert "MQTT broker: " in done.stdout
    assert "anomaly in the cloud" in done.stdout
    assert "buffering" in done.stdout
    assert "/login?link=tgl1." in done.stdout
