"""Objects in a bucket of any S3 server: Amazon, MinIO, Ceph, rclone. The only importer of minio and urllib3."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

import certifi
import urllib3
from minio import Minio
from minio.credentials.providers import AWSConfigProvider, ChainedProvider, EnvAWSProvider, IamAwsProvider, Provider
from minio.error import InvalidResponseError, MinioException, S3Error
from urllib3.exceptions import HTTPError

from cloud_sync.errors import CloudError, ConfigInvalid, ObjectMissing, StoreDown
from cloud_sync.storage.object_store import check_key

AMAZON = "https://s3.amazonaws.com"
REGION_DEFAULT = "us-east-1"  # what servers other than Amazon's take
CONNECT_S_MAX = 5.0
READ_S_MAX = 15.0
RETRIES = 2  # of one request with the same bytes to the same key
CONNECTIONS_MAX = 16
PART_BYTES = 64 * 1024 * 1024  # more than any pack, so that an object is one request: all of it is there, or nothing
EXAMPLE = "s3://BUCKET/PREFIX?endpoint=https://HOST:9000"
_NO_CREDENTIALS = (
    "no credentials for S3. Try: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, "
    "or ~/.aws/credentials (AWS_SHARED_CREDENTIALS_FILE, AWS_PROFILE)"
)
_CODE = re.compile(r"<Code>(\w+)</Code>")
_HELP = {  # S3 error codes that another try does not cure
    "AccessDenied": "the credentials, and what their policy allows: GetObject, PutObject, DeleteObject, ListBucket",
    "InvalidAccessKeyId": "another AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "another AWS_SECRET_ACCESS_KEY",
    "InvalidToken": "another AWS_SESSION_TOKEN",
    "ExpiredToken": "another AWS_SESSION_TOKEN",
    "NoSuchBucket": "make the bucket first, or another name in --object-store",
    "AuthorizationHeaderMalformed": "?region=REGION of the bucket in --object-store",
    "PermanentRedirect": "?region=REGION of the bucket in --object-store",
}


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """Where objects go, without any secret. `prefix` is empty or ends with '/'."""

    bucket: str
    prefix: str
    endpoint: str
    region: str | None
    path_style: bool

    @classmethod
    def parse(cls, url: str) -> BucketPlace:
        """Read `s3://BUCKET[/PREFIX][?endpoint=URL&region=REGION&style=path|virtual]`. Raises ConfigInvalid."""
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise ConfigInvalid(f"--object-store {parts.scheme}:... is no URL of a bucket. Try: {EXAMPLE}")
        if "@" in parts.netloc:
            raise ConfigInvalid("--object-store must not hold credentials: command lines are seen by all. Try: "
                                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment")  # fmt: skip
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        endpoint = options.pop("endpoint", AMAZON)
        region = options.pop("region", "") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        style = options.pop("style", "virtual" if endpoint == AMAZON else "path")
        if options or style not in ("path", "virtual"):
            found = ", ".join(options) or f"style={style}"
            raise ConfigInvalid(f"--object-store: {found} is not known; there are endpoint, region, style=path|virtual")
        _check_endpoint(endpoint)
        prefix = parts.path.strip("/")
        try:
            prefix = f"{check_key(prefix)}/" if prefix else ""
        except ValueError as error:
            raise ConfigInvalid(f"--object-store: {error}") from error
        return cls(
            parts.netloc, prefix, endpoint, region or (None if endpoint == AMAZON else REGION_DEFAULT), style == "path"
        )

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix} at {self.endpoint}"


class MinioStore:
    """An `ObjectStore` in a bucket. Thread-safe."""

    def __init__(self, place: BucketPlace, credentials: Provider) -> None:
        """Connects to nothing yet. Raises ConfigInvalid."""
        self._place = place
        endpoint = urlsplit(place.endpoint)
        try:
            self._client = Minio(
                endpoint.netloc,
                secure=endpoint.scheme == "https",
                region=place.region,
                credentials=credentials,
                http_client=_http(),
            )
        except ValueError as error:
            raise ConfigInvalid(f"--object-store {place}: {error}. Try: {EXAMPLE}") from error
        if place.path_style:
            self._client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        else:
            self._client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]

    @classmethod
    def open(cls, url: str) -> MinioStore:
        """The bucket of a URL, asked once. Credentials come from the environment or a file.

        Raises ConfigInvalid when there are none, or the server refuses; StoreDown when it does not answer.
        """
        place = BucketPlace.parse(url)
        credentials = _credentials(place)
        store = cls(place, credentials)
        try:
            with _mapped(place):
                next(iter(store._client.list_objects(place.bucket, f"{place.prefix}meta/")), None)
        except StoreDown as error:
            cause = error.__cause__
            if isinstance(cause, ValueError) or _code(cause) in _HELP:
                raise ConfigInvalid(str(error)) from cause
            raise
        return store

    def put(self, key: str, data: bytes) -> None:
        """See `ObjectStore`: one request; the server's answer is its word that the object is durable."""
        name = self._name(key)
        with _mapped(self._place, key):
            self._client.put_object(self._place.bucket, name, io.BytesIO(data), len(data), part_size=PART_BYTES)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `ObjectStore`."""
        name = self._name(key)
        if length != 0 and (data := self._read(name, key, offset, length)) is not None:
            return data
        with _mapped(self._place, key):
            size = int(self._client.stat_object(self._place.bucket, name).size or 0)
        end = size if length is None else offset + length
        if offset == end <= size:
            return b""
        raise ObjectMissing(f"{key} has {size} bytes, asked for {offset}..{end}")

    def delete(self, key: str) -> None:
        """See `ObjectStore`."""
        name = self._name(key)
        try:
            with _mapped(self._place, key):
                self._client.remove_object(self._place.bucket, name)
        except ObjectMissing:
            return

    def list(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """See `ObjectStore`. The order is the server's, which S3 defines as that of the keys' bytes."""
        ours = self._place.prefix
        start_after = ours + after if after else None
        with _mapped(self._place):
            for found in self._client.list_objects(
                self._place.bucket, ours + prefix, recursive=True, start_after=start_after
            ):
                if (key := str(found.object_name)[len(ours) :]) > after:  # not every server knows start-after
                    yield key

    def _name(self, key: str) -> str:
        return self._place.prefix + check_key(key)

    def _read(self, name: str, key: str, offset: int, length: int | None) -> bytes | None:
        """The bytes of a range; None when the object does not reach so far."""
        with _mapped(self._place, key):
            try:
                response = self._client.get_object(self._place.bucket, name, offset, length or 0)
            except MinioException as error:
                if _code(error) == "InvalidRange":
                    return None
                raise
            try:
                data = bytes(response.read())
            finally:
                response.release_conn()
        return data if length is None or len(data) == length else None


def _check_endpoint(endpoint: str) -> None:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or "@" in parts.netloc:
        raise ConfigInvalid("--object-store: endpoint must be http(s)://HOST[:PORT] and nothing more. Try: " + EXAMPLE)


def _http() -> urllib3.PoolManager:
    """Connections with an end to every wait; certificates are checked against SSL_CERT_FILE or the system's."""
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # not each retry: an `Outage` says it once
    return urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=CONNECT_S_MAX, read=READ_S_MAX),
        maxsize=CONNECTIONS_MAX,
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
        retries=urllib3.Retry(
            total=RETRIES, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504), raise_on_status=False,
            allowed_methods=None,
        ),
    )  # fmt: skip


