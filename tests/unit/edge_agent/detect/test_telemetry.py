"""The runtime's telemetry is off: a run leaves no file, no thread and no socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CODE = """
import json, os, sys, time
import numpy as np
numpy_threads = len(os.listdir("/proc/self/task"))
from edge_agent.detect.contract import Fit, load_model
from edge_agent.detect.library import find_model
from edge_agent.detect.runner import Runner
from edge_agent.detect.session import Session
model = load_model(find_model("value-novelty"))
lanes = [Runner(Session(model), calibration_rows=104).add([Fit("a", "1")]) for _ in range(3)]
for row in range(300):
    for lane in lanes:
        lane.step(row * 1000000, np.array([float(row % 7)]))
time.sleep(float(sys.argv[1]))
files = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
links = [os.readlink(file) for file in files if os.path.lexists(file)]
print(json.dumps({
    "threads": len(os.listdir("/proc/self/task")) - numpy_threads,
    "sockets": [link for link in links if link.startswith("socket:")],
    "switches": [os.environ.get(name) for name in ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED")],
}))
"""


def test_no_file_no_thread_no_socket(tmp_path: Path) -> None:
    folders = {name: str(tmp_path / name) for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR")}
    for folder in folders.values():
        Path(folder).mkdir()
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ORT_")}
    environment = clean | folders | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, "0.5"], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == {"threads": 0, "sockets": [], "switches": ["1", "1"]}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
