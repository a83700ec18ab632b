"""The local store when the disk misbehaves, and the order of its fsyncs."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cloud_sync.errors import ObjectMissing, StoreDown
from cloud_sync.storage.local_store import LocalStore


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_failed_put_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    store = LocalStore(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StoreDown, match=os.strerror(code)):
            store.put("a", b"x" * 100)
    assert list(tmp_path.iterdir()) == []
    store.put("a", b"x")
    assert store.get("a") == b"x"


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    LocalStore(tmp_path).put("a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_bytes_are_on_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("write", "fsync", "rename"):
        real = getattr(os, name)

        def record(*args: object, name: str = name, real: object = real) -> object:
            calls.append(name)
            return real(*args)  # type: ignore[operator]

        monkeypatch.setattr(os, name, record)
    LocalStore(tmp_path).put("new/a", b"x")
    assert calls == ["fsync", "write", "fsync", "rename", "fsync"]  # the first names the new folder


def test_half_written_files_are_neither_listed_nor_kept(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a/b", b"x")
    (tmp_path / "a" / ".partial-0123").write_bytes(b"half")
    assert list(store.list()) == ["a/b"]
    assert store.sweep_partial() == 1
    assert not (tmp_path / "a" / ".partial-0123").exists()


def test_a_truncated_object_is_missing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"0123456789")
    os.truncate(tmp_path / "a", 4)
    with pytest.raises(ObjectMissing, match="4 bytes"):
        store.get("a", 0, 10)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreDown, match="cannot create"):
        LocalStore(tmp_path / "file" / "store")
