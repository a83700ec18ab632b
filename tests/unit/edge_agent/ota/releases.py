"""Gateways with slots, and models that are good or bad in one way each."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper
from securesystemslib.signer import CryptoSigner

from cloud_sync.rollout.publish import Wishes, read_model
from edge_agent.ota.installer import Installer, Outcome
from edge_agent.ota.slots import Slots
from tests.unit.cloud_sync.rollout.parts import NOW, Fleet
from tests.unit.edge_agent.detect import toys
from wire.assignment import Assigned, Assignment, seal
from wire.release import Release

TICKS, ROWS = 80, 2


def golden() -> dict[str, np.ndarray[Any, Any]]:
    """Vectors of the toy model: score = |x - last x|, 0 at first."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(TICKS, ROWS, 1, 1)).astype(np.float32)
    before = np.concatenate([np.zeros_like(x[:1]), x[:-1]])
    arrays = {"x": x, "mask": np.ones_like(x), "dt": np.ones((TICKS, ROWS, 1), np.float32)}
    arrays["score"] = np.abs(x - before)[:, :, :, 0]
    arrays["state_last_out"] = x[-1][:, 0]
    return arrays


def write_model(
    root: Path,
    version: int = 1,
    *,
    edit: Callable[[ModelProto], None] | None = None,
    vectors: dict[str, Any] | None = None,
) -> Path:
    """A model folder `toy/VERSION` that passes every gate, unless `edit` or `vectors` break it."""
    folder = root / "toy" / str(version)
    folder.mkdir(parents=True)
    file = io.BytesIO()
    np.savez(file, **(golden() | (vectors or {})))
    told = {**toys.DECLARED, "version": version, "golden_sha256": hashlib.sha256(file.getvalue()).hexdigest()}
    model = helper.make_model(toys.graph(), ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    for key, value in told.items():
        model.metadata_props.add(key=f"edge.{key}", value=value if isinstance(value, str) else json.dumps(value))
    if edit:
        edit(model)
    data = model.SerializeToString(deterministic=True)
    told["model_sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "model.onnx").write_bytes(data)
    (folder / "model.json").write_text(json.dumps(told))
    (folder / "golden.npz").write_bytes(file.getvalue())
    return folder


def replace_score(model: ModelProto, *nodes: Any) -> None:
    """The score goes through these nodes, from `raw` to `score`."""
    for node in model.graph.node:
        for place, name in enumerate(node.output):
            if name == "score":
                node.output[place] = "raw"
    model.graph.node.extend(nodes)


def nan_above(model: ModelProto, bound: float) -> None:
    """0/0 where the score is larger than `bound`."""
    model.graph.initializer.append(helper.make_tensor("bound", TensorProto.FLOAT, [], [bound]))
    model.graph.initializer.append(helper.make_tensor("nan", TensorProto.FLOAT, [], [float("nan")]))
    replace_score(
        model,
        helper.make_node("Greater", ["raw", "bound"], ["beyond"]),
        helper.make_node("Where", ["beyond", "nan", "raw"], ["score"]),
    )


def large(model: ModelProto, size: int) -> None:
    """A square matrix of `size` is made in each run, and adds nothing."""
    add = model.graph.initializer.append
    add(helper.make_tensor("shape", TensorProto.INT64, [2], [size, size]))
    add(helper.make_tensor("none", TensorProto.FLOAT, [], [0.0]))
    replace_score(
        model,
        helper.make_node("ReduceSum", ["raw"], ["total"], keepdims=0),
        helper.make_node("Mul", ["total", "none"], ["zeroed"]),
        helper.make_node("Expand", ["zeroed", "shape"], ["square"]),
        helper.make_node("ReduceSum", ["square"], ["sum"], keepdims=0),
        helper.make_node("Add", ["raw", "sum"], ["score"]),
    )


def nan_between(model: ModelProto, low: float, high: float) -> None:
    """0/0 where the score lies between the bounds: the one region that no vector covers."""
    for name, number in (("low", low), ("high", high), ("nan", float("nan"))):
        model.graph.initializer.append(helper.make_tensor(name, TensorProto.FLOAT, [], [number]))
    replace_score(
        model,
        helper.make_node("Greater", ["raw", "low"], ["above"]),
        helper.make_node("Less", ["raw", "high"], ["below"]),
        helper.make_node("And", ["above", "below"], ["between"]),
        helper.make_node("Where", ["between", "nan", "raw"], ["score"]),
    )


def slow(model: ModelProto, size: int) -> None:
    """A square matrix of `size` is multiplied with itself in each run, and adds nothing."""
    add = model.graph.initializer.append
    add(helper.make_tensor("shape", TensorProto.INT64, [2], [size, size]))
    add(helper.make_tensor("none", TensorProto.FLOAT, [], [0.0]))
    replace_score(
        model,
        helper.make_node("ReduceSum", ["raw"], ["total"], keepdims=0),
        helper.make_node("Mul", ["total", "none"], ["zeroed"]),
        helper.make_node("Expand", ["zeroed", "shape"], ["square"]),
        helper.make_node("MatMul", ["square", "square"], ["product"]),
        helper.make_node("ReduceSum", ["product"], ["sum"], keepdims=0),
        helper.make_node("Add", ["raw", "sum"], ["score"]),
    )


class Gateway(Fleet):
    """A fleet's repository, and a gateway of it that installs."""

    def __init__(self, folder: Path, now: datetime = NOW) -> None:
        super().__init__(folder, now=now)
        self.state = folder / "state"

    @property
    def slots(self) -> Slots:
        return Slots(self.state, self.clock)

    def publish(self, model: Path, wishes: Wishes | None = None) -> Release:
        counter = self.ceremony.releases("toy").counter_next
        release, files = read_model(model, counter, wishes or Wishes())
        self.ceremony.release(release, files, self.team.signers, lambda _: None)
        self.roles.tick()
        return release

    def assigned(self, release: Release) -> Assigned:
        """As `edge-ota assign` writes it down."""
        document = release.document()
        return Assigned(release.family, release.counter, hashlib.sha256(document).hexdigest(), len(document))

    def sealed(self, assignment: Assignment, signer: CryptoSigner | None = None) -> bytes:
        """By the Director's key, or another."""
        key = signer or self.online["director"]
        return seal(assignment, key.public_key.keyid, lambda data: bytes.fromhex(key.sign(data).signature))

    def install(self) -> Outcome:
        return Installer(self.client(), self.slots).install(["toy"])[0]

    def active(self) -> str:
        """What the link says: the version that runs, or `factory`."""
        link = self.state / "models" / "toy"
        return next(path.name for path in link.iterdir()) if link.is_symlink() else "factory"
