"""What an ONNX file says of itself, read without the runtime: a bounded walk over its protobuf fields.

A file is looked at before any native code parses it, so this reads only the field numbers it needs (onnx.proto3,
IR 8), skips the rest by length, and stops at bounds. Field numbers are part of the ONNX standard and never change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edge_agent.detect.errors import ModelRefused

NODES_MAX = 10_000
ENTRIES_MAX = 4_096  # initializers, inputs, outputs, metadata: each
DIMS_MAX = 8
TEXT_MAX = 65_536

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
EXTERNAL = 1  # TensorProto.DataLocation

Dim = int | str  # a size, or the name of a free one ("" when it has none)


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output: its element type (TensorProto.DataType, 1 = float32) and shape."""

    name: str
    elem_type: int
    shape: tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """What the contract asks about."""

    ir_version: int
    opsets: dict[str, int]
    metadata: dict[str, str]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    ops: frozenset[str]


class _Message:
    """Fields of one protobuf message: numbers, or slices of the file."""

    def __init__(self, data: memoryview, what: str) -> None:
        self.what = what
        self.fields: dict[int, list[int | memoryview]] = {}
        for number, value in _fields(data, what):
            self.fields.setdefault(number, []).append(value)

    def number(self, field: int, default: int = 0) -> int:
        """A singular number. Given twice it is refused: readers differ in which one they take."""
        value = self._one(field)
        if isinstance(value, memoryview):
            raise ModelRefused(f"{self.what}: field {field} is not a number")
        return default if value is None else value

    def text(self, field: int) -> str:
        """A singular string."""
        value = self._one(field)
        if value is None:
            return ""
        if isinstance(value, int) or len(value) > TEXT_MAX:
            raise ModelRefused(f"{self.what}: field {field} is not text of at most {TEXT_MAX} bytes")
        try:
            return str(value, "utf-8")
        except UnicodeDecodeError as error:
            raise ModelRefused(f"{self.what}: field {field} is not UTF-8") from error

    def message(self, field: int, what: str) -> _Message:
        """A singular message; an empty one when it is missing."""
        value = self._one(field)
        if isinstance(value, int):
            raise ModelRefused(f"{self.what}: {what} is not a message")
        return _Message(memoryview(b"") if value is None else value, what)

    def messages(self, field: int, what: str, most: int = ENTRIES_MAX) -> Iterator[_Message]:
        """Repeated messages, at most `most`."""
        values = self.fields.get(field, [])
        if len(values) > most:
            raise ModelRefused(f"{len(values)} of {what}; at most {most} are allowed")
        for value in values:
            if isinstance(value, int):
                raise ModelRefused(f"{self.what}: {what} is not a message")
            yield _Message(value, what)

    def has(self, *fields: int) -> bool:
        """Is any of these fields there?"""
        return any(field in self.fields for field in fields)

    def _one(self, field: int) -> int | memoryview | None:
        values = self.fields.get(field, [])
        if len(values) > 1:
            raise ModelRefused(f"{self.what}: field {field} stands {len(values)} times; once is allowed")
        return values[0] if values else None


def read_onnx(data: bytes) -> OnnxFile:
    """What the file says.

    Raises:
        ModelRefused: it is not ONNX, or uses what contract v1 forbids: external data, other domains, control flow,
            functions, training, sparse or non-tensor values.
    """
    model = _Message(memoryview(data), "model.onnx")
    if not model.has(7):
        raise ModelRefused(f"model.onnx: {len(data)} bytes without a graph: not an ONNX file")
    if model.has(20, 25, 26):
        raise ModelRefused("model.onnx: training, functions or device configuration; none of them is allowed")
    opsets: dict[str, int] = {}
    for entry in model.messages(8, "opset_import"):
        domain = _domain(entry.text(1))
        if domain in opsets:
            raise ModelRefused(f"opset of domain {domain!r} stands twice")
        opsets[domain] = entry.number(2)
    metadata: dict[str, str] = {}
    for entry in model.messages(14, "metadata_props"):
        key = entry.text(1)
        if key in metadata:
            raise ModelRefused(f"metadata {key!r} stands twice")
        metadata[key] = entry.text(2)
    graph = model.message(7, "graph")
    if graph.has(15):
        raise ModelRefused("the graph has sparse initializers; none are allowed")
    for initializer in graph.messages(5, "initializers"):
        _check_tensor(initializer)
    ops = frozenset(_op(node) for node in graph.messages(1, "nodes", NODES_MAX))
    return OnnxFile(
        model.number(1),
        opsets,
        metadata,
        tuple(_tensor(info) for info in graph.messages(11, "inputs")),
        tuple(_tensor(info) for info in graph.messages(12, "outputs")),
        ops,
    )


def _domain(text: str) -> str:
    return "" if text == "ai.onnx" else text


def _op(node: _Message) -> str:
    """The node's operator, once it is known to bring neither another domain, nor a graph, nor outside data."""
    op = node.text(4)
    domain = _domain(node.text(7))
    if domain:
        raise ModelRefused(f"operator {op} of domain {domain!r}; only the default domain is allowed")
    for attribute in node.messages(5, f"attributes of {op}"):
        if attribute.has(6, 11):
            raise ModelRefused(f"operator {op} holds a graph of its own; control flow is not allowed")
        if attribute.has(22, 23):
            raise ModelRefused(f"operator {op} holds a sparse tensor; none are allowed")
        for field in (5, 10):
            for tensor in attribute.messages(field, f"tensors of {op}"):
                _check_tensor(tensor)
    return op


def _check_tensor(tensor: _Message) -> None:
    if tensor.has(13) or tensor.number(14) == EXTERNAL:
        raise ModelRefused(f"tensor {tensor.text(8)!r} keeps its data in another file; external data is not allowed")


def _tensor(info: _Message) -> Tensor:
    name = info.text(1)
    kind = info.message(2, f"type of {name!r}")
    if not kind.has(1):
        raise ModelRefused(f"{name!r} is not a tensor; only tensors are allowed")
    tensor = kind.message(1, f"type of {name!r}")
    dims: list[Dim] = []
    for dim in tensor.message(2, f"shape of {name!r}").messages(1, f"dimensions of {name!r}", DIMS_MAX):
        dims.append(dim.number(1) if dim.has(1) else dim.text(2))
    return Tensor(name, tensor.number(1), tuple(dims))


def _fields(data: memoryview, what: str) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) one after another; fixed-width values are skipped, nothing here needs them."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at, what)
        wire = key & 7
        if wire == VARINT:
            number, at = _varint(data, at, what)
            yield key >> 3, number
        elif wire == BYTES:
            length, at = _varint(data, at, what)
            if length > end - at:
                raise ModelRefused(f"{what}: cut short at byte {at}; {length} bytes are told, {end - at} are there")
            yield key >> 3, data[at : at + length]
            at += length
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
            if at > end:
                raise ModelRefused(f"{what}: cut short at byte {end}")
        else:
            raise ModelRefused(f"{what}: wire type {wire} at byte {at}; this is not an ONNX file")


def _varint(data: memoryview, at: int, what: str) -> tuple[int, int]:
    number = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return number & (1 << 64) - 1, at
        shift += 7
    raise ModelRefused(f"{what}: a number is cut short at byte {at}")
