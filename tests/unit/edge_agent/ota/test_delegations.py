"""Delegations: the order in which roles are asked, names that are no file names, and bounds (row 13)."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.ota.client import Limits
from edge_agent.ota.errors import MetadataRejected, OtaError, TargetUnknown
from tests.unit.edge_agent.ota.parts import Device
from tests.unit.edge_agent.ota.repository import Repository, quoted

# (delegations as (parent, child, paths, terminating), roles in the order in which they are asked)
GRAPHS: dict[str, tuple[list[tuple[str, str, str, bool]], list[str]]] = {
    "one": ([("targets", "A", "*", False)], ["A"]),
    "two": ([("targets", "A", "*", False), ("targets", "B", "*", False)], ["A", "B"]),
    "deep first": (
        [("targets", "A", "*", False), ("targets", "B", "*", False), ("A", "C", "*", False), ("A", "D", "*", False)],
        ["A", "C", "D", "B"],
    ),
    "terminating": (
        [("targets", "A", "*", False), ("targets", "B", "*", False), ("A", "C", "*", True), ("A", "D", "*", False)],
        ["A", "C"],
    ),
    "below terminating": (
        [("targets", "A", "*", False), ("targets", "B", "*", False), ("A", "C", "*", True), ("C", "D", "*", False)],
        ["A", "C", "D"],
    ),
    "paths": (
        [("targets", "A", "*.py", False), ("targets", "B", "*", False), ("A", "C", "*", False)],
        ["B"],
    ),
    "cycle": (
        [("targets", "A", "*", False), ("targets", "B", "*", False), ("B", "C", "*", False), ("C", "D", "*", False),
         ("D", "B", "*", False)],
        ["A", "B", "C", "D"],
    ),
    "diamond": (
        [("targets", "A", "*", False), ("targets", "B", "*", False), ("B", "C", "*", False), ("A", "C", "*", False)],
        ["A", "C", "B"],
    ),
    "diamond by paths": (
        [("targets", "A", "*", False), ("targets", "B", "*", False), ("B", "C", "*", False), ("A", "C", "*.py", False)],
        ["A", "B", "C"],
    ),
}  # fmt: skip


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
def test_row_13_roles_are_asked_in_order(
    tmp_path: Path, repository: Repository, graph: tuple[list[tuple[str, str, str, bool]], list[str]]
) -> None:
    delegations, order = graph
    for parent, child, paths, terminating in delegations:
        repository.delegate(child, parent, paths=(paths,), terminating=terminating)
    repository.publish("targets")
    device = Device(tmp_path, repository)
    with pytest.raises(TargetUnknown):
        device.client().find("missing")
    assert repository.roles_asked()[4:] == order
    with pytest.raises(TargetUnknown):
        device.client().find("missing")
    assert repository.roles_asked() == ["root", "timestamp"]  # all of it is here, and still good


def test_row_13_no_more_roles_than_the_limit(tmp_path: Path, repository: Repository) -> None:
    parent = "targets"
    for number in range(40):
        repository.delegate(f"r{number}", parent)
        parent = f"r{number}"
    repository.add_target("deep", b"x", parent)
    repository.publish("targets")
    device = Device(tmp_path, repository)
    with pytest.raises(TargetUnknown):
        device.client().find("deep")
    assert len(repository.roles_asked()[4:]) == Limits().delegations
    assert device.client(limits=Limits(delegations=41)).find("deep").length == 1


def test_the_first_role_that_names_a_target_wins(tmp_path: Path, repository: Repository) -> None:
    repository.delegate("team", paths=("models/*",), terminating=True)
    repository.delegate("others")
    repository.add_target("models/a", b"from others", "others")
    repository.publish("targets")
    device = Device(tmp_path, repository)
    with pytest.raises(TargetUnknown):
        device.client().find("models/a")
    repository.add_target("models/a", b"from the team", "team")
    repository.publish("team")
    assert device.client().find("models/a").length == len(b"from the team")


def test_a_role_that_the_delegator_does_not_trust(tmp_path: Path, repository: Repository) -> None:
    """Under A the child has A's keys for it; the same file under B must be signed by B's."""
    repository.delegate("A")
    repository.delegate("C", "A", threshold=2)
    repository.publish("targets")
    device = Device(tmp_path, repository)
    with pytest.raises(MetadataRejected, match="C is signed by 1 of 2"):
        device.client().find("x")
    assert not (device.metadata / "C.json").exists()


def test_a_delegated_role_that_the_snapshot_lacks(tmp_path: Path, repository: Repository) -> None:
    repository.delegate("A")
    repository.publish("targets")
    del repository.snapshot.meta["A.json"]
    device = Device(tmp_path, repository)
    with pytest.raises(MetadataRejected) as caught:
        device.client().find("x")
    assert caught.value.reason == "mismatch"


@pytest.mark.parametrize("bits", [1, 5])
def test_hash_bins(tmp_path: Path, repository: Repository, bits: int) -> None:
    repository.delegate_bins(bits, "bin")
    assert repository.targets.delegations is not None
    bins = repository.targets.delegations.succinct_roles
    assert bins is not None
    names = [f"models/m{number}" for number in range(20)]
    for name in names:
        repository.add_target(name, name.encode(), bins.get_role_for_target(name))
    repository.publish("targets")
    device = Device(tmp_path, repository)
    for name in names:
        repository.roles_asked()
        device.client().download(name, device.store / name.replace("/", "-"))
        assert set(repository.roles_asked()[2:]) <= {"snapshot", "targets", bins.get_role_for_target(name)}
        assert (device.store / name.replace("/", "-")).read_bytes() == name.encode()


# Row 12: names


@pytest.mark.parametrize("role", ["?", "#", "/child", "../child", "..", ".", "a/../../b", "%2e%2e", "ünïcode", "a b"])
def test_row_12_unusual_role_names_stay_in_the_folder(tmp_path: Path, repository: Repository, role: str) -> None:
    repository.delegate(role)
    repository.publish("targets")
    device = Device(tmp_path, repository)
    with pytest.raises(TargetUnknown):
        device.client().find("missing")
    assert f"metadata/1.{quoted(role)}" in repository.requests
    assert (device.metadata / quoted(role)).is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"metadata"}


@pytest.mark.parametrize("role", ["x" * 4096, "nul\0nul"])
def test_row_12_names_that_no_file_can_have_are_refused(tmp_path: Path, repository: Repository, role: str) -> None:
    repository.delegate(role)
    repository.publish("targets")
    device = Device(tmp_path, repository)
    with pytest.raises(OtaError):
        device.client().find("missing")
    device.refresh()


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "%2e%2e/x", "a/../../x", "nul\0x", "x" * 4096, "?a=b", "a#b", "a b/ü", "dir/.hidden"]
)
def test_row_12_target_names_decide_nothing_here(tmp_path: Path, repository: Repository, name: str) -> None:
    """The caller says where a target goes; its name is only looked up and quoted for the server."""
    repository.add_target(name, b"data")
    repository.publish("targets")
    device = Device(tmp_path, repository)
    device.client().download(name, device.store / "here")
    assert (device.store / "here").read_bytes() == b"data"
    assert [path.name for path in device.store.iterdir()] == ["here"]
    assert {path.name for path in tmp_path.iterdir()} == {"metadata", "store"}
    assert not set("?#\0 ") & set(repository.requests[-1])


def test_row_12_a_link_in_the_cache_is_replaced_not_followed(tmp_path: Path, repository: Repository) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    device = Device(tmp_path, repository)
    (device.metadata / "timestamp.json").symlink_to(victim)
    device.store.mkdir()
    (device.store / "here").symlink_to(victim)
    repository.add_target("a", b"data")
    repository.publish("targets")
    device.client().download("a", device.store / "here")
    assert victim.read_bytes() == b"precious"
    assert not (device.store / "here").is_symlink()
    assert not (device.metadata / "timestamp.json").is_symlink()
