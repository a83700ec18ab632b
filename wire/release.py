"""A release: model, preprocessing, thresholds, golden vectors and budget as one set, and what it needs of a gateway.

Bytes and fields: docs/formats/release.md. What it needs stands in the signed metadata (`custom` of its target): a
gateway can refuse before it downloads anything. The files by hash stand in the document that the metadata names.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

FORMAT = 1
DOCUMENT_BYTES_MAX = 4096
FILE_BYTES_MAX = 8 << 20  # golden vectors; the model's own bound is lower
FILES = ("golden.npz", "model.json", "model.onnx")
_FAMILY = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"\d{1,6}(\.\d{1,6}){0,3}")
RESERVED = frozenset({"root", "timestamp", "snapshot", "targets"})  # roles of TUF


class ReleaseInvalid(Exception):
    """A release's fields are not those of docs/formats/release.md. The message names the field and what is allowed."""


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file of the set."""

    sha256: str
    length: int


@dataclass(frozen=True, slots=True)
class Needs:
    """What a gateway must have: checked before anything is downloaded."""

    hardware: tuple[str, ...]  # machine names as uname(2) gives them, or "*"
    agent_min: str
    runtime_min: str  # onnxruntime
    opset: int
    p95_ms: float  # of one run of one row, on the gateway
    memory_mib: float  # growth of a process that opens and runs it


@dataclass(frozen=True, slots=True)
class Release:
    """`counter` grows with each release of a family; a gateway never goes back. `schema`: hash of what goes in."""

    family: str
    counter: int
    version: int  # of the model's folder
    schema: str
    needs: Needs
    files: dict[str, FileRef]

    @property
    def name(self) -> str:
        """`family/counter`, as people write it."""
        return f"{self.family}/{self.counter}"

    @property
    def target(self) -> str:
        """Target name of the document."""
        return release_target(self.family, self.counter)

    def file_target(self, name: str) -> str:
        """Target name of one of its files."""
        return file_target(self.family, self.counter, name)

    def custom(self) -> dict[str, Any]:
        """Fields of the target's `custom`."""
        needs = self.needs
        return {
            "format": FORMAT,
            "family": self.family,
            "release_counter": self.counter,
            "version": self.version,
            "hardware": list(needs.hardware),
            "agent_min": needs.agent_min,
            "runtime_min": needs.runtime_min,
            "opset": needs.opset,
            "input_schema": self.schema,
            # text: canonical JSON has no fractions
            "budget": {"p95_ms": f"{needs.p95_ms:g}", "memory_mib": f"{needs.memory_mib:g}"},
            "deltas": {},
        }

    def document(self) -> bytes:
        """The target's content: the set of files."""
        files = {name: {"sha256": ref.sha256, "length": ref.length} for name, ref in sorted(self.files.items())}
        told = {"format": FORMAT, "family": self.family, "release_counter": self.counter, "files": files}
        return json.dumps(told, separators=(",", ":"), sort_keys=True).encode()


def check_family(name: str) -> str:
    """The name. Raises ReleaseInvalid unless it is 1 to 64 of a-z, 0-9 and '-', and no role of TUF."""
    if not _FAMILY.fullmatch(name) or name in RESERVED:
        raise ReleaseInvalid(f"family {name[:80]!r}: 1 to 64 of a-z, 0-9 and '-', not {', '.join(sorted(RESERVED))}")
    return name


def release_target(family: str, counter: int) -> str:
    """Target name of a release's document."""
    return f"models/{family}/{counter}/release.json"


def file_target(family: str, counter: int, name: str) -> str:
    """Target name of one of a release's files."""
    return f"models/{family}/{counter}/{name}"


def read_needs(custom: object) -> tuple[str, int, int, str, Needs]:
    """Family, counter, version, schema and needs from `custom`. Raises ReleaseInvalid."""
    if not isinstance(custom, dict):
        raise ReleaseInvalid("custom is missing: the target is no release")
    if type(custom.get("format")) is not int or custom["format"] != FORMAT:
        raise ReleaseInvalid(f"format {custom.get('format')!r}; {FORMAT} is known. Try: a newer edge-agent")
    hardware = custom.get("hardware")
    budget = custom.get("budget")
    if not isinstance(hardware, list) or not hardware or not all(isinstance(one, str) for one in hardware):
        raise ReleaseInvalid(f"hardware {hardware!r}: a list of machine names, or ['*']")
    if not isinstance(budget, dict):
        raise ReleaseInvalid(f"budget {budget!r}: p95_ms and memory_mib")
    needs = Needs(
        tuple(hardware),
        _matching(custom, "agent_min", _VERSION),
        _matching(custom, "runtime_min", _VERSION),
        _count(custom, "opset"),
        _positive(budget, "p95_ms"),
        _positive(budget, "memory_mib"),
    )
    family = check_family(str(custom.get("family")))
    schema = _matching(custom, "input_schema", _SHA256)
    return family, _count(custom, "release_counter"), _count(custom, "version"), schema, needs


def read_release(custom: object, document: bytes) -> Release:
    """The release of a target. Raises ReleaseInvalid when a part is missing or they are not of one release."""
    family, counter, version, schema, needs = read_needs(custom)
    if len(document) > DOCUMENT_BYTES_MAX:
        raise ReleaseInvalid(f"the document has {len(document)} bytes; {DOCUMENT_BYTES_MAX} are the most")
    try:
        told = json.loads(document)
        files = told["files"]
        named = (told["format"], told["family"], told["release_counter"])
        refs = {str(name): FileRef(str(ref["sha256"]), ref["length"]) for name, ref in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReleaseInvalid(f"the document is damaged: {type(error).__name__} {error}") from error
    if named != (FORMAT, family, counter):
        raise ReleaseInvalid(f"the document is of {named[1]}/{named[2]}, the target of {family}/{counter}")
    if tuple(sorted(refs)) != FILES:
        raise ReleaseInvalid(f"files {', '.join(sorted(refs))}; a whole set is {', '.join(FILES)}")
    for name, ref in refs.items():
        if not _SHA256.fullmatch(ref.sha256) or type(ref.length) is not int or not 0 < ref.length <= FILE_BYTES_MAX:
            raise ReleaseInvalid(f"{name}: a sha256 and a length of 1 to {FILE_BYTES_MAX} bytes are needed")
    return Release(family, counter, version, schema, needs, refs)


def _matching(told: dict[str, Any], key: str, pattern: re.Pattern[str]) -> str:
    value = told.get(key)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ReleaseInvalid(f"{key} {str(value)[:80]!r} is not {pattern.pattern}")
    return value


def _count(told: dict[str, Any], key: str) -> int:
    value = told.get(key)
    if type(value) is not int or not 1 <= value < 1 << 53:
        raise ReleaseInvalid(f"{key} {str(value)[:80]!r} is not a whole number from 1 on")
    return value


def _positive(told: dict[str, Any], key: str) -> float:
    value = told.get(key)
    try:
        number = float(value) if isinstance(value, str) and len(value) < 32 else 0.0
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise ReleaseInvalid(f"{key} {str(value)[:80]!r} is not a number above 0, as text")
    return number
