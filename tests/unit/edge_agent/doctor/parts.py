"""A gateway on disk, healthy until a test breaks it, and servers that stand where its cloud should."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cloud_sync.auth.ca import PkiFiles, create_ca
from cloud_sync.data_folder import DataFolder, initialise, issue_certificate
from edge_agent.doctor.examination import Examination, examine
from edge_agent.doctor.finding import Finding, Result
from tests.unit.edge_agent.outbox.parts import Hands
from wire.clock import SystemClock

SENSOR = """
[[sensor]]
id = "oven"
driver = "csv-replay"
path = "oven.csv"
loop = true
columns = [{ name = "heat", unit = "Cel", resolution = 0.01 }]
"""
CLOUD = '[cloud]\nurl = "https://{address}"\nca = "keys/ca.pem"\ncert = "keys/cert.pem"\nkey = "keys/key.pem"\n'
BUDGET = '[buffer]\nmax_size = "8 MB"\n'


class Patient:
    """Its configuration and files; `examine` runs every check with a clock that is right unless a test moves it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state, self.run, self.keys = folder / "state", folder / "run", folder / "keys"
        self.file = folder / "agent.toml"
        self.clock = Hands(wall_s=SystemClock().wall_ns() / 1e9)
        self.state.mkdir(0o700)
        self.run.mkdir(0o700)
        (folder / "oven.csv").write_text("heat\n20.01\n20.02\n")
        self.write()

    def write(self, text: str = "", agent: str = "", buffer: str = BUDGET) -> None:
        head = f'[agent]\nstate_dir = "state"\nruntime_dir = "run"\n{agent}\n'
        self.file.write_text(head + buffer + text + SENSOR)

    def reaches(self, address: str, more: str = "") -> None:
        self.write(CLOUD.format(address=address) + more)

    def issue(self, days: int = 90, clock: Hands | None = None) -> DataFolder:
        """A cloud's keys, and a certificate of them for this gateway."""
        data = DataFolder(self.folder / "cloud")
        initialise(data, (), SystemClock())
        issue_certificate(data, "gw", self.keys, days, clock or SystemClock())
        return data

    def examine(self, user: str = "") -> Examination:
        return examine(self.file, user, self.clock)

    def find(self, check: str, user: str = "") -> Finding:
        """The one finding of a check."""
        (found,) = (each for each in self.examine(user).findings if each.id == check)
        return found


def assert_found(found: Finding, *words: str, result: Result = Result.FAILED) -> None:
    """It is found, in words, with a command that helps."""
    assert found.result is result, found
    assert found.fix, found
    for word in words:
        assert word in found.text, found


@contextmanager
def listening(context: ssl.SSLContext | None) -> Iterator[str]:
    """A server that accepts and, without a context, says nothing; with one it shakes hands and reads."""
    done = threading.Event()

    def serve(server: socket.socket) -> None:
        held = []
        while not done.is_set():
            with suppress(OSError):
                connection, _ = server.accept()
                connection.settimeout(1)
                held.append(connection)
                if context is not None:
                    held.append(context.wrap_socket(connection, server_side=True))
        for each in held:
            each.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            done.set()
            thread.join()


def of_another_ca(folder: Path) -> ssl.SSLContext:
    """What a cloud shows that is not ours."""
    files = PkiFiles(folder)
    folder.mkdir()
    create_ca(files, ("127.0.0.1",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server, files.server_key)
    return context
