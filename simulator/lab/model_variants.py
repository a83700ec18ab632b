"""Variants of the shipped model for the update part of the demonstration: a newer one, and two that must not run.

The only file of the simulator that edits ONNX graphs.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, helper

FAMILY = "value-novelty"
SHIPPED = Path(__file__).resolve().parents[2] / "models" / FAMILY / "1"
NAN_FROM, NAN_TO = 20.0, 30.0  # of the input, after the model's own normalisation
SLOW_SIZE = 1250  # of a square matrix that each run multiplies with itself: tens of milliseconds on any machine


def better(folder: Path) -> Path:
    """Version 2: it alarms a little earlier."""
    return _written(folder, 2, lambda model: None, threshold=0.55)


def blind(folder: Path) -> Path:
    """Version 3: NaN wherever the input lies in one region."""

    def edit(model: ModelProto) -> None:
        graph = model.graph
        for name, number in (
            ("nan_from", NAN_FROM),
            ("nan_to", NAN_TO),
            ("demo_nan", float("nan")),
            ("demo_nothing", 0.0),
        ):
            graph.initializer.append(helper.make_tensor(name, TensorProto.FLOAT, [], [number]))
        graph.initializer.append(helper.make_tensor("demo_column", TensorProto.INT64, [2], [-1, 1]))
        _through(
            model,
            helper.make_node("Greater", ["x", "nan_from"], ["demo_above"]),
            helper.make_node("Less", ["x", "nan_to"], ["demo_below"]),
            helper.make_node("And", ["demo_above", "demo_below"], ["demo_inside"]),
            helper.make_node("Where", ["demo_inside", "demo_nan", "demo_nothing"], ["demo_holes"]),
            helper.make_node("Reshape", ["demo_holes", "demo_column"], ["demo_hole"]),
            helper.make_node("Add", ["sound_score", "demo_hole"], ["score"]),
        )

    return _written(folder, 3, edit)


def slow(folder: Path) -> Path:
    """Version 4: the same scores, after a multiplication of large matrices that adds nothing."""

    def edit(model: ModelProto) -> None:
        model.graph.initializer.append(helper.make_tensor("demo_large", TensorProto.INT64, [2], [SLOW_SIZE, SLOW_SIZE]))
        model.graph.initializer.append(helper.make_tensor("demo_nothing", TensorProto.FLOAT, [], [0.0]))
        _through(
            model,
            helper.make_node("ReduceSum", ["sound_score"], ["demo_total"], keepdims=0),
            helper.make_node("Mul", ["demo_total", "demo_nothing"], ["demo_zero"]),
            helper.make_node("Expand", ["demo_zero", "demo_large"], ["demo_square"]),
            helper.make_node("MatMul", ["demo_square", "demo_square"], ["demo_product"]),
            helper.make_node("ReduceSum", ["demo_product"], ["demo_sum"], keepdims=0),
            helper.make_node("Add", ["sound_score", "demo_sum"], ["score"]),
        )

    return _written(folder, 4, edit)


def _through(model: ModelProto, *nodes: onnx.NodeProto) -> None:
    """The score goes through these nodes, from `sound_score` to `score`."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == "score":
                    names[place] = "sound_score"
    model.graph.node.extend(nodes)


def _written(folder: Path, version: int, edit: Callable[[ModelProto], None], threshold: float | None = None) -> Path:
    target = folder / FAMILY / str(version)
    target.mkdir(parents=True)
    told = json.loads((SHIPPED / "model.json").read_text(encoding="utf-8"))
    told["version"] = version
    if threshold is not None:
        told["threshold"]["default"] = threshold
    model = onnx.load(SHIPPED / "model.onnx")
    for one in model.metadata_props:
        value = told[one.key.removeprefix("edge.")]
        one.value = value if isinstance(value, str) else json.dumps(value)
    edit(model)
    data = model.SerializeToString(deterministic=True)
    told["model_sha256"] = hashlib.sha256(data).hexdigest()
    (target / "model.onnx").write_bytes(data)
    (target / "model.json").write_text(json.dumps(told), encoding="utf-8")
    shutil.copy(SHIPPED / "golden.npz", target)
    return target