def _credentials(place: BucketPlace) -> Provider:
    """Environment, then file, then (at Amazon) the machine's role. Raises ConfigInvalid when none has any."""
    role = [IamAwsProvider(http_client=_http())] if place.endpoint == AMAZON else []
    chain = ChainedProvider([EnvAWSProvider(), AWSConfigProvider(), *role])
    try:
        chain.retrieve()
    except (ValueError, HTTPError, OSError) as error:
        raise ConfigInvalid(_NO_CREDENTIALS) from error
    return chain


@contextmanager
def _mapped(place: BucketPlace, key: str = "") -> Iterator[None]:
    """Errors of the client as ours."""
    try:
        yield
    except (MinioException, HTTPError, OSError, ValueError) as error:
        raise _ours(error, place, key) from error


def _ours(error: Exception, place: BucketPlace, key: str) -> CloudError:
    code = _code(error)
    if code is None:
        reason = getattr(error, "reason", None) or error
        return StoreDown(f"{place} does not answer: {' '.join(str(reason).split())[:300]}")
    if code in ("NoSuchKey", "NoSuchObject") and key:
        return ObjectMissing(f"no object {key} in {place}")
    return StoreDown(f"{place} refuses: {code}" + (f". Try: {_HELP[code]}" if code in _HELP else ""))


def _code(error: BaseException | None) -> str | None:
    """The S3 error code that the server sent."""
    if isinstance(error, S3Error):
        return error.code
    if isinstance(error, InvalidResponseError):  # the client reads application/xml only; rclone sends text/xml
        found = _CODE.search(str(error))
        return found[1] if found else None
    return None
