"""This gateway's certificate and key: there, a pair, private, of the cloud's CA, valid, and renewed in time."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.config.model import CloudSection, Config
from edge_agent.config.values import show_span
from edge_agent.doctor.account import Account
from edge_agent.doctor.clock import YEARS, year_of
from edge_agent.doctor.finding import Finding, all_skipped, failed, ok, warning
from edge_agent.enrol.keys import validity
from edge_agent.enrol.renewal import RETRY_S_MAX, renewal_due_s
from edge_agent.errors import CredentialsRejected, LinkDown
from edge_agent.sync.credentials import Credentials
from wire.clock import NS_PER_S, Clock

IDS = (
    "certificate.files",
    "certificate.permissions",
    "certificate.key",
    "certificate.validity",
    "certificate.renewal",
    "certificate.chain",
)
CERTIFICATE_BYTES_MAX = 1 << 20
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_certificate(config: Config, account: Account, clock: Clock) -> Iterator[Finding]:
    """Dates are believed only of a clock that shows a possible year."""
    if config.cloud is None:
        yield from all_skipped(IDS, "there is no certificate here, or none that this user may see")
        return
    again = "edge-agent join TOKEN" if config.is_by_identity else "edge-agent config show"
    yield (files := _files(config.cloud, account, again))
    if files.result != "ok":
        yield from all_skipped(IDS[1:], "not every file is there and readable")
        return
    yield _permissions(Path(config.cloud.key))
    credentials = Credentials(Path(config.cloud.ca), Path(config.cloud.cert), Path(config.cloud.key))
    try:
        credentials.read()
    except (CredentialsRejected, LinkDown) as error:
        yield failed("certificate.key", str(error).partition(" Try: ")[0].rstrip("."), again)
        yield from all_skipped(IDS[3:], "there is no certificate with its key")
        return
    yield ok("certificate.key", f"{config.cloud.key} is the key of {config.cloud.cert}")
    if year_of(clock) not in YEARS:
        yield from all_skipped(IDS[3:], "the clock is not to be believed")
        return
    life = validity(credentials.cert.read_bytes()[:CERTIFICATE_BYTES_MAX])
    yield from _dates(life, clock.wall_ns() / NS_PER_S, credentials.renewal)
    if life[0] <= clock.wall_ns() / NS_PER_S <= life[1]:
        yield _chain(credentials, again)
    else:
        yield from all_skipped(IDS[5:], "the certificate is not valid now")


def _files(cloud: CloudSection, account: Account, again: str) -> Finding:
    for path in map(Path, (cloud.ca, cloud.cert, cloud.key)):
        if not path.is_file():
            return failed("certificate.files", f"{path} is not there", again)
        if not account.may(path, os.R_OK):
            own = f"sudo chown {account.name}: {shlex.quote(str(path))}"
            return failed("certificate.files", f"{account.name} may not read {path}", own)
        with path.open("rb"):  # this user must read it too: a PermissionError is told as such
            pass
    return ok("certificate.files", "CA, certificate and key are there")


def _permissions(key: Path) -> Finding:
    mode = stat.S_IMODE(key.stat().st_mode)
    if mode & OTHERS:
        text = f"{key} has mode {mode:04o}: others may use this gateway's key"
        return failed("certificate.permissions", text, f"sudo chmod 600 {shlex.quote(str(key))}")
    return ok("certificate.permissions", f"{key} has mode {mode:04o}")


def _dates(life: tuple[int, int], now_s: float, renew: str) -> Iterator[Finding]:
    start_s, end_s = life
    if now_s < start_s:
        yield failed("certificate.validity", f"the certificate is valid only from {_day(start_s)}", "date -u")
    elif now_s > end_s:
        yield failed("certificate.validity", f"the certificate ended on {_day(end_s)}", renew)
    else:
        yield ok("certificate.validity", f"the certificate is valid until {_day(end_s)}")
        late_s = now_s - renewal_due_s(start_s, end_s)
        if late_s > RETRY_S_MAX:
            text = f"renewal is due since {show_span(late_s)}; the certificate ends in {show_span(end_s - now_s)}"
            yield warning("certificate.renewal", text, renew)
        else:
            yield ok("certificate.renewal", f"renewal is due in {show_span(max(0.0, -late_s))}")
        return
    yield from all_skipped(("certificate.renewal",), "the certificate is not valid now")


def _chain(credentials: Credentials, again: str) -> Finding:
    problem, _ = credentials.own_look()
    if problem:
        text = f"{credentials.cert} is not of the CA in {credentials.ca}: {problem}"
        return failed("certificate.chain", text, again)
    return ok("certificate.chain", f"{credentials.cert} is of the CA in {credentials.ca}")


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
