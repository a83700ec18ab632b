"""The one validator of models: what docs/formats/model.md demands, checked before the runtime sees a byte.

A refusal names what was found and what is allowed. Everything here reads bytes that were bounded first.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.detect.errors import ModelRefused
from edge_agent.detect.manifest import Manifest
from edge_agent.detect.onnx_file import Dim, OnnxFile, Tensor, read_onnx

MODEL_BYTES_MAX = 2 << 20
MANIFEST_BYTES_MAX = 64 << 10
GOLDEN_BYTES_MAX = 8 << 20
IR_VERSION = 8
OPSET = 17
FLOAT = 1  # TensorProto.DataType.FLOAT
PREFIX = "edge."
OPTIONAL_OUTPUTS = ("contrib", "expected", "expected_low", "expected_high")
RANDOM_OPS = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


@dataclass(frozen=True, slots=True)
class Model:
    """A model that keeps the contract. `onnx` are the very bytes that were checked."""

    manifest: Manifest
    onnx: bytes
    state_shapes: dict[str, tuple[int, ...]]  # per row, without the first dimension
    outputs: frozenset[str]
    folder: Path

    @property
    def title(self) -> str:
        """`name/version`."""
        return self.manifest.title


@dataclass(frozen=True, slots=True)
class Fit:
    """What a model is put on: a channel's unit and kind, and its resolution in that unit (0 = not known)."""

    name: str
    unit: str
    kind: str = ""
    resolution: float = 0.0


def load_model(folder: Path) -> Model:
    """The model in `folder` (`.../<name>/<version>`).

    Raises:
        ModelRefused: a file is missing or too large, or the contract is broken; the message says where.
    """
    try:
        return _load(folder)
    except ModelRefused as error:
        raise ModelRefused(f"{folder}: {error}") from error


def _load(folder: Path) -> Model:
    declared, manifest = _manifest(read_bounded(folder / "model.json", MANIFEST_BYTES_MAX))
    if (folder.parent.name, folder.name) != (manifest.name, str(manifest.version)):
        raise ModelRefused(f"model.json is of {manifest.title}; the folder must end in it")
    onnx = read_bounded(folder / "model.onnx", MODEL_BYTES_MAX)
    check_sha256("model.onnx", onnx, manifest.model_sha256)
    file = read_onnx(onnx)
    _check_file(file)
    _check_mirror(declared, file.metadata)
    _check_numbers(manifest)
    shapes = _check_graph(manifest, file)
    return Model(manifest, onnx, shapes, frozenset(tensor.name for tensor in file.outputs), folder)


def check_fit(model: Model, channels: Sequence[Fit], interval_s: float | None) -> None:
    """Raises ModelRefused when the model was not made for these units, kinds or this interval (None = not known)."""
    manifest = model.manifest
    for channel in channels:
        for word, allowed, what in (
            (channel.unit, manifest.units, "unit"),
            (channel.kind, manifest.sensor_kinds, "device class"),
        ):
            if word not in allowed and "*" not in allowed:
                raise ModelRefused(
                    f"{model.title} is for {what} {', '.join(allowed)}; {channel.name} has {word or 'none'!r}"
                )
    span = manifest.sample_interval_s
    if interval_s is not None and not span.min <= interval_s <= span.max:
        raise ModelRefused(
            f"{model.title} is for intervals of {span.min:g} to {span.max:g} s; here it is {interval_s:g} s"
        )


def read_bounded(path: Path, most: int) -> bytes:
    """The file's bytes, never more than `most`. Raises ModelRefused."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise ModelRefused(f"{path.name}: {error.strerror}") from error
    if len(data) > most:
        raise ModelRefused(f"{path.name} is over {most} bytes")
    return data


def check_sha256(name: str, data: bytes, expected: str) -> None:
    """Raises ModelRefused when the bytes are not those that were declared."""
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ModelRefused(f"{name} has sha256 {found[:16]}…; model.json says {expected[:16]}…")


def _manifest(data: bytes) -> tuple[dict[str, Any], Manifest]:
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
        return json.loads(data), manifest
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelRefused(f"model.json: {error}") from error


def _check_file(file: OnnxFile) -> None:
    if file.ir_version != IR_VERSION:
        raise ModelRefused(f"IR version {file.ir_version}; {IR_VERSION} is the contract's")
    if file.opsets != {"": OPSET}:
        found = ", ".join(f"{domain or 'default'} {version}" for domain, version in sorted(file.opsets.items()))
        raise ModelRefused(f"opset {found or 'none'}; default {OPSET} alone is the contract's")
    chance = file.ops & RANDOM_OPS
    if chance:
        raise ModelRefused(f"operator {min(chance)} draws random numbers; two runs must be equal")


def _check_mirror(declared: dict[str, Any], metadata: dict[str, str]) -> None:
    """The graph's `edge.*` metadata and model.json say the same."""
    expected = {f"{PREFIX}{key}": value for key, value in declared.items() if key != "model_sha256"}
    found = {key for key in metadata if key.startswith(PREFIX)}
    different = found ^ expected.keys()
    if different:
        raise ModelRefused(
            f"{min(different)} stands only in {'the graph' if min(different) in found else 'model.json'}"
        )
    for key, value in expected.items():
        try:
            same = metadata[key] == value if isinstance(value, str) else json.loads(metadata[key]) == value
        except (ValueError, RecursionError):
            same = False
        if not same:
            raise ModelRefused(f"{key} is {metadata[key][:80]!r} in the graph and {value!r} in model.json")


