"""The protobuf walk is total: any bytes give facts or a refusal, and it reads what onnx wrote."""

from __future__ import annotations

import contextlib

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.detect import onnx_file
from edge_agent.detect.errors import ModelRefused
from edge_agent.detect.library import find_model
from edge_agent.detect.onnx_file import read_onnx
from tests.unit.edge_agent.detect import toys

DATA = (find_model("value-novelty") / "model.onnx").read_bytes()


def test_it_reads_what_onnx_reads() -> None:
    found, proto = read_onnx(DATA), onnx.load_from_string(DATA)
    assert found.ir_version == proto.ir_version
    assert found.opsets == {entry.domain: entry.version for entry in proto.opset_import}
    assert found.metadata == {entry.key: entry.value for entry in proto.metadata_props}
    assert found.ops == {node.op_type for node in proto.graph.node}
    for tensors, infos in ((found.inputs, proto.graph.input), (found.outputs, proto.graph.output)):
        for tensor, info in zip(tensors, infos, strict=True):
            dims = info.type.tensor_type.shape.dim
            assert tensor.name == info.name
            assert tensor.elem_type == info.type.tensor_type.elem_type
            assert tensor.shape == tuple(dim.dim_param or dim.dim_value for dim in dims)


def read(data: bytes) -> None:
    """Either way is right; anything else that is raised fails the test."""
    with contextlib.suppress(ModelRefused):
        read_onnx(data)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes(data: bytes) -> None:
    read(data)


@given(st.integers(0, len(DATA) - 1), st.binary(min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_damaged_bytes(at: int, noise: bytes) -> None:
    read(DATA[:at] + noise + DATA[at + len(noise) :])
    read(DATA[:at])


def test_a_second_graph_is_refused() -> None:
    """Protobuf would join the two, so that a reader of the first alone checks something else than what runs."""
    graph = toys.graph().SerializeToString()
    twice = b"".join(bytes([7 << 3 | 2]) + varint(len(graph)) + graph for _ in range(2))
    with pytest.raises(ModelRefused, match="field 7 stands 2 times"):
        read_onnx(twice)


def test_the_number_of_nodes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "NODES_MAX", 10)
    with pytest.raises(ModelRefused, match="of nodes; at most 10 are allowed"):
        read_onnx(DATA)


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
