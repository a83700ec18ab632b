"""What an update leaves behind when it is cut at any step: our client, and python-tuf's own.

`python -m benchmarks.ota [--json FILE]`
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.ngclient import FetcherInterface, Updater

from benchmarks.disk_steps import PowerCut, Step, Steps
from benchmarks.report import OURS, Report
from cloud_sync.rollout.ceremony import Ceremony, Quorum
from cloud_sync.rollout.online import ROLES, OnlineRoles
from cloud_sync.rollout.repository import Repository
from cloud_sync.storage.local_store import LocalStore
from edge_agent.errors import AgentError
from edge_agent.ota.client import TufClient
from edge_agent.ota.folder import METADATA, TARGETS, FolderFetcher
from wire.clock import SystemClock
from wire.release import FILES, FileRef, Needs, Release

METHOD = """A gateway has release 1 (metadata cached, file in place). The repository then has two new roots (keys of
snapshot and timestamp rotated), release 2 and new metadata. One refresh and download is cut before each step that
changes the disk: by SIGKILL; by ENOSPC at it and every later step that needs room; by EIO at it; by a power cut
that loses what was not fsynced, bytes and names (lost) or bytes alone (zeroed). Then the fault is gone and a new
process does the same once more. dead: it fails, or the file is not release 2. torn: right after the fault the file
is neither release 1 nor release 2. python-tuf's client runs with its cached root as anchor, and with an embedded
one. Each client has its own number of steps."""
FAMILY = "pump"
MODEL_BYTES = 200_000
CASES = ("SIGKILL", "ENOSPC", "EIO", "lost", "zeroed")


@dataclass(frozen=True, slots=True)
class Site:
    """A repository in a folder, its first root, and the newest release's file."""

    folder: Path
    root: bytes
    target: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Client:
    """`run(device, site, target)` is one refresh and download; `errors` are the ones that it may fail with."""

    name: str
    run: Callable[[Path, Site, str], None]
    errors: tuple[type[Exception], ...]


class _FolderTuf(FetcherInterface):
    """python-tuf's port to the network: files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self._folder / url.removeprefix("file:///")
        if not path.exists():
            raise DownloadHTTPError(f"{url} is not there", 404)
        data = path.read_bytes()
        for begin in range(0, len(data), 65_536):
            yield data[begin : begin + 65_536]


def ours(device: Path, site: Site, target: str) -> None:
    """One refresh and download by the gateway's client, as the agent starts it."""
    client = TufClient(device / "metadata", METADATA, TARGETS, FolderFetcher(site.folder), SystemClock())
    client.init(site.root)
    client.download(target, device / "store" / "model")


def by_python_tuf(embedded: bool) -> Callable[[Path, Site, str], None]:
    """The same by `tuf.ngclient`."""

    def run(device: Path, site: Site, target: str) -> None:
        metadata = device / "metadata"
        metadata.mkdir(parents=True, exist_ok=True)
        (device / "store").mkdir(exist_ok=True)
        first = site.root if embedded or not any(metadata.iterdir()) else None
        updater = Updater(
            str(metadata),
            f"file:///{METADATA}",
            target_base_url=f"file:///{TARGETS}",
            fetcher=_FolderTuf(site.folder),
            bootstrap=first,
        )
        updater.refresh()
        found = updater.get_targetinfo(target)
        assert found is not None
        updater.download_target(found, str(device / "store" / "model"))

    return run


def clients() -> list[Client]:
    """Who is measured."""
    name, errors = f"python-tuf {version('tuf')}", (RepositoryError, OSError)
    return [
        Client(OURS, ours, (AgentError,)),
        Client(name, by_python_tuf(embedded=False), errors),
        Client(f"{name}, embedded root", by_python_tuf(embedded=True), errors),
    ]


def sites(folder: Path) -> tuple[Site, Site]:
    """The repository before and after."""
    clock, store = SystemClock(), LocalStore(folder / "objects")
    repository = Repository(store)
    ceremony = Ceremony(repository, clock)
    root, targets, team = (Quorum([CryptoSigner.generate_ed25519() for _ in range(3)], 2) for _ in range(3))
    online = {role: CryptoSigner.generate_ed25519() for role in (*ROLES, "director")}
    first = ceremony.begin(root, targets, online)
    ceremony.add_family(FAMILY, team, targets.signers)
    made = []
    for counter in (1, 2):
        files = {name: bytes([counter]) * MODEL_BYTES for name in FILES}
        release = _release(counter, files)
        ceremony.release(release, files, team.signers, lambda _: None)
        OnlineRoles(repository, online, clock, lambda _: None).tick()
        site = folder / f"site{counter}"
        shutil.copytree(folder / "objects" / "ota", site)
        made.append(Site(site, first, release.file_target("model.onnx"), files["model.onnx"]))
        for role in ROLES:
            online[role] = CryptoSigner.generate_ed25519()
            ceremony.rotate(role, Quorum([online[role]], 1), root.signers)
    return made[0], made[1]


