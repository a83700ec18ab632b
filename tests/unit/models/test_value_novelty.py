"""The shipped model is what its script builds, byte for byte, and does what its reference does."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edge_agent.detect.contract import load_model
from edge_agent.detect.golden import check_model, load_golden, replay
from edge_agent.detect.session import Session

FOLDER = Path(__file__).resolve().parents[3] / "models" / "value-novelty" / "1"


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(load_model(FOLDER))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("value_novelty_build", FOLDER / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_builds_these_bytes(tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        command = [sys.executable, str(FOLDER / "build.py"), "--out", str(folder)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        for name in ("model.onnx", "model.json", "golden.npz"):
            assert (folder / name).read_bytes() == (FOLDER / name).read_bytes(), "Try: python models/*/1/build.py"


def test_every_check_holds(session: Session) -> None:
    assert [(check.name, check.problem) for check in check_model(session) if check.problem] == []


def test_golden_vectors_show_what_the_model_is_for(session: Session) -> None:
    golden = load_golden(session)
    scores, _ = replay(session, golden)
    at = 120  # the tick with a jump in every row
    assert (scores[at, :2, 0] > 5).all()
    assert scores[at + 5 :, 0].max() < 0.1  # periodic: quiet again
    assert scores[at, 2, 0] < 5  # a hundredth, under a range of a quarter


def test_reference_and_graph_agree_over_a_full_memory(session: Session, script: ModuleType) -> None:
    """More values than the memory has places, in float32 on both sides."""
    random = np.random.default_rng(4)
    ticks, rows = 900, 2
    x = random.normal(0, 2, (ticks, rows, 1, 1)).astype(np.float32)
    x[:, 0, 0, 0] = np.arange(ticks, dtype=np.float32) ** 2  # its range grows, so that every value is far from all
    mask = (random.random((ticks, rows, 1, 1)) < 0.95).astype(np.float32)
    reference = script.Reference(rows, 104.0, 0.0)
    expected = np.stack([reference.step(x[t, :, 0, 0], mask[t, :, 0, 0] > 0) for t in range(ticks)])
    params = {"param_calibration": np.full((rows, 1), 104, np.float32), "param_range": np.zeros((rows, 1), np.float32)}
    golden = {"x": x, "mask": mask, "dt": np.ones((ticks, rows, 1), np.float32), **params}
    scores, state = replay(session, golden)
    assert reference.core[0, script.COUNT] - reference.core[0, script.PLACE] == script.MEMORY  # once round
    np.testing.assert_allclose(scores[:, :, 0], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(state["state_core"], reference.core, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(state["state_memory"], reference.memory)


def test_state_is_within_its_budget(session: Session) -> None:
    size = sum(4 * int(np.prod(shape)) for shape in session.model.state_shapes.values())
    assert size == 4 * (5 + 512)
    assert len(session.model.onnx) < 8192
