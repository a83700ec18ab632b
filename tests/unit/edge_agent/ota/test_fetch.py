"""Fetching over real HTTP: what servers, proxies and mirrors can do wrong."""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.ota.client import Mirror, TufClient
from edge_agent.ota.errors import FetchFailed, FileMissing, OtaError, TargetRejected
from edge_agent.ota.fetch import HttpFetcher, Patience, fetch_bytes
from tests.unit.edge_agent.ota.http_site import Handler, Site, serving
from tests.unit.edge_agent.ota.repository import Repository
from wire.clock import SystemClock

HURRIED = Patience(answer_s=0.3, gap_s=0.3, bytes_per_s_min=1000.0, window_s=0.1)
DATA = bytes(range(256)) * 1024  # 256 KiB


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        site.files["/file"] = DATA
        yield site


def fetched(site: Site, path: str = "/file", most: int = 1 << 20, patience: Patience | None = None) -> bytes:
    return fetch_bytes(HttpFetcher(SystemClock(), patience), site.url + path, most)


def reason(site: Site, path: str = "/file", most: int = 1 << 20, patience: Patience = HURRIED) -> str:
    with pytest.raises(FetchFailed) as caught:
        fetched(site, path, most, patience)
    return caught.value.reason


def test_a_file(site: Site) -> None:
    assert fetched(site) == DATA
    assert fetched(site, most=len(DATA)) == DATA
    assert reason(site, most=len(DATA) - 1) == "too_long"


def test_a_missing_file(site: Site) -> None:
    with pytest.raises(FileMissing):
        fetched(site, "/other")


def test_nobody_there() -> None:
    with serving() as gone:
        pass
    assert reason(gone) == "unreachable"


def test_row_08_a_body_without_end_stops_at_the_limit(site: Site) -> None:
    written = []

    def endless(handler: Handler, data: bytes) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while not site.stopped.is_set():
                handler.wfile.write(data)
                written.append(len(data))
        except OSError:
            pass

    site.manner = endless
    assert reason(site, most=1000) == "too_long"


@pytest.mark.parametrize("told", [len(DATA) + 1, len(DATA) * 2])
def test_row_08_a_length_that_is_not_the_body_s(site: Site, told: int) -> None:
    def short(handler: Handler, data: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(told))
        handler.end_headers()
        handler.wfile.write(data)

    site.manner = short
    assert reason(site) == "cut_short"


def test_row_08_content_that_a_proxy_packed_is_refused_unread(site: Site) -> None:
    bomb = gzip.compress(bytes(50 << 20), 9)
    site.files["/file"] = bomb
    site.manner = lambda handler, data: handler.answer(data, headers=(("Content-Encoding", "gzip"),))
    assert reason(site) == "refused"


def test_row_09_one_byte_at_a_time_is_given_up(site: Site) -> None:
    def slow(handler: Handler, data: bytes) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.drip(data, 0.02)

    site.manner = slow
    assert reason(site) == "too_slow"


def test_row_09_silence_is_given_up(site: Site) -> None:
    def mute(handler: Handler, data: bytes) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(data[:1000])
        handler.wfile.flush()
        site.stopped.wait(30)

    site.manner = mute
    assert reason(site) == "too_slow"


def test_row_09_headers_that_drip_are_given_up(site: Site) -> None:
    site.manner = lambda handler, data: handler.drip(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, 0.02)
    assert reason(site) == "too_slow"


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x/", "http://", "http://x:y/"])
def test_row_28_redirects_stay_with_http(site: Site, target: str) -> None:
    def away(handler: Handler, data: bytes) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    site.manner = away
    assert reason(site) == "refused"


def test_row_28_redirects_are_followed_a_few_times(site: Site) -> None:
    def on(handler: Handler, data: bytes) -> None:
        if handler.path == "/file" and len(site.seen) > 3:
            handler.answer(data)
            return
        handler.send_response(307)
        handler.send_header("Location", "/file")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    site.manner = on
    assert fetched(site) == DATA
    site.seen.clear()
    site.manner = lambda handler, data: (site.seen.clear(), on(handler, data))[1]
    assert reason(site) == "refused"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "/etc/passwd", "http://[", "http://host:99999/"])
def test_row_28_urls_that_are_none(url: str) -> None:
    with pytest.raises(FetchFailed) as caught:
        fetch_bytes(HttpFetcher(SystemClock()), url, 10)
    assert caught.value.reason == "refused"


