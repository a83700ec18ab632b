"""Each clause of docs/formats/model.md refuses what breaks it, with what was found and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper

from edge_agent.detect import contract
from edge_agent.detect.contract import Fit, check_fit, load_model
from edge_agent.detect.errors import ModelRefused
from edge_agent.detect.session import Session
from tests.unit.edge_agent.detect import toys


def put(*path: str | int, value: Any) -> toys.Edit:
    def edit(told: Any) -> None:
        for key in path[:-1]:
            told = told[key]
        told[path[-1]] = value

    return edit


def shape(name: str, *dims: int | str, elem_type: int = TensorProto.FLOAT) -> toys.Edit:
    def edit(proto: ModelProto) -> None:
        for info in (*proto.graph.input, *proto.graph.output):
            if info.name == name:
                info.CopyFrom(helper.make_tensor_value_info(name, elem_type, list(dims)))

    return edit


def external(proto: ModelProto) -> None:
    tensor = proto.graph.initializer[2]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def external_in_constant(proto: ModelProto) -> None:
    constant = helper.make_node("Constant", [], ["hidden"], value=helper.make_tensor("t", TensorProto.FLOAT, [], [1.0]))
    constant.attribute[0].t.data_location = TensorProto.EXTERNAL
    proto.graph.node.append(constant)


def control_flow(proto: ModelProto) -> None:
    branch = helper.make_graph([], "branch", [], [])
    proto.graph.node.append(helper.make_node("If", ["zero"], ["maybe"], then_branch=branch, else_branch=branch))


def other_domain(proto: ModelProto) -> None:
    proto.graph.node.append(helper.make_node("FusedGemm", ["x"], ["y"], domain="com.microsoft"))


def other_opset(proto: ModelProto) -> None:
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def function(proto: ModelProto) -> None:
    proto.functions.add(name="f")


def sparse(proto: ModelProto) -> None:
    proto.graph.sparse_initializer.add()


def sequence(proto: ModelProto) -> None:
    proto.graph.input.append(helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, None))


def chance(proto: ModelProto) -> None:
    proto.graph.node.append(helper.make_node("RandomNormalLike", ["x"], ["noise"]))


def no_score(proto: ModelProto) -> None:
    del proto.graph.output[0]


def twice(proto: ModelProto) -> None:
    proto.graph.input.append(proto.graph.input[0])


def extra_input(proto: ModelProto) -> None:
    proto.graph.input.append(helper.make_tensor_value_info("secret", TensorProto.FLOAT, ["B", 1]))


def unused_graph_attribute(proto: ModelProto) -> None:
    attribute = AttributeProto(name="body", type=AttributeProto.GRAPHS)
    attribute.graphs.add()
    proto.graph.node[0].attribute.append(attribute)


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "ir": ({"ir_version": 9}, r"IR version 9; 8 is"),
    "opset": ({"opset": 18}, r"opset default 18; default 17 alone"),
    "second opset": ({"model": other_opset}, r"opset default 17, com.microsoft 1; default 17 alone"),
    "domain": ({"model": other_domain}, r"FusedGemm of domain 'com.microsoft'"),
    "external": ({"model": external}, r"'zero' keeps its data in another file; external data is not allowed"),
    "external in a node": ({"model": external_in_constant}, r"external data is not allowed"),
    "control flow": ({"model": control_flow}, r"operator If holds a graph of its own"),
    "hidden graph": ({"model": unused_graph_attribute}, r"operator Reshape holds a graph of its own"),
    "function": ({"model": function}, r"training, functions or device configuration"),
    "sparse": ({"model": sparse}, r"sparse initializers"),
    "sequence": ({"model": sequence}, r"'list' is not a tensor"),
    "random": ({"model": chance}, r"RandomNormalLike draws random numbers"),
    "no score": ({"model": no_score}, r"output score is missing"),
    "input twice": ({"model": twice}, r"two inputs have one name"),
    "unknown input": ({"model": extra_input}, r"input secret is not known; dt, mask, state_last, x are"),
    "x shape": ({"model": shape("x", "B", 2, 1)}, r"x has shape \[B,2,1\]; \[B,1,1\] is expected"),
    "x rank": ({"model": shape("x", "B", 1)}, r"x has shape \[B,1\]; \[B,1,1\] is expected"),
    "x fixed batch": ({"model": shape("x", 4, 1, 1)}, r"x has first dimension 4; it must be free"),
    "mask batch": ({"model": shape("mask", "N", 1, 1)}, r"mask has shape \[N,1,1\]; \[B,1,1\] is expected"),
    "score shape": ({"model": shape("score", "B", 2)}, r"score has shape \[B,2\]; \[B,1\] is expected"),
    "score double": (
        {"model": shape("score", "B", 1, elem_type=TensorProto.DOUBLE)},
        r"score has element type 11; 1 \(float32\)",
    ),
    "state pair": ({"model": shape("state_last_out", "B", 2)}, r"state_last_out has shape \[B,2\]; \[B,1\]"),
    "state open": ({"model": shape("state_last", "B", "N")}, r"state_last has shape \[B,N\]; \[B, fixed sizes\]"),
    "state too large": (
        {"declared": put("budget", "state_bytes", value=3)},
        r"state of 4 bytes a row; the budget is 3",
    ),
    "state undeclared": ({"declared": put("state", value=[])}, r"input state_last is not known"),
    "mirror differs": (
        {"sidecar": put("license", value="MIT")},
        r"edge.license is 'Apache-2.0' in the graph and 'MIT'",
    ),
    "mirror missing": (
        {"metadata": lambda texts: texts.pop("edge.units")},
        r"edge.units stands only in model.json",
    ),
    "mirror extra": ({"metadata": put("edge.magic", value="1")}, r"edge.magic stands only in the graph"),
    "mirror no json": ({"metadata": put("edge.window", value="{")}, r"edge.window is '\{' in the graph"),
    "hash": ({"sidecar": put("model_sha256", value="0" * 64)}, r"model.onnx has sha256 .*; model.json says 0000"),
    "name": ({"declared": put("name", value="other")}, r"model.json is of other/1; the folder must end in it"),
    "contract": ({"declared": put("contract", value=2)}, r"Invalid enum value 2 - at `\$.contract`"),
    "unknown key": ({"declared": put("color", value="red")}, r"unknown field `color`"),
    "threshold": ({"declared": put("threshold", "default", value=99.0)}, r"threshold 99 is not within 1 to 50"),
    "interval": (
        {"declared": put("sample_interval_s", "min", value=2.0)},
        r"sample_interval_s 1 is not within 2 to 60",
    ),
    "stride": ({"declared": put("window", "stride", value=2)}, r"stride 2 with 1 rows"),
    "rows": (
        {"declared": put("window", value={"rows": 2, "stride": 2, "channels": 1})},
        r"x has shape \[B,1,1\]; \[B,2,1\]",
    ),
    "state name twice": (
        {"declared": lambda told: told["state"].append(told["state"][0])},
        r"state_last is declared twice",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_model_is_refused_with_its_reason(case: str, tmp_path: Path) -> None:
    edits, reason = BROKEN[case]
    folder = toys.write(tmp_path, **edits)
    with pytest.raises(ModelRefused, match=reason) as caught:
        load_model(folder)
    assert str(caught.value).startswith(f"{folder}: ")


def test_a_good_model_passes(tmp_path: Path) -> None:
    model = toys.load(tmp_path)
    assert model.title == "toy/1"
    assert model.state_shapes == {"state_last": (1,)}


@pytest.mark.parametrize("name", ["model.json", "model.onnx"])
def test_size_is_bounded_before_anything_is_read(name: str, tmp_path: Path) -> None:
    folder = toys.write(tmp_path)
    most = {"model.json": contract.MANIFEST_BYTES_MAX, "model.onnx": contract.MODEL_BYTES_MAX}[name]
    with (folder / name).open("r+b") as file:
        file.truncate(1 << 33)  # sparse: a reader that took it whole would need 8 GiB
    with pytest.raises(ModelRefused, match=f"{name} is over {most} bytes"):
        load_model(folder)
    (folder / name).unlink()
    with pytest.raises(ModelRefused, match="No such file"):
        load_model(folder)


def test_units_kinds_and_interval_must_fit(tmp_path: Path) -> None:
    def only_heat(told: Any) -> None:
        told["units"], told["sensor_kinds"] = ["Cel", "K"], ["temperature"]

    model = toys.load(tmp_path, declared=only_heat)
    good = Fit("oven/heat", "Cel", "temperature")
    check_fit(model, [good], 1.0)
    with pytest.raises(ModelRefused, match="toy/1 is for unit Cel, K; pump/p has 'Pa'"):
        check_fit(model, [good, Fit("pump/p", "Pa", "temperature")], 1.0)
    with pytest.raises(ModelRefused, match="is for device class temperature; pump/p has 'pressure'"):
        check_fit(model, [Fit("pump/p", "K", "pressure")], 1.0)
    with pytest.raises(ModelRefused, match=r"intervals of 0.01 to 60 s; here it is 61 s"):
        check_fit(model, [good], 61.0)


def test_what_only_the_runtime_can_see_is_a_refusal_too(tmp_path: Path) -> None:
    def unknown_operator(proto: ModelProto) -> None:
        proto.graph.node.append(helper.make_node("NoSuchOperator", ["x"], ["y"]))

    with pytest.raises(ModelRefused, match="toy/1: the runtime refuses the graph"):
        Session(toys.load(tmp_path, model=unknown_operator))
