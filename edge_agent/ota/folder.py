"""A repository that lies in a folder: a USB stick, or a copy of an object store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from edge_agent.ota.errors import FetchFailed, FileMissing
from edge_agent.ota.fetch import Body

METADATA = "metadata"
TARGETS = "targets"


class FolderFetcher:
    """A `Fetcher` of the files under one folder; its URLs are paths below it. What leads out of it is refused."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def open(self, url: str, offset: int = 0, validator: str = "") -> Iterator[Body]:
        """See `Fetcher`."""
        parts = unquote(url).split("/")
        if any(part in {"", ".", ".."} or "\0" in part for part in parts):
            raise FetchFailed(f"{url[:200]} leads out of {self._folder}", "refused")
        path = self._folder.joinpath(*parts)
        try:
            with path.open("rb") as file:
                file.seek(offset)
                yield _FileBody(path, file, offset)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileMissing(f"{path} is not there") from error
        except OSError as error:
            raise FetchFailed(f"{path}: {error.strerror}", "unreachable") from error


class _FileBody:
    """See `Body`."""

    def __init__(self, path: Path, file: BinaryIO, offset: int) -> None:
        self.offset = offset
        self.validator = ""
        self._path = path
        self._file = file

    def read(self, most: int) -> bytes:
        """See `Body`."""
        try:
            return self._file.read(most)
        except OSError as error:
            raise FetchFailed(f"{self._path}: {error.strerror}", "cut_short") from error
