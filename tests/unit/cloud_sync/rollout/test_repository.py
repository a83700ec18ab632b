"""The repository of releases: made by offline keys, kept by the service's, believed by a gateway."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from cloud_sync.errors import KeyUnusable, RepositoryUnusable
from cloud_sync.rollout.ceremony import Quorum
from cloud_sync.rollout.online import ROLES, OnlineRoles
from cloud_sync.rollout.publish import Wishes, read_model, release_of
from cloud_sync.rollout.verify import problems
from edge_agent.ota.errors import MetadataRejected, TargetUnknown
from tests.unit.cloud_sync.rollout.parts import Fleet, quorum
from wire.release import ReleaseInvalid, read_needs, read_release


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def test_a_gateway_gets_a_release_as_a_set(fleet: Fleet, tmp_path: Path) -> None:
    pushed = fleet.push(Wishes(hardware=("aarch64", "x86_64"), p95_ms=2.5))
    with pytest.raises(TargetUnknown):
        fleet.client().find(pushed.target)
    fleet.roles.tick()
    client = fleet.client()
    entry = client.find(pushed.target)
    assert read_needs(entry.custom)[4] == pushed.needs
    client.download(pushed.target, tmp_path / "release.json")
    release = read_release(entry.custom, (tmp_path / "release.json").read_bytes())
    assert release == pushed
    for name, ref in release.files.items():
        client.download(release.file_target(name), tmp_path / name)
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == ref.sha256
        assert (tmp_path / name).read_bytes() == (fleet.model / name).read_bytes()


def test_counters_grow_by_one(fleet: Fleet) -> None:
    assert [fleet.push().counter for _ in range(3)] == [1, 2, 3]
    release, files = read_model(fleet.model, 3, Wishes())
    with pytest.raises(RepositoryUnusable, match="toy/3 is not the next release, 4 is"):
        fleet.ceremony.release(release, files, fleet.team.signers, lambda _: None)
    assert release_of(fleet.repository, "toy", 2).counter == 2
    with pytest.raises(RepositoryUnusable, match="no release toy/9"):
        release_of(fleet.repository, "toy", 9)


def test_a_release_needs_a_threshold_of_its_family(fleet: Fleet) -> None:
    release, files = read_model(fleet.model, 1, Wishes())
    for signers in (fleet.team.signers[:1], [fleet.team.signers[0], *fleet.root.signers]):
        with pytest.raises(KeyUnusable, match="2 of the 3 keys of toy must sign"):
            fleet.ceremony.release(release, files, signers, lambda _: None)
    assert list(fleet.store.list("ota/targets/")) == []


def test_what_the_family_did_not_sign_never_reaches_a_snapshot(fleet: Fleet) -> None:
    """Whoever can write to the store, the service included, can publish nothing."""
    good = fleet.push()
    fleet.roles.tick()
    forged = fleet.repository.targets("toy")
    forged.signed.version += 1
    forged.signed.targets.clear()
    forged.signatures.clear()
    for signer in fleet.online.values():
        forged.sign(signer, append=True)
    fleet.repository.write("toy", forged)
    done = fleet.roles.tick()
    assert (done.snapshot, done.refused) == (0, {"toy": "3.toy.json is not signed by a threshold of its keys"})
    fleet.client().find(good.target)


def test_online_roles_are_signed_again_in_time(fleet: Fleet) -> None:
    before = fleet.repository.timestamp().signed
    assert fleet.roles.tick().timestamp == 0
    fleet.later(hours=13)
    assert (fleet.roles.tick().snapshot, fleet.roles.tick().timestamp) == (0, 0)
    assert fleet.repository.timestamp().signed.version == before.version + 1
    fleet.later(days=4)
    assert fleet.roles.tick().snapshot == 2
    fleet.client().refresh()
    for _ in range(40):
        fleet.later(days=4)
        fleet.roles.tick()
        fleet.client().refresh()
    snapshots = [key for key in fleet.store.list("ota/metadata/") if key.endswith(".snapshot.json")]
    assert len(snapshots) <= 9


def test_a_service_whose_clock_went_back_signs_nothing(fleet: Fleet) -> None:
    fleet.later(days=-2)
    fleet.push()
    with pytest.raises(RepositoryUnusable, match="the time of this machine"):
        fleet.roles.tick()


def test_a_service_with_foreign_keys_signs_nothing(fleet: Fleet) -> None:
    foreign = {role: CryptoSigner.generate_ed25519() for role in ROLES}
    with pytest.raises(KeyUnusable, match="edge-ota key rotate snapshot"):
        OnlineRoles(fleet.repository, foreign, fleet.clock, fleet.noted.append).tick()


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp", "toy"])
def test_keys_are_rotated_and_gateways_follow(fleet: Fleet, role: str) -> None:
    first = fleet.push()
    fleet.roles.tick()
    fleet.client().refresh()
    if role == "toy":
        fleet.team = quorum()
        fleet.ceremony.add_family("toy", fleet.team, fleet.targets.signers)
    elif role in ROLES:
        fleet.online[role] = CryptoSigner.generate_ed25519()
        fleet.ceremony.rotate(role, Quorum([fleet.online[role]], 1), fleet.root.signers)
    else:
        fresh = quorum()
        fleet.ceremony.rotate(role, fresh, fleet.root.signers)
        setattr(fleet, role, fresh)
    fleet.roles.tick()
    second = fleet.push()
    fleet.ceremony.add_family("another", quorum(), fleet.targets.signers)
    fleet.roles.tick()
    client = fleet.client()
    assert client.find(first.target).custom["release_counter"] == 1
    assert client.find(second.target).custom["release_counter"] == 2
    assert list(problems(fleet.repository, fleet.repository.root(), fleet.clock.now)) == []


def test_a_root_without_its_old_keys_is_not_stored(fleet: Fleet) -> None:
    with pytest.raises(KeyUnusable, match="2 of the root's keys must sign"):
        fleet.ceremony.rotate("root", quorum(), fleet.root.signers[:1])
    assert fleet.repository.versions()["root"] == 1


def test_only_once(fleet: Fleet) -> None:
    with pytest.raises(RepositoryUnusable, match="already"):
        fleet.ceremony.begin(fleet.root, fleet.targets, fleet.online)
    with pytest.raises(RepositoryUnusable, match="somebody else signed it"):
        fleet.repository.write("root", fleet.repository.root())


@pytest.mark.parametrize("name", ["", "A", "root", "targets", "../x", "a/b", "a" * 65, "a_b"])
def test_family_names(fleet: Fleet, name: str) -> None:
    with pytest.raises(ReleaseInvalid, match="family"):
        fleet.ceremony.add_family(name, quorum(), fleet.targets.signers)


def test_one_family_cannot_sign_for_another(fleet: Fleet) -> None:
    """A stolen key of one team names a target of the other's folder: no gateway follows."""
    thieves = quorum()
    fleet.ceremony.add_family("zzz", thieves, fleet.targets.signers)
    fleet.push()
    stolen = fleet.repository.targets("zzz")
    stolen.signed.version += 1
    entry = fleet.repository.targets("toy").signed.targets["models/toy/1/release.json"]
    entry.path = "models/toy/2/release.json"
    stolen.signed.targets[entry.path] = entry
    stolen.signatures.clear()
    for signer in thieves.signers:
        stolen.sign(signer, append=True)
    fleet.repository.write("zzz", stolen)
    fleet.roles.tick()
    with pytest.raises(TargetUnknown):
        fleet.client().find("models/toy/2/release.json")


