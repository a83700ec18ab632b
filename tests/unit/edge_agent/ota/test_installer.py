"""Releases from the repository to the slot: the good run, the bad are refused with their reason, what ran goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from cloud_sync.rollout.publish import Wishes
from edge_agent.ota.gates import try_model
from edge_agent.ota.installer import lacking
from edge_agent.ota.records import Stage
from edge_agent.ota.slots import ATTEMPTS_MAX
from tests.unit.edge_agent.ota.releases import Gateway, large, nan_above, replace_score, slow, write_model
from wire.release import Needs

NEEDS = Needs(("*",), "0.1.0", "1.22", 17, 50.0, 64.0)


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """Release 1, a good one, is committed."""
    gateway = Gateway(tmp_path)
    gateway.publish(write_model(tmp_path / "v1"))
    outcome = gateway.install()
    assert (outcome.release, outcome.reason) == ("toy/1", ""), outcome.text
    gateway.slots.commit("toy")
    return gateway


def test_a_better_release_takes_over(gateway: Gateway, tmp_path: Path) -> None:
    gateway.publish(write_model(tmp_path / "v2", 2))
    assert gateway.install().reason == ""
    record = gateway.slots.record("toy")
    assert (gateway.active(), record.stage) == ("2", Stage.PROBATION)
    assert record.previous is not None
    assert record.previous.counter == 1
    gateway.slots.commit("toy")
    assert [(event.release, event.stage.value) for event in gateway.slots.record("toy").events[-5:]] == [
        ("toy/2", "downloaded"),
        ("toy/2", "tested"),
        ("toy/2", "staged"),
        ("toy/2", "probation"),
        ("toy/2", "committed"),
    ]
    assert gateway.install().reason == "active"


def loop_forever(model: ModelProto) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["again"], ["more"])],
        "body",
        [
            helper.make_tensor_value_info("trip", TensorProto.INT64, []),
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("more", TensorProto.BOOL, [])],
    )
    model.graph.initializer.append(helper.make_tensor("trips", TensorProto.INT64, [], [1 << 62]))
    model.graph.node.append(helper.make_node("Loop", ["trips", ""], [], body=body))


def bomb(model: ModelProto) -> None:
    """60 GB of ones, made in each run."""
    model.graph.initializer.append(helper.make_tensor("many", TensorProto.INT64, [1], [15_000_000_000]))
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [0.0])
    replace_score(
        model,
        helper.make_node("ConstantOfShape", ["many"], ["ones"], value=one),
        helper.make_node("ReduceMax", ["ones"], ["most"], keepdims=0),
        helper.make_node("Add", ["raw", "most"], ["score"]),
    )


def external(model: ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")


def custom(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.node.append(helper.make_node("Run", ["x"], ["unused"], domain="com.example"))


def constant(model: ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("zeros", TensorProto.FLOAT, [], [0.0]))
    replace_score(model, helper.make_node("Mul", ["raw", "zeros"], ["score"]))


BAD: dict[str, tuple[Callable[[ModelProto], None], str]] = {
    "row 21 NaN in golden vectors": (lambda model: nan_above(model, 1.0), "golden"),
    "row 21 NaN on one region of inputs": (lambda model: nan_above(model, 1e6), "invariants"),
    "row 21 constant output": (constant, "golden"),
    "row 22 too slow": (lambda model: slow(model, 500), "latency"),
    "row 22 endless loop": (loop_forever, "contract"),
    "row 23 memory bomb": (bomb, "golden"),
    "row 24 external data": (external, "contract"),
    "row 25 custom domain": (custom, "contract"),
}


@pytest.mark.parametrize("case", BAD)
def test_row_21_to_25_a_bad_release_is_refused_and_what_ran_goes_on(
    gateway: Gateway, tmp_path: Path, case: str
) -> None:
    edit, reason = BAD[case]
    gateway.publish(write_model(tmp_path / "v2", 2, edit=edit), Wishes(p95_ms=1.0))
    outcome = gateway.install()
    assert outcome.reason == reason, outcome.text
    assert gateway.active() == "1"
    record = gateway.slots.record("toy")
    assert list(record.quarantine.values()) == [reason]
    assert (record.events[-1].stage, record.events[-1].reason) == (Stage.REFUSED, reason)
    assert len(list((gateway.state / "ota/releases").iterdir())) == 1
    assert gateway.install().reason == "quarantined"
    gateway.publish(write_model(tmp_path / "v3", 3))
    assert gateway.install().reason == ""
    assert gateway.active() == "3"


def test_row_22_a_trial_that_never_ends_is_killed(tmp_path: Path) -> None:
    folder = write_model(tmp_path, edit=lambda model: slow(model, 4000))
    verdict = try_model(folder, NEEDS, wall_s=3.0)
    assert verdict.reason == "timeout"


def test_row_23_memory_is_held_to_its_budget(tmp_path: Path) -> None:
    folder = write_model(tmp_path, edit=lambda model: large(model, 1500))
    verdict = try_model(folder, Needs(("*",), "0.1.0", "1.22", 17, 5000.0, 1.0))
    assert verdict.reason == "memory"
    assert 1 < verdict.memory_mib < 64


@pytest.mark.parametrize(
    ("wishes", "word"),
    [
        (Wishes(hardware=("riscv64",)), "riscv64"),
        (Wishes(agent_min="99.0"), "edge-agent 99.0"),
        (Wishes(runtime_min="99.0"), "onnxruntime 99.0"),
    ],
)
def test_row_14_what_does_not_fit_is_refused_before_a_byte_is_downloaded(
    gateway: Gateway, tmp_path: Path, wishes: Wishes, word: str
) -> None:
    release = gateway.publish(write_model(tmp_path / "v2", 2), wishes)
    outcome = gateway.install()
    assert outcome.reason == "incompatible"
    assert word in outcome.text
    assert not gateway.slots.document(gateway.client().find(release.target).hashes["sha256"]).exists()
    assert gateway.active() == "1"


def test_row_14_another_opset() -> None:
    assert "opset 18" in lacking(Needs(("*",), "0.1.0", "1.22", 18, 50.0, 64.0))
    assert lacking(NEEDS) == ""


def test_row_16_a_set_is_whole_or_not_there(gateway: Gateway, tmp_path: Path) -> None:
    """A file is missing on the server: nothing of the release runs; once it is there, the next try succeeds."""
    release = gateway.publish(write_model(tmp_path / "v2", 2))
    key = next(key for key in gateway.store.list("ota/targets/models/toy/2/") if key.endswith("golden.npz"))
    data = gateway.store.get(key)
    gateway.store.delete(key)
    assert gateway.install().reason == "missing"
    assert gateway.active() == "1"
    gateway.store.put(key, data)
    outcome = gateway.install()
    assert (outcome.release, outcome.reason) == (release.name, "")


def test_row_16_parts_of_two_releases_are_not_mixed(gateway: Gateway, tmp_path: Path) -> None:
    """Signed by the team itself, by mistake: the document names another file than the role does."""
    gateway.publish(write_model(tmp_path / "v2", 2))
    metadata = gateway.repository.targets("toy")
    targets = metadata.signed.targets
    old = targets["models/toy/1/golden.npz"]
    mixed = targets["models/toy/2/model.onnx"]
    mixed.hashes, mixed.length = old.hashes, old.length
    metadata.signed.version += 1
    metadata.signatures.clear()
    for signer in gateway.team.signers:
        metadata.sign(signer, append=True)
    gateway.repository.write("toy", metadata)
    gateway.roles.tick()
    assert gateway.install().reason == "target_mismatch"
    assert gateway.active() == "1"


def test_row_20_a_release_that_keeps_the_agent_from_running_goes_back(gateway: Gateway, tmp_path: Path) -> None:
    gateway.publish(write_model(tmp_path / "v2", 2))
    gateway.install()
    for _ in range(ATTEMPTS_MAX):
        assert gateway.slots.begin() == []
        assert gateway.active() == "2"
    told = gateway.slots.begin()
    assert told == ["toy: 3 starts and no 600 s of good work; back to toy/1"]
    assert gateway.active() == "1"
    assert gateway.slots.record("toy").events[-1].reason == "crash_loop"
    assert gateway.slots.begin() == []
    assert gateway.install().reason == "quarantined"


def test_row_26_a_damaged_previous_is_not_gone_back_to(gateway: Gateway, tmp_path: Path) -> None:
    gateway.publish(write_model(tmp_path / "v2", 2))
    gateway.install()
    previous = gateway.slots.record("toy").previous
    assert previous is not None
    (gateway.slots.place("toy", previous.sha256, 1) / "model.onnx").write_bytes(b"damaged")
    assert gateway.slots.roll_back("toy", "asked") is None
    assert gateway.active() == "factory"


def test_row_26_damaged_active_files_go_back_at_the_next_start(gateway: Gateway, tmp_path: Path) -> None:
    gateway.publish(write_model(tmp_path / "v2", 2))
    gateway.install()
    gateway.slots.commit("toy")
    active = gateway.slots.record("toy").active
    assert active is not None
    (gateway.slots.place("toy", active.sha256, 2) / "golden.npz").unlink()
    assert "back to toy/1" in gateway.slots.begin()[0]
    assert gateway.active() == "1"


def test_row_27_two_installers_at_once(gateway: Gateway, tmp_path: Path) -> None:
    gateway.publish(write_model(tmp_path / "v2", 2))
    with gateway.slots.changing(), pytest.raises(Exception, match="in use by process"):
        gateway.install()
    assert gateway.install().reason == ""


def test_a_gateway_never_goes_back_by_itself(gateway: Gateway, tmp_path: Path) -> None:
    for version in (2, 3):
        gateway.publish(write_model(tmp_path / f"v{version}", version))
    gateway.install()
    gateway.slots.commit("toy")
    metadata = gateway.repository.targets("toy")
    for name in [name for name in metadata.signed.targets if "/3/" in name]:
        del metadata.signed.targets[name]
    metadata.signed.version += 1
    metadata.signatures.clear()
    for signer in gateway.team.signers:
        metadata.sign(signer, append=True)
    gateway.repository.write("toy", metadata)
    gateway.roles.tick()
    assert gateway.install().reason == "older"
    assert gateway.active() == "3"


def test_golden_vectors_that_are_not_the_model_s(gateway: Gateway, tmp_path: Path) -> None:
    wrong = {"score": np.zeros((80, 2, 1), np.float32)}
    gateway.publish(write_model(tmp_path / "v2", 2, vectors=wrong))
    assert gateway.install().reason == "golden"
    assert gateway.active() == "1"
