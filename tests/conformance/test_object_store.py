"""What every object store must do. A new implementation joins `STORES`."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_sync.errors import ObjectMissing
from cloud_sync.storage.local_store import LocalStore
from cloud_sync.storage.minio_store import MinioStore
from cloud_sync.storage.object_store import ObjectStore

Open = Callable[[], ObjectStore]


def local(request: pytest.FixtureRequest, folder: Path) -> Open:
    return lambda: LocalStore(folder / "store")


def s3(request: pytest.FixtureRequest, folder: Path) -> Open:
    """A prefix of its own in one bucket."""
    server = request.getfixturevalue("s3_server")
    for name, value in server.credentials.items():
        request.getfixturevalue("monkeypatch").setenv(name, value)
    url = server.url(f"suite/{secrets.token_hex(6)}")
    return lambda: MinioStore.open(url)


STORES = {"local": local, "s3": s3}


@pytest.fixture(params=STORES)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    return STORES[request.param](request, tmp_path)


@pytest.fixture
def store(reopen: Open) -> ObjectStore:
    return reopen()


def test_what_was_put_is_got(store: ObjectStore) -> None:
    data = bytes(range(256)) * 5000
    store.put("packs/2026/a.tgp", data)
    assert store.get("packs/2026/a.tgp") == data


def test_it_is_there_for_the_next_process(reopen: Open) -> None:
    reopen().put("a/b", b"kept")
    assert reopen().get("a/b") == b"kept"


def test_a_key_can_be_given_other_bytes(store: ObjectStore) -> None:
    store.put("ota/metadata/timestamp.json", b"old and longer")
    store.put("ota/metadata/timestamp.json", b"new")
    assert store.get("ota/metadata/timestamp.json") == b"new"
    assert list(store.list("ota/")) == ["ota/metadata/timestamp.json"]


def test_parts_are_exact(store: ObjectStore) -> None:
    store.put("k", b"0123456789")
    assert store.get("k", 3, 4) == b"3456"
    assert store.get("k", 7) == b"789"
    assert store.get("k", 10, 0) == b""


@pytest.mark.parametrize(("offset", "length"), [(0, 11), (8, 3), (11, 0), (11, None)])
def test_a_range_past_the_end_is_missing_not_short(store: ObjectStore, offset: int, length: int | None) -> None:
    store.put("k", b"0123456789")
    with pytest.raises(ObjectMissing, match="10 bytes"):
        store.get("k", offset, length)


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    store.put("empty", b"")
    assert store.get("empty") == b""
    assert list(store.list()) == ["empty"]


def test_no_object(store: ObjectStore) -> None:
    store.put("a/b/c", b"x")
    for key in ("nothing", "a", "a/b", "a/b/c/d"):
        with pytest.raises(ObjectMissing):
            store.get(key)


def test_the_same_bytes_twice_are_harmless(store: ObjectStore) -> None:
    store.put("series/1", b"same")
    store.put("series/1", b"same")
    assert store.get("series/1") == b"same"
    assert list(store.list()) == ["series/1"]


def test_delete_is_idempotent(store: ObjectStore) -> None:
    store.put("a/b", b"x")
    store.delete("a/b")
    store.delete("a/b")
    store.delete("never/was")
    with pytest.raises(ObjectMissing):
        store.get("a/b")


def test_list_is_by_prefix_and_in_order(store: ObjectStore) -> None:
    keys = ["packs/2026/11/b", "packs/2026/11/a", "packs/2026-x", "packs/2025/12/z", "series/1", "pack", "packs/2026/1"]
    for key in keys:
        store.put(key, key.encode())
    assert list(store.list()) == sorted(keys)
    for prefix in ("packs/", "packs/2026/", "packs/2026", "packs/2026/11/a", "series/", "p", "none"):
        assert list(store.list(prefix)) == sorted(k for k in keys if k.startswith(prefix)), prefix


def test_list_goes_on_behind_a_key(store: ObjectStore) -> None:
    keys = [
        "meta/a",
        "packs/2025/12/z",
        "packs/2026-x",
        "packs/2026/11/a",
        "packs/2026/11/b",
        "packs/2027/1",
        "series/1",
    ]
    for key in keys:
        store.put(key, b"x")
    for after in ("", "packs/2026", "packs/2026/11/a", "packs/2026/11/aa", "packs/2026/12", "packs/2028", "z"):
        for prefix in ("packs/", ""):
            expected = sorted(k for k in keys if k.startswith(prefix) and k > after)
            assert list(store.list(prefix, after)) == expected, (prefix, after)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/x",
        "../x",
        "a/../../x",
        "a//b",
        "a/",
        ".hidden",
        "a/.partial-1",
        "a b",
        "a\x00b",
        "ä",
        "a\n",
        "x" * 513,
    ],
)
def test_a_key_cannot_climb_out(store: ObjectStore, key: str) -> None:
    for call in (lambda: store.put(key, b"x"), lambda: store.get(key), lambda: store.delete(key)):
        with pytest.raises(ValueError):
            call()
    assert list(store.list()) == []