# Whole downloads, through the client


class Served:
    """A repository on one or more sites, and a client on `folder`."""

    def __init__(self, folder: Path, data: bytes, *sites: Site) -> None:
        repository = Repository()
        repository.timestamp.expires = repository.snapshot.expires = repository.targets.expires = (
            repository.root.expires
        ) = repository.root.expires.replace(year=2100)
        repository.roots.clear()
        self.root = repository.publish_root()
        repository.add_target("m/model", data)
        repository.publish("targets")
        self.name = f"/targets/m/{hashlib.sha256(data).hexdigest()}.model"
        for site in sites:
            self.serve(site, repository, data)
        self.folder = folder
        self.sites = sites
        self.path = folder / "store" / "model"

    def serve(self, site: Site, repository: Repository, data: bytes) -> None:
        site.files = {
            "/metadata/timestamp.json": repository.signed("timestamp", repository.timestamp),
            "/metadata/2.snapshot.json": repository.signed("snapshot", repository.snapshot),
            "/metadata/2.targets.json": repository.signed("targets", repository.targets),
            self.name: data,
        }

    def client(self, patience: Patience | None = None) -> TufClient:
        mirrors = [Mirror(f"{site.url}/metadata", f"{site.url}/targets") for site in self.sites]
        client = TufClient(
            self.folder / "metadata",
            mirrors[0].metadata_url,
            mirrors[0].target_url,
            HttpFetcher(SystemClock(), patience),
            SystemClock(),
            mirrors=mirrors[1:],
        )
        client.init(self.root)
        return client

    def download(self, patience: Patience | None = None) -> None:
        self.client(patience).download("m/model", self.path)

    def asked(self, site: Site) -> list[str]:
        return [span for path, span in site.seen if path == self.name]


def cuts(data: bytes) -> list[int]:
    """Every 64 KiB, and the bytes around the end."""
    return [*range(0, len(data), 1 << 16), *range(len(data) - 5, len(data))]


def test_row_10_a_download_goes_on_where_it_was_cut(tmp_path: Path, site: Site) -> None:
    served = Served(tmp_path, DATA, site)
    begins = cuts(DATA)

    def cutting(handler: Handler, data: bytes) -> None:
        if handler.path != served.name:
            handler.answer(data)
            return
        begin = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        further = [cut for cut in begins if cut > begin]
        handler.answer(data, cut=further[0] - begin if further else None)

    site.manner = cutting
    served.download()
    assert served.path.read_bytes() == DATA
    assert served.asked(site) == ["", *(f"bytes={cut}-" for cut in begins[1:])]


def test_row_10_a_part_survives_the_process(tmp_path: Path, site: Site) -> None:
    served = Served(tmp_path, DATA, site)
    site.manner = lambda handler, data: handler.answer(
        data, cut=(1000 if len(served.asked(site)) == 1 else 0) if handler.path == served.name else None
    )
    with pytest.raises(FetchFailed):
        served.download()
    assert not served.path.exists()
    site.manner = None
    site.seen.clear()
    served.download()
    assert served.path.read_bytes() == DATA
    assert served.asked(site) == ["bytes=1000-"]


@pytest.mark.parametrize("trouble", ["no_ranges", "other_version", "wrong_range", "other_bytes"])
def test_row_10_a_server_that_resumes_badly_is_begun_anew(tmp_path: Path, site: Site, trouble: str) -> None:
    served = Served(tmp_path, DATA, site)

    def cutting(handler: Handler, data: bytes) -> None:
        if handler.path != served.name:
            handler.answer(data)
        elif len(served.asked(site)) == 1:
            handler.answer(data, cut=70_000)
        elif trouble == "wrong_range" and handler.headers.get("Range"):
            handler.send_response(206)
            handler.send_header("Content-Range", "bytes 5-9/10")
            handler.send_header("Content-Length", "5")
            handler.end_headers()
            handler.wfile.write(b"wrong")
        else:
            if trouble == "no_ranges":
                site.ranges = False
            elif trouble == "other_version":
                site.etag = '"v2"'
            handler.answer(bytes(len(data)) if trouble == "other_bytes" and len(served.asked(site)) == 2 else data)

    site.manner = cutting
    if trouble == "wrong_range":
        with pytest.raises(FetchFailed):
            served.download()
        site.manner = None
    served.download()
    assert served.path.read_bytes() == DATA