def _check_numbers(manifest: Manifest) -> None:
    interval, threshold, window = manifest.sample_interval_s, manifest.threshold, manifest.window
    for what, part in (("sample_interval_s", interval), ("threshold", threshold)):
        middle = part.nominal if part is interval else threshold.default
        if not part.min <= middle <= part.max:
            raise ModelRefused(f"{what} {middle:g} is not within {part.min:g} to {part.max:g}")
    if window.stride != window.rows:
        raise ModelRefused(f"stride {window.stride} with {window.rows} rows; contract 1 allows no overlap")
    names = [param.name for param in manifest.params] + [state.name for state in manifest.state]
    for name in names:
        if names.count(name) > 1:
            raise ModelRefused(f"{name} is declared twice")
    for state in manifest.state:
        if not math.isfinite(state.init):
            raise ModelRefused(f"{state.name} begins with {state.init}; it must be finite")


def _check_graph(manifest: Manifest, file: OnnxFile) -> dict[str, tuple[int, ...]]:
    """Names, types and shapes of everything that goes in and out. Returns the shape of each state, per row."""
    inputs, outputs = _by_name(file.inputs, "input"), _by_name(file.outputs, "output")
    rows, channels = manifest.window.rows, manifest.window.channels
    cube = (rows, channels)
    shapes: dict[str, tuple[int, ...] | None] = {"x": cube, "mask": cube, "dt": (1,)}
    shapes |= {param.name: None for param in manifest.params} | {state.name: None for state in manifest.state}
    _check_names("input", inputs.keys(), shapes.keys(), ())
    states = [state.name for state in manifest.state]
    _check_names("output", outputs.keys(), {"score", *(f"{name}_out" for name in states)}, OPTIONAL_OUTPUTS)
    shapes |= {"score": (1,), "contrib": (channels,), "expected": cube, "expected_low": cube, "expected_high": cube}
    batch = inputs["x"].shape[0] if inputs["x"].shape else 0
    if not isinstance(batch, str) or not batch:
        raise ModelRefused(f"x has first dimension {batch!r}; it must be free and named, as in [B,{rows},{channels}]")
    for name in states:
        shapes[f"{name}_out"] = inputs[name].shape[1:]  # type: ignore[assignment]
    for tensor in (*file.inputs, *file.outputs):
        _check_tensor(tensor, batch, shapes[tensor.name])
    found = {name: tuple(int(size) for size in inputs[name].shape[1:]) for name in states}
    size = sum(4 * math.prod(shape) for shape in found.values())
    if size > manifest.budget.state_bytes:
        raise ModelRefused(f"state of {size} bytes a row; the budget is {manifest.budget.state_bytes}")
    for param in manifest.params:
        if inputs[param.name].shape[1:] != (1,):
            raise ModelRefused(f"{param.name} has shape {_show(inputs[param.name].shape)}; [{batch},1] is expected")
    return found


def _by_name(tensors: Sequence[Tensor], what: str) -> dict[str, Tensor]:
    found = {tensor.name: tensor for tensor in tensors}
    if len(found) != len(tensors):
        raise ModelRefused(f"two {what}s have one name")
    return found


def _check_names(what: str, found: Any, needed: Any, optional: Sequence[str]) -> None:
    missing, unknown = set(needed) - set(found), set(found) - set(needed) - set(optional)
    if missing:
        raise ModelRefused(f"{what} {min(missing)} is missing")
    if unknown:
        raise ModelRefused(f"{what} {min(unknown)} is not known; {', '.join(sorted({*needed, *optional}))} are")


def _check_tensor(tensor: Tensor, batch: Dim, shape: tuple[int, ...] | None) -> None:
    if tensor.elem_type != FLOAT:
        raise ModelRefused(f"{tensor.name} has element type {tensor.elem_type}; {FLOAT} (float32) is expected")
    first, rest = tensor.shape[:1], tensor.shape[1:]
    fixed = all(isinstance(size, int) and 1 <= size <= 1 << 20 for size in rest)
    if first != (batch,) or not fixed or (shape is not None and rest != shape):
        wanted = f"[{batch},{','.join(map(str, shape))}]" if shape is not None else f"[{batch}, fixed sizes]"
        raise ModelRefused(f"{tensor.name} has shape {_show(tensor.shape)}; {wanted} is expected")


def _show(shape: tuple[Dim, ...]) -> str:
    return f"[{','.join(str(size) or '?' for size in shape)}]"
