"""From a model's folder to a signed release, and back: what the repository says of a release."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cloud_sync.errors import ObjectMissing, RepositoryUnusable
from cloud_sync.rollout.repository import Repository
from wire.release import FILE_BYTES_MAX, FILES, FileRef, Needs, Release, ReleaseInvalid, read_release, release_target

OPSETS = {1: 17}  # contract of docs/formats/model.md → opset
SCHEMA_KEYS = ("bins", "norm", "params", "sample_interval_s", "sensor_kinds", "units", "window")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the publisher says beside the folder."""

    hardware: tuple[str, ...] = ("*",)
    agent_min: str = "0.1.0"
    runtime_min: str = "1.22"
    p95_ms: float = 50.0
    memory_mib: float = 64.0


def read_model(folder: Path, counter: int, wishes: Wishes) -> tuple[Release, dict[str, bytes]]:
    """A model's folder as the release `counter` of its family.

    Raises:
        ReleaseInvalid: a file is missing or too long, the hashes in model.json are others, or it says not what it must.
    """
    files = {name: _read(folder / name) for name in FILES}
    declared = declared_of(folder)
    for name, key in (("model.onnx", "model_sha256"), ("golden.npz", "golden_sha256")):
        found = hashlib.sha256(files[name]).hexdigest()
        if found != declared.get(key):
            raise ReleaseInvalid(f"{folder / name} has sha256 {found}; model.json says {declared.get(key)}")
    if declared.get("contract") not in OPSETS:
        raise ReleaseInvalid(
            f"model.json: contract {declared.get('contract')!r}; known are {', '.join(map(str, OPSETS))}"
        )
    schema = json.dumps({key: declared.get(key) for key in SCHEMA_KEYS}, sort_keys=True, separators=(",", ":"))
    release = Release(
        str(declared["name"]),
        counter,
        declared["version"],
        hashlib.sha256(schema.encode()).hexdigest(),
        Needs(
            wishes.hardware,
            wishes.agent_min,
            wishes.runtime_min,
            OPSETS[declared["contract"]],
            wishes.p95_ms,
            wishes.memory_mib,
        ),
        {name: FileRef(hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()},
    )
    return read_release(release.custom(), release.document()), files


def declared_of(folder: Path) -> dict[str, Any]:
    """What model.json of a folder says. Raises ReleaseInvalid."""
    try:
        declared = json.loads(_read(folder / "model.json"))
        if not isinstance(declared, dict) or not isinstance(declared["name"], str):
            raise ReleaseInvalid(f"{folder / 'model.json'} has no name")
        if type(declared["version"]) is not int:
            raise ReleaseInvalid(f"{folder / 'model.json'}: version {declared['version']!r} is no whole number")
    except (ValueError, KeyError, RecursionError) as error:
        raise ReleaseInvalid(f"{folder / 'model.json'}: {type(error).__name__} {error}") from error
    return declared


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ReleaseInvalid(f"{path}: {error.strerror}") from error
    if len(data) > FILE_BYTES_MAX:
        raise ReleaseInvalid(f"{path} is over {FILE_BYTES_MAX} bytes")
    return data


def release_of(repository: Repository, family: str, counter: int) -> Release:
    """A release that was published. Raises RepositoryUnusable, ReleaseInvalid."""
    path = release_target(family, counter)
    entry = repository.targets(family).signed.targets.get(path)
    if entry is None:
        raise RepositoryUnusable(f"there is no release {family}/{counter}. Try: edge-ota model list")
    try:
        document = repository.read_target(path, entry.hashes["sha256"])
    except ObjectMissing as error:
        raise RepositoryUnusable(f"{path} is signed, and missing in the store") from error
    return read_release(entry.custom, document)


def again(
    repository: Repository, family: str, counter: int, counters: Sequence[int]
) -> tuple[Release, dict[str, bytes]]:
    """An older release as the next one: same files, same needs. No files when the newest is the same already.

    `counters`: of the family, oldest first. Raises RepositoryUnusable, ReleaseInvalid.
    """
    old = release_of(repository, family, counter)
    newest = release_of(repository, family, counters[-1])
    if (newest.files, newest.needs, newest.version) == (old.files, old.needs, old.version):
        return newest, {}
    try:
        files = {name: repository.read_target(old.file_target(name), ref.sha256) for name, ref in old.files.items()}
    except ObjectMissing as error:
        raise RepositoryUnusable(f"a file of {old.name} is signed, and missing in the store") from error
    return replace(old, counter=counters[-1] + 1), files


def release_table(release: Release) -> Mapping[str, Any]:
    """What `edge-ota model show` tells."""
    return {
        "release": release.name,
        "version": release.version,
        "input_schema": release.schema,
        "hardware": list(release.needs.hardware),
        "agent_min": release.needs.agent_min,
        "runtime_min": release.needs.runtime_min,
        "opset": release.needs.opset,
        "budget": {"p95_ms": release.needs.p95_ms, "memory_mib": release.needs.memory_mib},
        "files": {name: {"sha256": ref.sha256, "length": ref.length} for name, ref in sorted(release.files.items())},
    }
