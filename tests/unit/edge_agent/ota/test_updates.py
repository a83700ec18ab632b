"""Updates in the agent: the real process, fed piece by piece from a real repository; each step is reported once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloud_sync.auth.ca import PkiFiles, create_ca, issue_gateway
from cloud_sync.rollout.shelf import Shelf
from edge_agent.errors import LinkDown
from edge_agent.ota.live import Live
from edge_agent.ota.updates import UpdateService
from tests.unit.edge_agent.ota.releases import Gateway, nan_above, write_model
from wire.assignment import Assigned, Assignment
from wire.clock import US_PER_S, SystemClock
from wire.fetching import FetchRequest, encode_piece
from wire.release import Release
from wire.sync.leave import Leave

WAIT_S = 120.0


class ShelfLine:
    """The connection, with the cloud's shelf at its other end."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.open = True
        self.open_pieces = 1 << 30  # then nothing may leave any more
        self.pieces: list[tuple[str, int, int]] = []
        self.pieces_max = 1 << 30  # then the link breaks
        self.news = 0

    async def call(self, method: str, data: bytes, timeout_s: float) -> bytes:
        request = FetchRequest.decode(data)
        if len(self.pieces) >= self.pieces_max:
            raise LinkDown("cut")
        piece = self.shelf.piece(request)
        self.pieces.append((request.path, request.offset, len(piece.data) if piece else 0))
        return encode_piece(piece)

    def leave(self) -> Leave:
        bulk = self.open and len(self.pieces) < self.open_pieces
        return Leave(bulk=bulk, why="" if bulk else "the window is shut")

    def reported(self) -> None:
        self.news += 1


class Bench(Gateway):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder, datetime.now(UTC))
        files = PkiFiles(folder / "pki")
        files.folder.mkdir()
        create_ca(files, [])
        certificate = folder / "cert.pem"
        certificate.write_bytes(issue_gateway(files, "gw-a", datetime.now(UTC), 1).issued.pem)
        self.client()
        (self.state / "ota").mkdir(parents=True)
        (folder / "gateway").rename(self.state / "ota" / "metadata")
        self.line = ShelfLine(Shelf(self.store))
        self.loads = 0
        self.counter = 0
        self.service = UpdateService(self.state, certificate, SystemClock(), self._loaded, Live("", []))

    def _loaded(self) -> None:
        self.loads += 1

    def tell(self, *releases: Assigned, nonce: bytes | None = None) -> None:
        """A new stream, and what the Director says on it."""
        self.counter += 1
        now_us = SystemClock().wall_ns() // 1000
        fresh = self.service.nonce()
        told = Assignment("gw-a", self.counter, releases, now_us, now_us + 3600 * US_PER_S, nonce or fresh)
        self.service.assigned(self.sealed(told), fresh)

    def steps(self) -> list[tuple[str, str, str]]:
        return [(report.release, report.stage, report.reason) for report in self.service.reports()]

    def published(self, version: int, **options: Callable[..., None]) -> Release:
        return self.publish(write_model(self.folder / f"m{version}", version, **options))  # type: ignore[arg-type]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.service.run(self.line))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - it looks at files of another process
            await asyncio.sleep(0.02)


GOOD = ["assigned", "downloaded", "tested", "staged", "probation"]


async def test_what_is_assigned_runs_and_each_step_is_reported_once(bench: Bench) -> None:
    release = bench.published(1)
    async with bench.running():
        bench.tell(bench.assigned(release))
        await until(lambda: bench.loads == 1 and len(bench.steps()) == 5)
        assert bench.steps() == [("toy/1", stage, "") for stage in GOOD]
        assert (bench.active(), bench.service.running()) == ("1", (("toy", "toy/1"),))
        ids = [report.id for report in bench.service.reports()]
        bench.service.reports_acked(ids[:2])
        bench.service.reports_acked(ids[2:])
        await until(lambda: bench.slots.untold() == [])
        count = len(bench.line.pieces)
    bench.tell(bench.assigned(release))
    assert await bench.service._round(bench.line) == (None, "")
    assert (len(bench.line.pieces), bench.steps()) == (count, []), "nothing to do costs nothing"


async def test_a_bad_release_is_refused_once_and_the_reason_reported(bench: Bench) -> None:
    good, bad = bench.published(1), bench.published(2, edit=lambda model: nan_above(model, 2.0))
    async with bench.running():
        bench.tell(bench.assigned(good))
        await until(lambda: bench.loads == 1)
        bench.tell(bench.assigned(bad))
        await until(lambda: ("toy/2", "refused", "golden") in bench.steps())
        assert bench.active() == "1"
        count = len(bench.line.pieces)
    bench.tell(bench.assigned(bad))
    assert await bench.service._round(bench.line) == (None, "")
    assert len(bench.line.pieces) == count, "it is not tried again"


async def test_a_link_that_breaks_costs_no_piece_twice(bench: Bench) -> None:
    release = bench.assigned(bench.published(1))
    bench.line.pieces_max = 8
    async with bench.running():
        bench.tell(release)
        await until(lambda: ("toy/1", "delayed", "unreachable") in bench.steps())
        bench.line.pieces_max = 1 << 30
        bench.tell(release)
        await until(lambda: bench.loads == 1)
    targets = [(path, offset) for path, offset, size in bench.line.pieces if path.startswith("targets/") and size]
    assert len(targets) == len(set(targets))


async def test_while_nothing_may_leave_nothing_is_fetched(bench: Bench) -> None:
    release = bench.assigned(bench.published(1))
    bench.line.open = False
    async with bench.running():
        bench.tell(release)
        await asyncio.sleep(0.3)
        assert (bench.line.pieces, bench.steps()) == ([], [])
        bench.line.open = True
        bench.tell(release)
        await until(lambda: bench.loads == 1)


async def test_what_shuts_during_a_download_stops_it_between_two_pieces(bench: Bench) -> None:
    bench.tell(bench.assigned(bench.published(1)))
    bench.line.open_pieces = 4
    assert await bench.service._round(bench.line) == (None, "held")
    assert (len(bench.line.pieces), bench.active()) == (4, "factory")


async def test_a_document_of_another_stream_is_refused_and_reported(bench: Bench) -> None:
    release = bench.assigned(bench.published(1))
    async with bench.running():
        bench.tell(release, nonce=b"old nonce of a stream")
        await until(lambda: bool(bench.steps()))
        assert bench.steps() == [("", "refused", "replayed")]
        bench.service.assigned(b"{}", b"n" * 16)
        await until(lambda: len(bench.steps()) == 2)
        assert bench.steps()[1] == ("", "refused", "malformed")
        assert bench.line.pieces == []
        bench.service.reports_acked([report.id for report in bench.service.reports()])
        assert bench.steps() == []


async def test_a_forged_document_is_found_by_the_process(bench: Bench) -> None:
    release = bench.assigned(bench.published(1))
    bench.online["director"] = bench.online["snapshot"]
    async with bench.running():
        bench.tell(release)
        await until(lambda: ("", "refused", "signature") in bench.steps())
    assert bench.active() == "factory"


async def test_the_agent_s_end_is_the_process_end(bench: Bench) -> None:
    release = bench.assigned(bench.published(1))
    async with bench.running():
        bench.tell(release)
        await until(lambda: len(bench.line.pieces) > 2)
    with bench.slots.changing():  # nobody holds it any more
        pass
    async with bench.running():
        bench.tell(release)
        await until(lambda: bench.loads == 1)