def _release(counter: int, files: dict[str, bytes]) -> Release:
    needs = Needs(("*",), "0.1.0", "1.22", 17, 50.0, 64.0)
    refs = {name: FileRef(sha256(data).hexdigest(), len(data)) for name, data in files.items()}
    return Release(FAMILY, counter, counter, "0" * 64, needs, refs)


@dataclass
class Count:
    """Of one client in one case."""

    states: int = 0
    dead: int = 0
    torn: int = 0


class Matrix:
    """One client: every step × every case."""

    def __init__(self, client: Client, before: Site, after: Site, folder: Path) -> None:
        self._client = client
        self._after = after
        self._folder = folder
        self._good = {before.content, after.content}
        self._start = folder / "start"
        client.run(self._start, before, before.target)
        self._steps = self._recorded()

    def run(self, case: str, every: int = 1) -> Count:
        """One case at every step, or at every so many."""
        places = range(0, len(self._steps), every)
        count = Count(len(places))
        for at in places:
            device = self._cut(case, at)
            count.torn += self._model(device) not in self._good
            count.dead += not self._recovers(device)
            shutil.rmtree(device)
        return count

    def _recorded(self) -> list[Step]:
        device = self._copy()
        steps = Steps(device)
        with steps.watching():
            self._client.run(device, self._after, self._after.target)
        self._root = device
        return steps.done

    def _copy(self) -> Path:
        """The device as it starts, always under the same path."""
        device = self._folder / "device"
        shutil.rmtree(device, ignore_errors=True)
        shutil.copytree(self._start, device, symlinks=True)
        return device

    def _cut(self, case: str, at: int) -> Path:
        device = self._copy()
        if case in {"lost", "zeroed"}:
            disk = PowerCut(device)
            for step in self._steps[:at]:
                disk.take(step)
            shutil.rmtree(device)
            disk.write("nothing" if case == "lost" else "names", self._root, device)
            return device
        fault = None if case == "SIGKILL" else getattr(errno, case)
        steps = Steps(device, fault, at, kill=case == "SIGKILL")
        child = os.fork()
        if child == 0:
            self._die_cleanly(device, steps)
        _, status = os.waitpid(child, 0)
        expected = -signal.SIGKILL if case == "SIGKILL" else 0
        assert os.waitstatus_to_exitcode(status) == expected, (self._client.name, case, at, status)
        return device

    def _die_cleanly(self, device: Path, steps: Steps) -> NoReturn:
        """In a child: 0 for done or an error that the client promises, 1 for any other."""
        code = 1
        try:
            with suppress(*self._client.errors), steps.watching():
                self._client.run(device, self._after, self._after.target)
            code = 0
        finally:
            os._exit(code)

    def _recovers(self, device: Path) -> bool:
        try:
            self._client.run(device, self._after, self._after.target)
        except self._client.errors:
            return False
        return self._model(device) == self._after.content

    @staticmethod
    def _model(device: Path) -> bytes:
        try:
            return (device / "store" / "model").read_bytes()
        except FileNotFoundError:
            return b""


def measure(chosen: Sequence[Client]) -> Report:
    """The whole matrix, each client on the same repository."""
    report = Report("ota", METHOD, ("tuf", "securesystemslib", "cryptography"))
    with tempfile.TemporaryDirectory(prefix="tidegate-ota-") as name:
        before, after = sites(Path(name))
        for number, client in enumerate(chosen):
            began = _spent_s()
            matrix = Matrix(client, before, after, Path(name) / "devices" / str(number))
            counts = {case: matrix.run(case) for case in CASES}
            total = Count(*(sum(getattr(one, part) for one in counts.values()) for part in ("states", "dead", "torn")))
            for case, one in {"kill matrix": total, **counts}.items():
                report.add(client.name, case, "states", one.states, "states")
                report.add(client.name, case, "dead_states", one.dead, "states")
                report.add(client.name, case, "torn_states", one.torn, "states")
            report.add(client.name, "kill matrix", "seconds", _spent_s() - began, "s CPU")
    return report


def _spent_s() -> float:
    """CPU of this process and its children."""
    return sum(os.times()[:4])


def main() -> None:
    """Print the table; write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="file to write")
    arguments = parser.parse_args()
    measure(clients()).finish(arguments.json)


if __name__ == "__main__":
    main()
