"""Builds the model `value-novelty` 1: model.onnx, model.json and golden.npz, the same bytes on every machine.

    python models/value-novelty/1/build.py [--out FOLDER]

"Has this value been seen before?" Each channel remembers up to 512 values (of bins), each a little apart from the
others. The score is the distance from a new value to the nearest of them, in units of the range seen so far, over
SOFTENING plus the running mean of that distance. Nothing is trained: the graph is arithmetic, and the golden vectors
come from the same formulas in numpy.
CARD.md says what it is good for and how it was measured.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NAME = "value-novelty"
VERSION = 1
OPSET = 17
IR_VERSION = 8

MEMORY = 512  # values remembered
BLOCK = 32  # of these are looked at together
RESOLUTION = 1.0 / 512.0  # of the range: a value nearer than this to a remembered one is not remembered again
EMPTY = 1e30  # a place of the memory that holds no value yet: far from everything
GROWTH = 0.1  # part of the excess by which the range grows, so that one spike does not flatten the scale
SOFTENING = 0.025  # of the range: novelty below it never looks large, however quiet the channel was
MEAN_BINS = 1024.0  # length of the running mean
RANGE_MIN = 1e-12
LOW, HIGH, MEAN, COUNT, PLACE = range(5)  # columns of state_core

DECLARED: dict[str, Any] = {
    "contract": 1,
    "name": NAME,
    "version": VERSION,
    "task": "novelty",
    "sensor_kinds": ["*"],
    "units": ["*"],
    "sample_interval_s": {"nominal": 1.0, "min": 0.001, "max": 604800.0},
    "window": {"rows": 1, "stride": 1, "channels": 1},
    "bins": {"per_calibration": 104, "mean_rate": 0.1},
    "norm": "first",
    "calibration": {"rows": 1040},
    "params": [
        {"name": "param_calibration", "source": "calibration_bins", "scale": 1.0},
        {"name": "param_range", "source": "resolution", "scale": 100.0},
    ],
    "state": [
        {"name": "state_core", "init": 0.0, "persist": True},
        {"name": "state_memory", "init": EMPTY, "persist": True},
    ],
    "max_gap_s": 2592000.0,
    "threshold": {"default": 0.6, "min": 0.3, "max": 100.0, "hysteresis": 0.5, "hold_off_ticks": 31},
    "budget": {"p99_ratio": 2.0, "rss_kb": 4096, "state_bytes": 4096},
    "data": "none: the graph is arithmetic without trained weights",
    "license": "Apache-2.0",
    "build": {"script": "build.py", "seed": 0},
}


class Graph:
    """Collects nodes; each method adds one and returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: float | list[int], dtype: Any = np.float32) -> str:
        """A named constant."""
        self.initializers.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def add(self, op: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """One node."""
        name = out or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def column(self, matrix: str, index: int) -> str:
        """Column `index` of a matrix, as [B,1]."""
        starts = self.constant(f"column_{index}", [index], np.int64)
        ends = self.constant(f"column_{index}_end", [index + 1], np.int64)
        return self.add("Slice", matrix, starts, ends, "axis_1")


def build_graph() -> onnx.GraphProto:
    """The graph; `Reference.step` is the same in numpy."""
    g = Graph()
    zero, one = g.constant("zero", 0.0), g.constant("one", 1.0)
    g.constant("axis_1", [1], np.int64)
    flat = g.constant("flat", [0, 1], np.int64)
    x, present = g.add("Reshape", "x", flat), g.add("Reshape", "mask", flat)
    low, high, mean, count, place = (g.column("state_core", i) for i in (LOW, HIGH, MEAN, COUNT, PLACE))
    here, fresh = g.add("Greater", present, zero), g.add("LessOrEqual", count, zero)

    learning = g.add("Less", count, "param_calibration")
    growth = g.add("Mul", g.add("Where", learning, one, g.constant("growth", GROWTH)), present)
    bottom, top = g.add("Where", fresh, x, low), g.add("Where", fresh, x, high)
    below = g.add("Relu", g.add("Sub", bottom, x))
    above = g.add("Relu", g.add("Sub", x, top))
    low_new = g.add("Sub", bottom, g.add("Mul", growth, below))
    high_new = g.add("Add", top, g.add("Mul", growth, above))

    apart = g.add("Abs", g.add("Sub", "state_memory", x))
    # block by block: an ArgMin over all that is remembered takes longer
    blocks = g.add("Reshape", apart, g.constant("blocks", [0, MEMORY // BLOCK, BLOCK], np.int64))
    block_apart = g.add("ReduceMin", blocks, axes=[2], keepdims=0)
    nearest_apart = g.add("ReduceMin", block_apart, axes=[1], keepdims=1)
    span = g.add("Max", g.add("Sub", high_new, low_new), "param_range", g.constant("range_min", RANGE_MIN))
    novelty = g.add("Div", g.add("Where", fresh, zero, nearest_apart), span)
    softened = g.add("Add", mean, g.constant("softening", SOFTENING))
    g.add("Mul", g.add("Div", novelty, softened), present, out="score")

    block = g.add("ArgMin", block_apart, axis=1, keepdims=1)
    within = g.add("ArgMin", g.add("GatherND", blocks, block, batch_dims=1), axis=1, keepdims=1)
    nearest = g.add("Add", g.add("Mul", block, g.constant("block", BLOCK, np.int64)), within)
    expected = g.add("GatherElements", "state_memory", nearest, axis=1)
    cube = g.constant("cube", [0, 1, 1], np.int64)
    g.add("Reshape", expected, cube, out="expected")
    g.add("Reshape", low, cube, out="expected_low")
    g.add("Reshape", high, cube, out="expected_high")

    # what is not here changes nothing
    weighing = g.add("Clip", count, one, g.constant("mean_bins", MEAN_BINS))
    step = g.add("Div", g.add("Sub", novelty, mean), weighing)
    mean_new = g.add("Add", mean, g.add("Mul", step, present))
    count_new = g.add("Add", count, present)  # it stays at 2^24, where float32 has no next integer
    apart_enough = g.add("Greater", novelty, g.constant("resolution", RESOLUTION))
    remembered = g.add("And", here, g.add("Or", apart_enough, fresh))
    further = g.add("Add", place, g.add("Cast", remembered, to=TensorProto.FLOAT))
    place_new = g.add("Mod", further, g.constant("memory", float(MEMORY)), fmod=1)
    g.add("Concat", low_new, high_new, mean_new, count_new, place_new, axis=1, out="state_core_out")

    index = g.add("Cast", place, to=TensorProto.INT64)
    written = g.add("Where", remembered, x, g.add("GatherElements", "state_memory", index, axis=1))
    g.add("ScatterElements", "state_memory", index, written, axis=1, out="state_memory_out")

    unique = {tensor.name: tensor for tensor in g.initializers}
    return helper.make_graph(g.nodes, NAME, _inputs(), _outputs(), list(unique.values()))


def _info(name: str, *shape: str | int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def _inputs() -> list[onnx.ValueInfoProto]:
    return [
        _info("x", "B", 1, 1),
        _info("mask", "B", 1, 1),
        _info("dt", "B", 1),
        _info("param_calibration", "B", 1),
        _info("param_range", "B", 1),
        _info("state_core", "B", 5),
        _info("state_memory", "B", MEMORY),
    ]


def _outputs() -> list[onnx.ValueInfoProto]:
    return [
        _info("score", "B", 1),
        _info("expected", "B", 1, 1),
        _info("expected_low", "B", 1, 1),
        _info("expected_high", "B", 1, 1),
        _info("state_core_out", "B", 5),
        _info("state_memory_out", "B", MEMORY),
    ]


class Reference:
    """The same model in numpy float32, step for step; its state is two arrays."""

    def __init__(self, rows: int, calibration: float, floor: float) -> None:
        self.core = np.zeros((rows, 5), np.float32)
        self.memory = np.full((rows, MEMORY), EMPTY, np.float32)
        self.calibration = np.full(rows, calibration, np.float32)
        self.floor = np.full(rows, floor, np.float32)

    def step(self, x: np.ndarray, here: np.ndarray) -> np.ndarray:
        """Scores of one bin per row; rows that are not `here` keep their state and score 0."""
        f = np.float32
        low, high, mean, count, place = self.core.T.copy()
        fresh, zero = count <= 0, f(0)
        growth = np.where(count < self.calibration, f(1), f(GROWTH))
        bottom, top = np.where(fresh, x, low), np.where(fresh, x, high)
        low_new = bottom - growth * np.maximum(bottom - x, zero)
        high_new = top + growth * np.maximum(x - top, zero)
        apart = np.abs(self.memory - x[:, None]).min(axis=1)
        span = np.maximum(np.maximum(high_new - low_new, self.floor), f(RANGE_MIN))
        novelty = np.where(fresh, zero, apart) / span
        score = np.where(here, novelty / (mean + f(SOFTENING)), zero)
        mean_new = mean + (novelty - mean) / np.clip(count, f(1), f(MEAN_BINS))
        remembered = (novelty > f(RESOLUTION)) | fresh
        place_new = (place + remembered.astype(f)) % f(MEMORY)
        core = np.stack([low_new, high_new, mean_new, count + f(1), place_new], axis=1)
        rows = np.flatnonzero(here & remembered)
        self.memory[rows, place[rows].astype(np.int64)] = x[rows]
        self.core[here] = core[here]
        return score


def golden(ticks: int = 160, rows: int = 3) -> bytes:
    """An npz of inputs, and the scores and last state that must come out; written without dates."""
    steps = np.arange(ticks)
    x = np.empty((ticks, rows, 1, 1), np.float32)
    x[:, 0, 0, 0] = (steps * 37 % 64) / 16.0  # periodic: quiet once it has been seen
    x[:, 1, 0, 0] = (steps * steps % 251) / 8.0 - 10.0  # rough
    x[:, 2, 0, 0] = 1.5  # flat, one step of a hundredth
    x[120, :, 0, 0] = (9.0, 60.0, 1.51)
    mask = np.ones_like(x)
    mask[steps % 17 == 5, 1] = 0.0
    reference = Reference(rows, 52.0, 0.25)
    scores = np.stack([reference.step(x[t, :, 0, 0], mask[t, :, 0, 0] > 0) for t in range(ticks)])
    arrays = {
        "x": x,
        "mask": mask,
        "dt": np.ones((ticks, rows, 1), np.float32),
        "param_calibration": reference.calibration[:, None],
        "param_range": reference.floor[:, None],
        "score": scores[:, :, None].astype(np.float32),
        "state_core_out": reference.core,
        "state_memory_out": reference.memory,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), version=(1, 0))
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return buffer.getvalue()


def build() -> dict[str, bytes]:
    """File name → bytes."""
    vectors = golden()
    declared = DECLARED | {"golden_sha256": hashlib.sha256(vectors).hexdigest()}
    model = helper.make_model(
        build_graph(),
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="tidegate",
        producer_version=str(VERSION),
    )
    for key, value in sorted(declared.items()):
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
        model.metadata_props.add(key=f"edge.{key}", value=text)
    onnx.checker.check_model(model, full_check=True)
    graph = model.SerializeToString(deterministic=True)
    sidecar = declared | {"model_sha256": hashlib.sha256(graph).hexdigest()}
    return {
        "model.onnx": graph,
        "model.json": (json.dumps(sidecar, indent=2) + "\n").encode(),
        "golden.npz": vectors,
    }


def main() -> None:
    """Write the files beside this one, or into --out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    out: Path = parser.parse_args().out
    for name, data in build().items():
        (out / name).write_bytes(data)
        print(f"{out / name}: {len(data)} bytes")


if __name__ == "__main__":
    main()
