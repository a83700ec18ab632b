"""An S3 server that refuses or is away, and URLs that are wrong: one clear line, and never a secret in it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_sync.errors import CloudError, ConfigInvalid, ObjectMissing, StoreDown
from cloud_sync.storage.minio_store import AMAZON, BucketPlace, MinioStore
from tests.servers import ACCESS_KEY, BUCKET, S3, SECRET_KEY

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No credentials but those that a test gives; returns the credentials file, not there yet."""
    for name in (*CREDENTIALS, "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path / "credentials"


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


def refused(url: str, kind: type[CloudError] = ConfigInvalid) -> str:
    with pytest.raises(kind) as caught:
        MinioStore.open(url)
    said = str(caught.value)
    assert "\n" not in said
    assert SECRET_KEY not in said
    return said


def test_an_url_in_full() -> None:
    place = BucketPlace.parse("s3://bucket/a/b/?endpoint=http://10.0.0.1:9000&region=eu-west-1&style=virtual")
    assert place == BucketPlace("bucket", "a/b/", "http://10.0.0.1:9000", "eu-west-1", path_style=False)
    assert str(place) == "s3://bucket/a/b/ at http://10.0.0.1:9000"


def test_an_url_at_its_shortest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BucketPlace.parse("s3://bucket") == BucketPlace("bucket", "", AMAZON, None, path_style=False)
    own = BucketPlace.parse("s3://bucket?endpoint=https://minio.example")
    assert (own.region, own.path_style) == ("us-east-1", True)
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert BucketPlace.parse("s3://bucket").region == "eu-north-1"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://host/bucket", "s3://BUCKET"),
        ("s3:///prefix", "s3://BUCKET"),
        ("bucket", "s3://BUCKET"),
        ("", "s3://BUCKET"),
        (f"s3://{ACCESS_KEY}:{SECRET_KEY}@bucket", "AWS_ACCESS_KEY_ID"),
        (f"s3://bucket?endpoint=http://{ACCESS_KEY}:{SECRET_KEY}@host", "endpoint must be"),
        ("s3://bucket?endpoint=host:9000", "endpoint must be"),
        ("s3://bucket?endpoint=http://host/path", "endpoint must be"),
        ("s3://bucket?endpoint=", "endpoint must be"),
        (f"s3://bucket?secret={SECRET_KEY}", "secret is not known"),
        ("s3://bucket?style=other", "style=other"),
        ("s3://bucket/../x", "object key"),
        ("s3://bucket/.hidden", "object key"),
    ],
)
def test_urls_that_are_wrong(url: str, said: str) -> None:
    assert said in refused(url)


@pytest.mark.usefixtures("keys")
def test_a_bucket_name_that_no_server_takes() -> None:
    refused("s3://B_?endpoint=http://127.0.0.1:9")


def test_no_credentials() -> None:
    assert "AWS_ACCESS_KEY_ID" in refused("s3://bucket?endpoint=http://127.0.0.1:9")


def test_credentials_from_a_file(s3_server: S3, environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = f"aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    environment.write_text(f"[tidegate]\n{pair}")
    refused(s3_server.url())
    monkeypatch.setenv("AWS_PROFILE", "tidegate")
    MinioStore.open(s3_server.url())


def test_wrong_credentials(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    assert "another AWS_SECRET_ACCESS_KEY" in (said := refused(s3_server.url()))
    assert "not-the-secret" not in said
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "not-the-key-at-all")
    assert "another AWS_ACCESS_KEY_ID" in refused(s3_server.url())


@pytest.mark.usefixtures("keys")
def test_no_such_bucket(s3_server: S3) -> None:
    assert "make the bucket first" in refused(s3_server.url(bucket="another-bucket"))


@pytest.mark.usefixtures("keys")
def test_a_server_that_does_not_answer() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert "does not answer" in refused(f"s3://bucket?endpoint=http://127.0.0.1:{port}", StoreDown)


@pytest.fixture
def babbler() -> Iterator[str]:
    """A server that is no S3 server: answers 404 with a page, whatever is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.recv(65_536)
                    client.sendall(
                        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nhola"
                    )

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.usefixtures("keys")
def test_a_server_that_is_no_s3_server(babbler: str) -> None:
    assert "404" in refused(f"s3://bucket?endpoint={babbler}", StoreDown)


@pytest.mark.usefixtures("keys")
def test_prefixes_are_apart_and_invisible(s3_server: S3) -> None:
    one, two = (MinioStore.open(s3_server.url(f"apart/{name}")) for name in ("one", "one-two"))
    one.put("packs/a", b"1")
    assert list(one.list()) == ["packs/a"]
    assert list(two.list()) == []
    with pytest.raises(ObjectMissing):
        two.get("packs/a")
    assert (s3_server.folder / "root" / BUCKET / "apart" / "one" / "packs" / "a").read_bytes() == b"1"


@pytest.mark.usefixtures("keys")
def test_the_largest_pack_is_one_object(s3_server: S3) -> None:
    store = MinioStore.open(s3_server.url("large"))
    data = bytes(range(256)) * (9 * 1024 * 1024 // 256)
    store.put("packs/large", data)
    assert store.get("packs/large", 8 * 1024 * 1024, 100) == data[:100]
    assert store.get("packs/large") == data
    assert len(list(store.list())) == 1