def test_a_stolen_online_key_cannot_bring_back_an_old_release(fleet: Fleet) -> None:
    fleet.push()
    fleet.push()
    fleet.roles.tick()
    fleet.client().refresh()
    snapshot, timestamp = fleet.repository.snapshot(), fleet.repository.timestamp()
    snapshot.signed.meta["toy.json"].version = 2
    snapshot.signed.version += 1
    timestamp.signed.version += 1
    timestamp.signed.snapshot_meta.version += 1
    snapshot.sign(fleet.online["snapshot"])
    timestamp.sign(fleet.online["timestamp"])
    fleet.repository.write("snapshot", snapshot)
    fleet.repository.write("timestamp", timestamp)
    with pytest.raises(MetadataRejected) as caught:
        fleet.client().refresh()
    assert caught.value.reason == "rollback"


def test_verify_finds_what_is_wrong(fleet: Fleet, tmp_path: Path) -> None:
    release = fleet.push()
    fleet.roles.tick()
    root = fleet.repository.root()
    assert list(problems(fleet.repository, root, fleet.clock.now)) == []
    key = next(key for key in fleet.store.list("ota/targets/") if key.endswith("model.onnx"))
    data = fleet.store.get(key)
    fleet.store.put(key, data[:-1] + bytes([data[-1] ^ 1]))
    assert [line.split(":")[0] for line in problems(fleet.repository, root, fleet.clock.now)] == [
        f"{release.file_target('model.onnx')} is damaged"
    ]
    fleet.store.delete(key)
    assert "missing in the store" in next(iter(problems(fleet.repository, root, fleet.clock.now)))
    fleet.store.put(key, data)
    fleet.later(days=2)
    assert [line.split(" expired")[0] for line in problems(fleet.repository, root, fleet.clock.now)] == [
        f"timestamp {fleet.repository.timestamp().signed.version}"
    ]
    foreign = Fleet(tmp_path / "foreign").repository.root()
    assert "is not signed" in next(iter(problems(fleet.repository, foreign, fleet.clock.now)))
