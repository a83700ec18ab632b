"""Small models made for a test: score = |x - last x|, with every part of the contract open to be broken."""

from __future__ import annotations

import copy
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, helper

from edge_agent.detect.contract import Model, load_model
from edge_agent.detect.session import Session

DECLARED: dict[str, Any] = {
    "contract": 1,
    "name": "toy",
    "version": 1,
    "task": "novelty",
    "sensor_kinds": ["*"],
    "units": ["*"],
    "sample_interval_s": {"nominal": 1.0, "min": 0.01, "max": 60.0},
    "window": {"rows": 1, "stride": 1, "channels": 1},
    "bins": {"per_calibration": 0, "mean_rate": 0.1},
    "norm": "none",
    "calibration": {"rows": 4},
    "params": [],
    "state": [{"name": "state_last", "init": 0.0, "persist": True}],
    "max_gap_s": 100.0,
    "threshold": {"default": 5.0, "min": 1.0, "max": 50.0, "hysteresis": 0.5, "hold_off_ticks": 3},
    "budget": {"p99_ratio": 2.0, "rss_kb": 64, "state_bytes": 64},
    "data": "none",
    "license": "Apache-2.0",
    "build": {"script": "toys.py", "seed": 0},
}

Edit = Callable[[Any], None]


def graph(rows: int = 1, channels: int = 1) -> GraphProto:
    """score = sum |x - last|, last = x where there is one."""
    cube = ["B", rows, channels]
    flat = rows * channels
    shape = helper.make_tensor("flat", TensorProto.INT64, [2], [0, flat])
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["values"]),
        helper.make_node("Reshape", ["mask", "flat"], ["present"]),
        helper.make_node("Greater", ["present", "zero"], ["here"]),
        helper.make_node("Sub", ["values", "state_last"], ["apart"]),
        helper.make_node("Abs", ["apart"], ["far"]),
        helper.make_node("Where", ["here", "far", "zero"], ["counted"]),
        helper.make_node("ReduceSum", ["counted", "axes"], ["score"], keepdims=1),
        helper.make_node("Where", ["here", "values", "state_last"], ["state_last_out"]),
    ]
    info = helper.make_tensor_value_info
    inputs = [
        info("x", TensorProto.FLOAT, cube),
        info("mask", TensorProto.FLOAT, cube),
        info("dt", TensorProto.FLOAT, ["B", 1]),
        info("state_last", TensorProto.FLOAT, ["B", flat]),
    ]
    outputs = [info("score", TensorProto.FLOAT, ["B", 1]), info("state_last_out", TensorProto.FLOAT, ["B", flat])]
    return helper.make_graph(nodes, "toy", inputs, outputs, [shape, axes, zero])


def write(
    root: Path,
    *,
    declared: Edit | None = None,
    sidecar: Edit | None = None,
    model: Edit | None = None,
    metadata: Edit | None = None,
    base: GraphProto | None = None,
    opset: int = 17,
    ir_version: int = 8,
) -> Path:
    """A model folder under `root`; the edits break manifest, model.json alone, graph, or metadata alone."""
    told = copy.deepcopy(DECLARED)
    golden = io.BytesIO()
    np.savez(golden, x=np.zeros((1, 1, 1, 1), np.float32))
    told["golden_sha256"] = hashlib.sha256(golden.getvalue()).hexdigest()
    if declared:
        declared(told)
    proto: ModelProto = helper.make_model(
        base or graph(), ir_version=ir_version, opset_imports=[helper.make_opsetid("", opset)]
    )
    texts = {f"edge.{key}": value if isinstance(value, str) else json.dumps(value) for key, value in told.items()}
    if metadata:
        metadata(texts)
    for key, value in texts.items():
        proto.metadata_props.add(key=key, value=value)
    if model:
        model(proto)
    data = proto.SerializeToString(deterministic=True)
    told["model_sha256"] = hashlib.sha256(data).hexdigest()
    if sidecar:
        sidecar(told)
    folder = root / "toy" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(data)
    (folder / "model.json").write_text(json.dumps(told))
    (folder / "golden.npz").write_bytes(golden.getvalue())
    return folder


def load(root: Path, **edits: Any) -> Model:
    """Written and read."""
    return load_model(write(root, **edits))


def session(root: Path, **edits: Any) -> Session:
    """Written, read and opened."""
    return Session(load(root, **edits))
