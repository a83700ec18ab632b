"""The way to the cloud, one step after another: name, connection, TLS, and this gateway's certificate in it."""

from __future__ import annotations

import errno
import shlex
import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from edge_agent.config.model import CloudSection, Config
from edge_agent.doctor.finding import SUDO, Finding, all_skipped, failed, ok, skipped, warning
from edge_agent.enrol.identity import FOLDER
from edge_agent.errors import CredentialsRejected
from edge_agent.sync.credentials import Credentials, Ended
from wire.join import join_address, split_address

IDS = ("cloud.joined", "cloud.dns", "cloud.tcp", "cloud.tls", "cloud.mtls")
DNS_S_MAX = 5.0
TCP_S_MAX = 5.0
ADDRESSES_MAX = 4
PORT = 8443


def check_cloud(config: Config) -> Iterator[Finding]:
    """Each step apart; those after a failed one are skipped."""
    if config.cloud is None:
        yield (unjoined := _unjoined(config.state_dir))
        yield from all_skipped(IDS[1:], unjoined.text)
        return
    by = "with the joined identity" if config.is_by_identity else "with the files of [cloud]"
    try:
        host, port = split_address(config.cloud.address, PORT)
    except ValueError:  # what was written may hold a password
        yield failed("cloud.joined", "[cloud] url is not https://HOST:PORT", "edge-agent config show")
        yield from all_skipped(IDS[1:], "there is no address to try")
        return
    yield ok("cloud.joined", f"the cloud is {join_address(host, port)}, reached {by}")
    yield from _steps(config.cloud, host, port)


def _unjoined(state_dir: Path) -> Finding:
    try:
        (state_dir / FOLDER / "join.json").stat()
    except PermissionError:
        return skipped("cloud.joined", f"this user may not look into {state_dir / FOLDER}", SUDO)
    except OSError:
        text = "not joined: readings are collected and kept, none is sent"
        return warning("cloud.joined", text, "edge-agent join TOKEN")
    return skipped("cloud.joined", f"this user may not read {state_dir / FOLDER}", SUDO)


def _steps(cloud: CloudSection, host: str, port: int) -> Iterator[Finding]:
    addresses, problem = resolve(host, port)
    if not addresses:
        yield failed("cloud.dns", f"{host}: {problem}", f"getent hosts {shlex.quote(host)}")
        yield from all_skipped(IDS[2:], "the name of the cloud has no address")
        return
    yield ok("cloud.dns", f"{host} is {', '.join(addresses)}" if addresses != [host] else f"{host} needs no name")
    address, refused = connect(addresses, port)
    if address is None:
        text = f"{join_address(host, port)} cannot be reached: {refused.strerror or refused}"
        yield failed("cloud.tcp", text, _tcp_fix(addresses[0], port, refused))
        yield from all_skipped(IDS[3:], "nobody answers there")
        return
    yield ok("cloud.tcp", f"{join_address(address, port)} answers")
    credentials = Credentials(Path(cloud.ca), Path(cloud.cert), Path(cloud.key))
    tls = _tls(credentials, cloud.server_name or host, address, port)
    yield tls
    if tls.result != "ok":
        yield skipped("cloud.mtls", "there is no trusted TLS to show a certificate in")
        return
    yield _mtls(credentials, cloud.server_name or host, address, port)


def resolve(host: str, port: int) -> tuple[list[str], str]:
    """Addresses of a host, and why there are none. The resolver has no deadline of its own: it gets a thread."""
    try:
        return [str(ip_address(host))], ""
    except ValueError:
        pass
    found: list[str] = []
    problem = [f"no answer of the resolver within {DNS_S_MAX:g} s"]

    def ask() -> None:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            problem[0] = str(getattr(error, "strerror", None) or error)
        else:
            found.extend(dict.fromkeys(str(row[4][0]) for row in rows))

    thread = threading.Thread(target=ask, name="resolver", daemon=True)
    thread.start()
    thread.join(DNS_S_MAX)
    return list(found)[:ADDRESSES_MAX], problem[0]


def connect(addresses: list[str], port: int) -> tuple[str | None, OSError]:
    """The first address that answers, or None and what the last one said. All together within TCP_S_MAX."""
    last = OSError()
    for address in addresses:
        try:
            socket.create_connection((address, port), TCP_S_MAX / len(addresses)).close()
        except OSError as error:
            last = error
        else:
            return address, last
    return None, last


def _tcp_fix(address: str, port: int, error: OSError) -> str:
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN):
        return f"ip route get {address}"
    return f"nc -vz {address} {port}"


def _tls(credentials: Credentials, name: str, address: str, port: int) -> Finding:
    """Is that our cloud? Nothing of this gateway is shown."""
    look = f"openssl s_client -connect {join_address(address, port)} -servername {shlex.quote(name)} </dev/null"
    try:
        found = credentials.handshake(address, port, name, present=False)
    except CredentialsRejected as error:
        if not _readable(credentials.ca):
            return skipped("cloud.tls", f"this user may not read {credentials.ca}", SUDO)
        return failed("cloud.tls", str(error), "edge-agent join TOKEN")
    if found.ended is Ended.UNTRUSTED:
        text = f"what answers as {name} has no certificate of {credentials.ca}: {found.why}"
        return failed("cloud.tls", text, look)
    if found.ended is Ended.CUT:
        return failed("cloud.tls", f"{join_address(address, port)} speaks no TLS: {found.why}", look)
    return ok("cloud.tls", f"{name} shows a certificate of {credentials.ca}")


def _mtls(credentials: Credentials, name: str, address: str, port: int) -> Finding:
    """Does it take this gateway's certificate?"""
    try:
        found = credentials.handshake(address, port, name)
    except CredentialsRejected as error:
        if not _readable(credentials.key):
            return skipped("cloud.mtls", f"this user may not read {credentials.key}", SUDO)
        return skipped("cloud.mtls", f"there is no certificate to show: {error}")
    if found.ended is Ended.TAKEN:
        return ok("cloud.mtls", "the cloud takes this gateway's certificate")
    if found.ended is Ended.REFUSED:
        return failed(
            "cloud.mtls", f"the cloud refuses {credentials.cert}; {credentials.own_doubt()}", credentials.renewal
        )
    text = f"the cloud does not answer this gateway's certificate: {found.why}"
    return failed("cloud.mtls", text, "edge-agent sync explain")


def _readable(path: Path) -> bool:
    """False only where this user is what stands in the way."""
    try:
        with path.open("rb"):
            return True
    except PermissionError:
        return False
    except OSError:
        return True
