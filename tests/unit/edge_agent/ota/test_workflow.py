"""The TUF client workflow, against a repository that breaks one rule at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Key, Targets

from edge_agent.ota.client import Limits
from edge_agent.ota.errors import FetchFailed, MetadataRejected, OtaError
from edge_agent.ota.trust import SIGNED_AT
from tests.unit.edge_agent.ota.parts import Device
from tests.unit.edge_agent.ota.repository import NOW, Repository


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.fixture
def device(tmp_path: Path, repository: Repository) -> Device:
    return Device(tmp_path, repository)


def refused(device: Device, reason: str) -> None:
    """A refresh fails for this reason, and nothing that is trusted has changed but what came before the bad step."""
    with pytest.raises(OtaError) as caught:
        device.refresh()
    assert caught.value.reason == reason, caught.value


def test_a_first_refresh_asks_for_each_role_once(device: Device, repository: Repository) -> None:
    device.refresh()
    assert repository.requests == [
        "metadata/2.root.json",
        "metadata/timestamp.json",
        "metadata/1.snapshot.json",
        "metadata/1.targets.json",
    ]
    assert device.versions() == (1, 1, 1, 1)


def test_a_second_refresh_takes_only_the_timestamp(device: Device, repository: Repository) -> None:
    device.refresh()
    repository.requests.clear()
    device.refresh()
    assert repository.requests == ["metadata/2.root.json", "metadata/timestamp.json"]


def test_without_consistent_snapshots_names_have_no_version(tmp_path: Path) -> None:
    repository = Repository(consistent=False)
    repository.add_target("a/b.bin", b"data")
    repository.publish("targets")
    device = Device(tmp_path, repository)
    device.client().download("a/b.bin", device.store / "b")
    assert repository.requests == [
        "metadata/2.root.json",
        "metadata/timestamp.json",
        "metadata/snapshot.json",
        "metadata/targets.json",
        "targets/a/b.bin",
    ]


@pytest.mark.parametrize("damage", ["unsigned", "no_version", "no_json", "not_a_root"])
def test_a_bad_first_root_is_refused_and_nothing_is_asked(tmp_path: Path, repository: Repository, damage: str) -> None:
    told = json.loads(repository.roots[0])
    if damage == "unsigned":
        told["signatures"][0]["sig"] = "00" * 64
    elif damage == "no_version":
        del told["signed"]["version"]
    root = {
        "no_json": b"{" * 100_000,
        "not_a_root": repository.signed("targets", repository.targets),
    }.get(damage, json.dumps(told).encode())
    device = Device(tmp_path, repository, init=False)
    with pytest.raises(MetadataRejected):
        device.client().init(root)
    refused(device, "no_root")
    assert repository.requests == []


def test_init_keeps_a_newer_root_and_heals_a_damaged_one(device: Device, repository: Repository) -> None:
    repository.publish_root()
    device.refresh()
    assert device.version("root") == 2
    device.client().init(repository.roots[0])
    assert device.version("root") == 2
    (device.metadata / "root.json").write_bytes(b"\0" * 100)
    refused(device, "malformed")
    device.client().init(repository.roots[0])
    device.refresh()
    assert device.version("root") == 2


# Row 1: signatures


def test_row_01_unsigned_metadata_is_refused(device: Device, repository: Repository) -> None:
    device.refresh()
    for role in ("timestamp", "snapshot", "targets"):
        signers, repository.signers[role] = repository.signers[role], [CryptoSigner.generate_ed25519()]
        repository.publish("targets")
        refused(device, "signature")
        repository.signers[role] = signers
        repository.publish("targets")
        device.refresh()


def test_row_01_a_threshold_must_be_reached(device: Device, repository: Repository) -> None:
    device.refresh()
    for _ in range(4):
        repository.add_key("snapshot")
    repository.root.roles["snapshot"].threshold = 6
    repository.publish_root()
    repository.publish()
    refused(device, "signature")
    assert device.versions() == (2, 2, 1, 1)
    repository.root.roles["snapshot"].threshold = 5
    repository.publish_root()
    device.refresh()
    assert device.versions() == (3, 2, 2, 1)


def test_row_01_one_key_under_many_ids_counts_once(device: Device, repository: Repository) -> None:
    signer = repository.signers["snapshot"][0]
    public = signer.public_key
    for number in range(5):
        alias = Key.from_dict(f"{number:064x}", public.to_dict())
        repository.root.add_key(alias, "snapshot")
        assert isinstance(signer, CryptoSigner)
        repository.signers["snapshot"].append(CryptoSigner(signer._private_key, alias))  # type: ignore[arg-type]
    repository.root.roles["snapshot"].threshold = 3
    repository.publish_root()
    repository.publish()
    refused(device, "signature")
    assert len(json.loads(repository.signed("snapshot", repository.snapshot))["signatures"]) == 6


def test_row_01_one_signature_twice_is_malformed(device: Device, repository: Repository) -> None:
    told = json.loads(repository.signed("timestamp", repository.timestamp))
    told["signatures"] *= 2
    repository.served["metadata/timestamp.json"] = json.dumps(told).encode()
    refused(device, "malformed")
    assert device.versions() == (1, 0, 0, 0)


def test_row_01_a_key_of_the_root_but_not_of_the_role_does_not_count(device: Device, repository: Repository) -> None:
    repository.root.roles["snapshot"].threshold = 2
    repository.signers["snapshot"].append(repository.signers["targets"][0])
    repository.publish_root()
    repository.publish()
    refused(device, "signature")


@pytest.mark.parametrize(
    "make", [CryptoSigner.generate_ed25519, CryptoSigner.generate_ecdsa, CryptoSigner.generate_rsa]
)
def test_key_types(device: Device, repository: Repository, make: Callable[[], CryptoSigner]) -> None:
    for role in ("timestamp", "snapshot", "targets"):
        repository.rotate(role, make())
    repository.publish_root()
    repository.publish("targets")
    device.refresh()
    told = json.loads(repository.signed("timestamp", repository.timestamp))
    sig = told["signatures"][0]["sig"]
    told["signatures"][0]["sig"] = sig[:-2] + f"{int(sig[-2:], 16) ^ 1:02x}"
    repository.publish()
    repository.served["metadata/timestamp.json"] = json.dumps(told).encode()
    refused(device, "signature")


# Row 2: roots


@dataclass
class RootVersion:
    """Keys and signatures by number; `good`: whether a client takes it."""

    keys: list[int]
    threshold: int
    signatures: list[int]
    good: bool = True


ROTATIONS = {
    "one key": [RootVersion([1], 1, [1]), RootVersion([2], 1, [2, 1]), RootVersion([2], 1, [2])],
    "unused signatures": [RootVersion([1], 1, [3, 1]), RootVersion([2], 1, [3, 2, 1])],
    "three of five": [RootVersion([0, 1, 2, 3, 4], 3, [0, 2, 4]), RootVersion([0, 1, 2, 3, 4], 3, [0, 1, 3])],
    "all keys": [RootVersion([0, 1, 2], 2, [0, 1]), RootVersion([5, 6, 7], 2, [0, 2, 5, 7])],
    "threshold up": [RootVersion([1, 2], 1, [1]), RootVersion([1, 2], 2, [1, 2])],
    "threshold down": [RootVersion([1, 2], 2, [1, 2]), RootVersion([1, 2], 1, [1, 2]), RootVersion([1, 2], 1, [1])],
    "not the old key": [RootVersion([1], 1, [1]), RootVersion([2], 1, [2, 3], good=False)],
    "not the new key": [RootVersion([1], 1, [1]), RootVersion([2], 1, [1, 3], good=False)],
    "old threshold": [RootVersion([1, 2], 2, [1, 2]), RootVersion([1, 2], 1, [1], good=False)],
    "new threshold": [RootVersion([1, 2, 3], 1, [1]), RootVersion([1, 2, 3], 2, [2], good=False)],
}


@pytest.mark.parametrize("versions", ROTATIONS.values(), ids=ROTATIONS.keys())
def test_row_02_root_rotation(tmp_path: Path, versions: list[RootVersion]) -> None:
    signers = [CryptoSigner.generate_ed25519() for _ in range(8)]
    repository = Repository()
    repository.roots.clear()
    for version in versions:
        repository.root.roles["root"].keyids.clear()
        repository.root.roles["root"].threshold = version.threshold
        for number in version.keys:
            repository.root.add_key(signers[number].public_key, "root")
        repository.signers["root"] = [signers[number] for number in version.signatures]
        repository.publish_root()
    device = Device(tmp_path, repository)
    if versions[-1].good:
        device.refresh()
    else:
        refused(device, "signature")
    last = repository.roots[-1 if versions[-1].good else -2]
    assert (device.metadata / "root.json").read_bytes() == last


def test_row_02_a_root_must_not_skip_or_repeat_a_version(device: Device, repository: Repository) -> None:
    for version in (3, 1):
        repository.roots = repository.roots[:1]
        repository.publish_root(version=version)
        refused(device, "rollback")
    assert device.versions() == (1, 0, 0, 0)


def test_row_02_rotations_are_capped_and_go_on_the_next_time(device: Device, repository: Repository) -> None:
    for _ in range(300):
        repository.publish_root()
    device.refresh()
    assert device.version("root") == 257
    device.refresh()
    assert device.version("root") == 301


def test_row_02_an_expired_root_between_is_passed_and_at_the_end_refused(
    device: Device, repository: Repository
) -> None:
    good, repository.root.expires = repository.root.expires, NOW - timedelta(days=1)
    repository.publish_root()
    refused(device, "expired")
    assert device.versions() == (2, 0, 0, 0)
    assert "metadata/timestamp.json" not in repository.requests
    repository.root.expires = good
    repository.publish_root()
    device.refresh()
    assert device.versions() == (3, 1, 1, 1)


# Row 3: rollback


def test_row_03_timestamp_rollback(device: Device, repository: Repository) -> None:
    repository.publish()
    device.refresh()
    repository.timestamp.version -= 1
    refused(device, "rollback")
    assert device.versions() == (1, 2, 2, 1)


@pytest.mark.parametrize("hashes", [False, True])
def test_row_03_snapshot_rollback(device: Device, repository: Repository, hashes: bool) -> None:
    repository.hashes = hashes
    repository.publish()
    device.refresh()
    repository.snapshot.version = 1
    repository.publish_timestamp()
    refused(device, "rollback")
    assert device.versions() == (1, 2, 2, 1)


@pytest.mark.parametrize("hashes", [False, True])
def test_row_03_targets_rollback(device: Device, repository: Repository, hashes: bool) -> None:
    repository.hashes = hashes
    repository.publish("targets")
    device.refresh()
    repository.targets.version = 1
    repository.publish()
    refused(device, "rollback")
    assert device.version("targets") == 2
    assert device.version("snapshot") == 2


def test_row_03_a_role_must_not_vanish_from_the_snapshot(device: Device, repository: Repository) -> None:
    repository.delegate("child")
    repository.publish("targets")
    device.refresh()
    del repository.delegated["child"]
    repository.publish()
    refused(device, "rollback")
    assert device.version("snapshot") == 2


def test_row_03_the_timestamp_of_a_known_version_is_not_replaced(device: Device, repository: Repository) -> None:
    device.refresh()
    before = (device.metadata / "timestamp.json").read_bytes()
    repository.timestamp.snapshot_meta.version = 100
    device.refresh()
    assert (device.metadata / "timestamp.json").read_bytes() == before


# Row 4: recovery


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_row_04_key_rotation_recovers_from_a_fast_forward(device: Device, repository: Repository, role: str) -> None:
    repository.content(role).version = 99_999
    if role == "snapshot":
        repository.publish_timestamp()
    elif role == "targets":
        repository.publish()
    device.refresh()
    assert device.version(role) == 99_999
    repository.content(role).version = 1
    if role != "timestamp":
        repository.publish() if role == "targets" else repository.publish_timestamp()
    refused(device, "rollback")
    for rotated in {"timestamp": ("timestamp",), "snapshot": ("snapshot", "timestamp"), "targets": ("snapshot",)}[role]:
        repository.rotate(rotated)
    repository.publish_root()
    device.refresh()
    assert device.version(role) == 1


# Row 5: freeze


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_row_05_expired_metadata_is_refused_and_not_stored(device: Device, repository: Repository, role: str) -> None:
    device.refresh()
    good, repository.content(role).expires = repository.content(role).expires, NOW - timedelta(seconds=1)
    repository.publish("targets")
    refused(device, "expired")
    assert device.version(role) == 1
    repository.content(role).expires = good
    repository.publish("targets")
    device.refresh()
    assert device.version(role) == 3


def test_row_05_a_frozen_repository_is_told_when_what_is_stored_expires(device: Device, repository: Repository) -> None:
    device.refresh()
    device.clock.now = NOW + timedelta(days=31)
    refused(device, "expired")


def test_row_05_what_is_stored_and_expired_still_bounds_what_is_new(device: Device, repository: Repository) -> None:
    repository.timestamp.expires = NOW + timedelta(days=7)
    repository.publish("targets")
    device.refresh()
    device.clock.now = NOW + timedelta(days=18)
    repository.timestamp.expires = NOW + timedelta(days=21)
    repository.timestamp.version = 1
    refused(device, "rollback")
    repository.timestamp.version = 3
    device.refresh()
    assert device.versions() == (1, 3, 2, 2)


# Row 6: wrong clocks


def sign_time(repository: Repository, when: Any) -> None:
    repository.timestamp.unrecognized_fields[SIGNED_AT] = when
    repository.timestamp.version += 1


def test_row_06_a_clock_set_back_revives_nothing(device: Device, repository: Repository) -> None:
    sign_time(repository, NOW.isoformat())
    device.refresh()
    repository.timestamp.expires = NOW - timedelta(days=300)
    repository.timestamp.version += 1
    device.clock.now = NOW - timedelta(days=700)
    refused(device, "expired")
    repository.timestamp.expires = NOW + timedelta(days=1)
    repository.timestamp.version += 1
    device.refresh()


def test_row_06_a_clock_far_ahead_stops_updates_and_leaves_no_trace(device: Device, repository: Repository) -> None:
    sign_time(repository, NOW.isoformat())
    device.refresh()
    device.clock.now = NOW.replace(year=2038)
    refused(device, "expired")
    device.clock.now = NOW
    repository.publish()
    device.refresh()


def test_row_06_a_time_signed_far_ahead_goes_with_its_key(device: Device, repository: Repository) -> None:
    repository.timestamp.expires = NOW.replace(year=2090)
    sign_time(repository, NOW.replace(year=2088).isoformat())
    with pytest.raises(MetadataRejected, match="snapshot 1 expired"):
        device.refresh()
    repository.timestamp.expires = NOW + timedelta(days=1)
    sign_time(repository, NOW.isoformat())
    refused(device, "expired")
    repository.rotate("timestamp")
    repository.publish_root()
    device.refresh()


@pytest.mark.parametrize("when", [None, 7, "yesterday", {"a": 1}, "2026-11-20T12:00:00"])
def test_row_06_an_unreadable_time_is_no_floor(device: Device, repository: Repository, when: object) -> None:
    sign_time(repository, when)
    device.refresh()


# Row 7: mix and match


def test_row_07_a_snapshot_that_the_timestamp_does_not_name(device: Device, repository: Repository) -> None:
    repository.snapshot.version += 1
    refused(device, "mismatch")
    assert device.versions() == (1, 1, 0, 0)


def test_row_07_targets_of_another_version_or_content(device: Device, repository: Repository) -> None:
    repository.hashes = True
    repository.publish("targets")
    repository.targets.version += 1
    refused(device, "mismatch")
    repository.targets.version -= 1
    repository.targets.expires += timedelta(days=1)  # as long as before
    refused(device, "mismatch")
    repository.targets.expires -= timedelta(days=1)
    device.refresh()


def test_row_07_a_local_snapshot_that_is_not_the_named_one_is_fetched_anew(
    device: Device, repository: Repository
) -> None:
    repository.hashes = True
    repository.publish()
    device.refresh()
    repository.snapshot.unrecognized_fields["x"] = 1
    (device.metadata / "snapshot.json").write_bytes(repository.signed("snapshot", repository.snapshot))
    del repository.snapshot.unrecognized_fields["x"]
    repository.requests.clear()
    device.refresh()
    assert "metadata/2.snapshot.json" in repository.requests


# Row 8: lengths of metadata


@pytest.mark.parametrize(
    ("file", "limit"),
    [
        ("2.root", "root_bytes"),
        ("timestamp", "timestamp_bytes"),
        ("1.snapshot", "snapshot_bytes"),
        ("1.targets", "targets_bytes"),
    ],
)
def test_row_08_endless_metadata_stops_at_its_limit(
    device: Device, repository: Repository, file: str, limit: str
) -> None:
    most = getattr(Limits(), limit)
    role = file.rpartition(".")[2]
    if role == "root":
        repository.publish_root()
        data = repository.roots.pop()
    else:
        data = repository.signed(role, repository.content(role))
    repository.served[f"metadata/{file}.json"] = data + b" " * (most - len(data) + 1)
    refused(device, "too_long")
    repository.served[f"metadata/{file}.json"] = data + b" " * (most - len(data))
    device.refresh()


def test_row_08_a_signed_length_bounds_what_is_read(device: Device, repository: Repository) -> None:
    repository.hashes = True
    repository.publish("targets")
    repository.served["metadata/2.targets.json"] = repository.signed("targets", repository.targets) + b" "
    refused(device, "too_long")


# Row 11: damage


def test_row_11_one_byte_flipped_anywhere_in_metadata(device: Device, repository: Repository) -> None:
    """A flip inside of what is signed breaks a signature; one in a key id or white space may change nothing at all."""
    repository.publish()
    for name, content in (("timestamp", repository.timestamp), ("2.snapshot", repository.snapshot)):
        data = repository.signed(name.rpartition(".")[2], content)
        signed = json.loads(data)["signed"]
        for position in range(len(data)):
            repository.served[f"metadata/{name}.json"] = (
                data[:position] + bytes([data[position] ^ 0x01]) + data[position + 1 :]
            )
            try:
                device.refresh()
            except (MetadataRejected, FetchFailed):
                continue
            stored = json.loads((device.metadata / f"{name.rpartition('.')[2]}.json").read_bytes())
            assert stored["signed"] == signed, position
            for path in device.metadata.glob("*.json"):
                if path.name != "root.json":
                    path.unlink()
        del repository.served[f"metadata/{name}.json"]
    device.refresh()


# Unknown fields, other trouble


def test_unknown_fields_are_part_of_what_is_signed(device: Device, repository: Repository) -> None:
    repository.root.unrecognized_fields["custom"] = {"a": [1, "b"]}
    keyid = repository.root.roles["root"].keyids[0]
    repository.root.keys[keyid].unrecognized_fields["extra"] = 1
    repository.root.roles["root"].unrecognized_fields["other"] = "x"
    repository.publish_root()
    device.refresh()
    told = json.loads(repository.roots[-1])
    told["signed"]["custom"] = {}
    told["signed"]["version"] = 3
    repository.roots.append(json.dumps(told).encode())
    refused(device, "signature")


def test_a_repository_that_is_down_changes_nothing(device: Device, repository: Repository) -> None:
    device.refresh()
    repository.down = True
    repository.publish()
    refused(device, "unreachable")
    assert device.versions() == (1, 1, 1, 1)
    repository.down = False
    device.refresh()
    assert device.versions() == (1, 2, 2, 1)


def test_files_of_roles_that_are_gone_are_swept(device: Device, repository: Repository) -> None:
    device.refresh()
    for name in ("gone.json", ".snapshot.json.new"):
        (device.metadata / name).write_bytes(b"x")
    device.refresh()
    assert sorted(path.name for path in device.metadata.iterdir()) == [
        "root.json", "snapshot.json", "targets.json", "timestamp.json", "updater.lock",
    ]  # fmt: skip


def test_expired_delegated_roles_are_refused(device: Device, repository: Repository) -> None:
    child: Targets = repository.delegate("child")
    child.expires = NOW - timedelta(days=1)
    repository.publish("targets")
    with pytest.raises(MetadataRejected, match="child 1 expired"):
        device.client().find("anything")
    assert not (device.metadata / "child.json").exists()
