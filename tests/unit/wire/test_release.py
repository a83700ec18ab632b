"""Releases: what is written is read, and every damaged field is refused by its name."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.release import FILES, FileRef, Needs, Release, ReleaseInvalid, read_release

RELEASE = Release(
    "value-novelty",
    7,
    2,
    "ab" * 32,
    Needs(("aarch64",), "0.1.0", "1.22", 17, 2.5, 64.0),
    {name: FileRef(f"{number:064x}", 1000 + number) for number, name in enumerate(FILES)},
)


def test_it_comes_back() -> None:
    assert read_release(json.loads(json.dumps(RELEASE.custom())), RELEASE.document()) == RELEASE
    assert RELEASE.target == "models/value-novelty/7/release.json"
    assert RELEASE.file_target("model.onnx") == "models/value-novelty/7/model.onnx"
    assert RELEASE.name == "value-novelty/7"


@pytest.mark.parametrize("field", sorted(RELEASE.custom().keys() - {"deltas"}))
@pytest.mark.parametrize("value", [None, [], {}, -1, 1 << 60, "x\0", True])
def test_a_field_that_is_not_what_it_must_be(field: str, value: Any) -> None:
    custom = {**RELEASE.custom(), field: value}
    with pytest.raises(ReleaseInvalid):
        read_release(custom, RELEASE.document())


@pytest.mark.parametrize("file", FILES)
def test_a_set_that_is_not_whole(file: str) -> None:
    document = json.loads(RELEASE.document())
    for change in ({}, {"sha256": "x", "length": 1}, {"sha256": "0" * 64, "length": 0}):
        broken = copy.deepcopy(document)
        if change:
            broken["files"][file] = change
        else:
            del broken["files"][file]
        with pytest.raises(ReleaseInvalid):
            read_release(RELEASE.custom(), json.dumps(broken).encode())
    document["files"]["more.bin"] = {"sha256": "0" * 64, "length": 1}
    with pytest.raises(ReleaseInvalid, match="a whole set is"):
        read_release(RELEASE.custom(), json.dumps(document).encode())


def test_the_document_of_another_release() -> None:
    other = Release("value-novelty", 8, 2, RELEASE.schema, RELEASE.needs, RELEASE.files)
    with pytest.raises(ReleaseInvalid, match="document is of value-novelty/8, the target of value-novelty/7"):
        read_release(RELEASE.custom(), other.document())


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode()))
def test_any_bytes_are_a_release_or_refused(document: bytes) -> None:
    with pytest.raises(ReleaseInvalid):
        read_release(RELEASE.custom(), document)
