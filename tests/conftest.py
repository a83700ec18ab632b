"""Servers that several suites use: one of each per run; a test takes a schema, database or prefix of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import S3, PostgreSQL, postgresql, postgresql_missing, rclone_missing, s3


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    if reason := postgresql_missing():
        pytest.skip(reason)
    with postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    if reason := rclone_missing():
        pytest.skip(reason)
    with s3(tmp_path_factory.mktemp("s3")) as server:
        yield server