def test_row_10_a_damaged_part_costs_a_second_download_and_no_more(tmp_path: Path, site: Site) -> None:
    served = Served(tmp_path, DATA, site)
    site.manner = lambda handler, data: handler.answer(
        data, cut=(70_000 if len(served.asked(site)) == 1 else 0) if handler.path == served.name else None
    )
    with pytest.raises(FetchFailed):
        served.download()
    part = next(path for path in served.path.parent.iterdir() if path.suffix == ".part")
    part.write_bytes(bytes(70_000))
    site.manner = None
    site.seen.clear()
    served.download()
    assert served.path.read_bytes() == DATA
    assert served.asked(site) == ["bytes=70000-", ""]
    assert not part.exists()


@pytest.mark.parametrize("position", [0, 1, 65_535, 65_536, len(DATA) - 1])
def test_row_11_one_byte_flipped_in_a_target(tmp_path: Path, site: Site, position: int) -> None:
    served = Served(tmp_path, DATA, site)
    site.files[served.name] = DATA[:position] + bytes([DATA[position] ^ 1]) + DATA[position + 1 :]
    with pytest.raises(TargetRejected):
        served.download()
    assert list(served.path.parent.iterdir()) == []
    site.files[served.name] = DATA
    served.download()
    assert served.path.read_bytes() == DATA


@pytest.mark.parametrize("extra", [-1, 1, 5000])
def test_row_08_a_target_is_read_to_its_signed_length_and_no_further(tmp_path: Path, site: Site, extra: int) -> None:
    served = Served(tmp_path, DATA, site)
    site.files[served.name] = DATA[:extra] if extra < 0 else DATA + bytes(extra)
    if extra < 0:
        with pytest.raises(FetchFailed) as caught:
            served.download()
        assert caught.value.reason == "cut_short"
        site.files[served.name] = DATA
    served.download()
    assert served.path.read_bytes() == DATA


def test_what_is_there_is_not_fetched_again(tmp_path: Path, site: Site) -> None:
    served = Served(tmp_path, DATA, site)
    served.download()
    served.download()
    assert len(served.asked(site)) == 1
    served.path.write_bytes(b"damaged")
    served.download()
    assert served.path.read_bytes() == DATA


@pytest.mark.parametrize("trouble", ["slow", "false", "gone", "dead", "stale"])
def test_row_28_a_bad_mirror_is_passed_over(tmp_path: Path, site: Site, trouble: str) -> None:
    with serving() as second:
        served = Served(tmp_path, DATA, site, second)

        def dripping(handler: Handler, data: bytes) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.drip(data, 0.02)

        if trouble == "slow":
            site.manner = dripping
        elif trouble == "false":
            site.files = {path: bytes(len(data)) for path, data in site.files.items()}
        elif trouble == "gone":
            site.files.clear()
        elif trouble == "dead":
            site.manner = lambda handler, _: handler.connection.close()
        else:
            served.download()
            Served(tmp_path / "other", b"old", site)  # another repository's files: signed, by keys that are not ours
        served.path.unlink(missing_ok=True)
        served.download(Patience(bytes_per_s_min=1000.0, window_s=1.0))
        assert served.path.read_bytes() == DATA


def test_row_27_two_updaters_at_once(tmp_path: Path, site: Site) -> None:
    """One works, the other is told; nothing is torn."""
    served = Served(tmp_path, DATA, site)
    entered, go_on = threading.Event(), threading.Event()

    def waiting(handler: Handler, data: bytes) -> None:
        entered.set()
        go_on.wait(20)
        handler.answer(data)

    client, other = served.client(), served.client()
    site.manner = waiting
    problems: list[BaseException] = []

    def first() -> None:
        try:
            client.download("m/model", served.path)
        except BaseException as error:  # told to the test
            problems.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(20)
    with pytest.raises(Exception, match="in use by process"):
        other.refresh()
    go_on.set()
    thread.join(30)
    assert problems == []
    other.refresh()
    assert served.path.read_bytes() == DATA


def test_no_room_is_told_before_anything_is_fetched(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(tmp_path, DATA, site)
    client = served.client()
    client.refresh()
    real = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((*real[:4], 10, *real[5:])))
    with pytest.raises(OtaError) as caught:
        client.download("m/model", served.path)
    assert caught.value.reason == "no_space"
    assert served.asked(site) == []
    monkeypatch.undo()
    client.download("m/model", served.path)
