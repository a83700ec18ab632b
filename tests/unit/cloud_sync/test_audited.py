"""What changes something stands in the audit: over every command, every route and every RPC that there is.

The lists come from the click groups, the application's routes and the protos' descriptors. One that is not declared
here fails; one that is declared to change nothing is called and the catalog compared; one that is declared to be
audited is called and its rows are read.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import httpx
import pytest

from cloud_sync.auth.credentials import Kind
from cloud_sync.auth.roles import Role
from cloud_sync.catalog.access import Candidate
from cloud_sync.catalog.actors import ACTOR_LOCAL
from cloud_sync.catalog.join_tokens import TokenTerms
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.cli import main as cloud_sync
from cloud_sync.ota_cli import main as edge_ota
from tests.unit.cloud_sync.gateway import hello
from tests.unit.cloud_sync.grpc_api import test_authorisation as rpcs
from tests.unit.cloud_sync.grpc_api.test_authorisation import cloud as cloud  # noqa: PLC0414 - a fixture
from tests.unit.cloud_sync.grpc_api.test_authorisation import peers as peers  # noqa: PLC0414 - a fixture
from tests.unit.cloud_sync.grpc_api.test_server import Cloud as Service
from tests.unit.cloud_sync.http_api.serving import bearer, served
from tests.unit.cloud_sync.http_api.test_gate import OURS, routes_of
from tests.unit.cloud_sync.query.seeding import CLIMATE, NOW_US, tick
from tests.unit.cloud_sync.query.seeding import Cloud as Fleet
from tests.unit.cloud_sync.test_ota_cli import place as place  # noqa: PLC0414 - a fixture
from tests.unit.cloud_sync.test_ota_cli import run
from wire.clock import SystemClock
from wire.join import JOIN_METHOD, LEAVE_METHOD, RECOVER_METHOD, RENEW_METHOD, JoinToken
from wire.messages import SYNC_METHOD

LOCAL, KEYS = re.escape(ACTOR_LOCAL), r"keys [0-9a-f]{12}(, [0-9a-f]{12})*"
ID = "[0-9a-z]{10,12}"  # of a join token, or of anything else
Row = tuple[str, str, str]  # patterns of actor, action and subject


@dataclass(frozen=True)
class Changes:
    """Arguments to call a command with, and the rows that it leaves, oldest first. `first`: what must be there."""

    arguments: str
    rows: tuple[Row, ...]
    first: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Reads:
    """Arguments to call a command with that changes nothing; `code`: its exit code."""

    arguments: str
    code: int = 0


@dataclass(frozen=True)
class Apart:
    """Why it is not called here."""

    why: str


def local(action: str, subject: str) -> tuple[Row, ...]:
    return ((LOCAL, action, subject),)


@contextmanager
def catalog() -> Iterator[SqlCatalog]:
    with closing(SqlCatalog.open(Path("data/catalog.sqlite"), SystemClock())) as opened:
        yield opened


def newest(kind: str) -> str:
    """The id of what was made last: a join token, a link, an API token, a webhook."""
    with catalog() as opened:
        return next(row.subject for row in opened.audit.rows(99) if row.action == kind)


def ask_to_join(cloud: SqlCatalog) -> None:
    """gw-w does, and is told to wait."""
    token = JoinToken.new(bytes(32), "cloud:1")
    cloud.join_tokens.create(token, TokenTerms(60, 1, "", False, {}, ""))
    who = Candidate("gw-w", bytes(32), "WAIT-1234", b"m", "1")
    assert cloud.access.join(token.id, token.secret, who, lambda _: pytest.fail("nobody approved")) is None


def wait_for_approval() -> None:
    with catalog() as opened:
        ask_to_join(opened)


def machine_seen() -> None:
    with catalog() as opened:
        opened.hello("kiln-7", hello())


COMMANDS: dict[str, Changes | Reads | Apart] = {  # in the order in which they are called
    "cloud-sync version": Reads(""),
    "cloud-sync serve": Apart("what it does on its own or when asked is in the tables of routes and RPCs"),
    "cloud-sync init": Changes("--data fresh", ((LOCAL, "cloud.init", "[0-9a-f]{16}"), (LOCAL, "link.create", ID))),
    "cloud-sync cert issue": Changes("gw-c --data data --out gw-c", local("gateway.issue", "gw-c")),
    "cloud-sync cert show": Reads("data/pki/ca.pem"),
    "cloud-sync pack": Reads("no-such-file", 78),
    "cloud-sync token create": Changes("--data data", local("token.create", ID)),
    "cloud-sync token list": Reads("--data data"),
    "cloud-sync token revoke": Changes("{token.create} --data data", local("token.revoke", ID)),
    "cloud-sync gateway list": Reads("--data data"),
    "cloud-sync gateway approve": Changes(
        "WAIT-1234 --data data", local("gateway.approve", "gw-w"), first=wait_for_approval
    ),
    "cloud-sync gateway revoke": Changes("gw-c --data data --reason sold", local("gateway.revoke", "gw-c")),
    "cloud-sync audit": Reads("--data data"),
    "cloud-sync ledger": Reads("--data data"),
    "cloud-sync machine retire": Changes(
        f"kiln-7 {hello().machine.hex()} --data data", local("machine.retire", "kiln-7"), first=machine_seen
    ),
    "cloud-sync machine list": Reads("kiln-7 --data data"),
    "cloud-sync ca show": Reads("--data data"),
    "cloud-sync ca introduce": Changes("--data data", local("ca.introduce", ".+")),
    "cloud-sync ca switch": Changes("--data data", local("ca.switch", ".+")),
    "cloud-sync ca retire": Changes("--data data --force", local("ca.retire", ".+")),
    "cloud-sync admin-link": Changes("--data data", local("link.create", ID)),
    "cloud-sync api-token create": Changes("grafana --data data", local("api-token.create", ID)),
    "cloud-sync api-token list": Reads("--data data"),
    "cloud-sync api-token revoke": Changes("{api-token.create} --data data", local("api-token.end", ID)),
    "cloud-sync webhook add": Changes("http://127.0.0.1:1/ --allow-private --data data", local("webhook.add", ID)),
    "cloud-sync webhook list": Reads("--data data"),
    "cloud-sync webhook test": Reads("{webhook.add} --data data", 1),
    "cloud-sync webhook remove": Changes("{webhook.add} --data data", local("webhook.remove", ID)),
    "edge-ota key token": Apart("writes into the folder of whoever holds the keys; no part of the cloud"),
    "edge-ota key init": Changes(
        "--keys keys --data data --family value-novelty --threshold 1 --of 1",
        ((KEYS, "ota.keys", "root"), (KEYS, "ota.keys", "targets"), (KEYS, "ota.publish", "value-novelty")),
    ),
    "edge-ota model push": Changes(
        "models/value-novelty/1 --keys keys --data data", ((KEYS, "ota.publish", "value-novelty"),)
    ),
    "edge-ota key rotate": Changes("timestamp --keys keys --data data", ((KEYS, "ota.keys", "root"),)),
    "edge-ota model list": Reads("--data data"),
    "edge-ota model show": Reads("value-novelty/1 --data data"),
    "edge-ota model verify": Reads("--root keys/root.json --data data"),
    "edge-ota assign": Changes("kiln-7 value-novelty/1 --data data", local("ota.assign", "kiln-7")),
    "edge-ota status": Reads("--data data"),
    "edge-ota explain": Reads("kiln-7 --data data"),
    "edge-ota rollback": Changes(
        "kiln-7 value-novelty/1 --keys keys --data data",
        ((KEYS, "ota.publish", "value-novelty"), (LOCAL, "ota.assign", "kiln-7")),
        first=lambda: run("edge-ota model push models/value-novelty/1 --keys keys --data data --p95-ms 21"),
    ),
    "edge-ota export": Changes("--usb stick --family value-novelty --data data", local("ota.export", "value-novelty")),
    "cloud-sync restored": Changes("--data data", local("generation.begin", "[0-9a-f]{16}")),
}


def leaves(command: click.Command, name: str) -> list[str]:
    """Every command below this one, as people type it."""
    if not isinstance(command, click.Group):
        return [name]
    return [each for word, below in command.commands.items() for each in leaves(below, f"{name} {word}")]


def test_every_command_is_declared() -> None:
    assert set(COMMANDS) == {*leaves(cloud_sync, "cloud-sync"), *leaves(edge_ota, "edge-ota")}, (
        "a command without a row here: say that it is audited, and as what, or that it changes nothing"
    )


def kept(folder: Path) -> set[str]:
    """Every row of the catalog (but when a credential was used last), and every other file by its bytes' hash."""
    with closing(sqlite3.connect(folder / "catalog.sqlite")) as opened:
        opened.execute("UPDATE credential SET seen_us = 0")  # not committed
        rows = set(opened.iterdump())
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("catalog.sqlite")]
    return rows | {f"{path} {hash(path.read_bytes())}" for path in files if path.name != "lock"}


def test_every_command_that_changes_something_is_audited(place: Path) -> None:
    for name, declared in COMMANDS.items():
        if isinstance(declared, Apart):
            continue
        if isinstance(declared, Changes):
            declared.first()
        arguments = re.sub(r"\{(\S+)\}", lambda found: newest(found[1]), declared.arguments)
        folder = place / ("fresh" if "fresh" in arguments else "data")
        before = kept(folder) if folder.exists() else set()
        run(f"{name} {arguments}", declared.code if isinstance(declared, Reads) else 0)
        after = kept(folder)
        if isinstance(declared, Reads):
            assert after == before, f"{name} is declared to change nothing"
            continue
        with closing(SqlCatalog.open(folder / "catalog.sqlite", SystemClock())) as opened:
            there = [row for row in opened.audit.rows(99) if not any(_is(row.id, line) for line in before)]
            assert opened.audit.first_broken() is None
        told = [(row.actor, row.action, row.subject) for row in reversed(there)]
        assert len(told) == len(declared.rows), (name, told)
        for row, patterns in zip(told, declared.rows):
            assert all(re.fullmatch(pattern, text) for pattern, text in zip(patterns, row)), (name, row)


def _is(id_: int, line: str) -> bool:
    return line.startswith(f'INSERT INTO "audit" VALUES({id_},')


# -- HTTP -------------------------------------------------------------------------------------------------------------

SESSION, TOKEN = rf"session {ID} \(test\)", rf"api-token {ID} \(test\)"
ROUTES: dict[str, tuple[Row, ...]] = {  # what is no GET: the rows it leaves, when `call` calls it
    "POST /login": ((TOKEN, "session.open", ID),),
    "POST /logout": ((SESSION, "session.end", ID),),
    "POST /v1/enrolments/{code}/approve": ((TOKEN, "gateway.approve", "gw-w"),),
    "POST /v1/gateways/{gateway}/revoke": ((TOKEN, "gateway.revoke", "press-3"),),
}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    made.push("press-3", 1, {CLIMATE: [tick(CLIMATE, NOW_US - 1_000_000, 2100, 4000, 101_325)]})
    yield made
    made.close()


def call(fleet: Fleet, client: httpx.Client, route: str) -> httpx.Response:
    """Each as those who use it do."""
    admin = bearer(fleet, Role.ADMIN)
    token = {"token": admin["authorization"].removeprefix("Bearer ")}
    match route:
        case "POST /login":
            return client.post("/login", data=token, headers=OURS)
        case "POST /logout":
            client.post("/login", data=token, headers=OURS)
            return client.post("/logout", headers=OURS)
        case "POST /v1/enrolments/{code}/approve":
            ask_to_join(fleet.catalog)
            return client.post("/v1/enrolments/WAIT-1234/approve", headers=admin)
        case "POST /v1/gateways/{gateway}/revoke":
            return client.post("/v1/gateways/press-3/revoke", json={"reason": "sold"}, headers=admin)
    raise AssertionError(f"say how {route} is called")


def test_every_route_that_changes_something_is_audited(fleet: Fleet) -> None:
    writing = {f"{method} {path}" for method, path, _ in routes_of(fleet) if method not in ("GET", "HEAD")}
    assert set(ROUTES) == writing, "a route without a row here: say what it leaves in the audit"
    with served(fleet) as base:
        for route, rows in ROUTES.items():
            with httpx.Client(base_url=base, trust_env=False) as client:
                answer = call(fleet, client, route)
            assert answer.status_code in (200, 303), answer.text
            told = list(reversed(fleet.catalog.audit.rows(len(rows))))
            for row, patterns in zip(told, rows):
                found = (row.actor, row.action, row.subject)
                assert all(re.fullmatch(pattern, text) for pattern, text in zip(patterns, found)), (route, found)


def test_no_get_changes_anything(fleet: Fleet, tmp_path: Path) -> None:
    """Whoever asks, and whatever the answer: a link that is looked at is not used up, either."""
    admin, link = bearer(fleet, Role.ADMIN), fleet.catalog.people.create_link()
    assert link.kind is Kind.LINK
    paths = sorted({path for method, path, _ in routes_of(fleet) if method == "GET"})
    known = {"{gateway}": "press-3", "{name}": "console.css"}
    query = {"/login": f"?link={link}", "/v1/query": "?gateway=press-3", "/v1/readings": "?gateway=press-3"}
    before = kept(tmp_path)
    with served(fleet) as base, httpx.Client(base_url=base, trust_env=False) as client:
        for path in paths:
            filled = re.sub(r"\{\w+\}", lambda found: known[found[0]], path) + query.get(path, "")
            with client.stream(
                "GET", f"{filled}{'?gateway=press-3' if path == '/v1/live' else ''}", headers=admin
            ) as got:
                assert got.status_code == 200, (filled, got.read())
                next(got.iter_bytes())
    assert kept(tmp_path) == before


# -- gRPC -------------------------------------------------------------------------------------------------------------

DATA = {  # tables that a Sync stream fills: readings and what became of them, each under the gateway's own name
    *(
        "active_alarm",
        "alarm",
        "assignment_counter",
        "boot_offset",
        "claim",
        "coverage",
        "epoch",
        "gap",
        "gateway",
        "gateway_series_set",
    ),
    *("machine", "message", "message_set", "meta", "pack", "series_set", "tombstone", "update_report"),
}
RPCS: dict[str, tuple[Row, ...]] = {  # the rows that it leaves; none: it reads, or brings readings
    SYNC_METHOD: (),
    rpcs.FETCH_METHOD: (),
    JOIN_METHOD: (
        (LOCAL, "token.create", ID),
        (f"token {ID}", "gateway.request", f"gw-{ID}"),
        (f"token {ID}", "gateway.join", f"gw-{ID}"),
    ),
    RENEW_METHOD: (("gateway gw-a", "gateway.renew", "gw-a"),),
    RECOVER_METHOD: (("gateway gw-a", "gateway.renew", "gw-a"),),
    LEAVE_METHOD: (("gateway gw-a", "gateway.leave", "gw-a"),),
}


def test_every_rpc_is_declared() -> None:
    assert set(RPCS) == set(rpcs.described()), "an RPC without a row here: say what it leaves in the audit"


@pytest.mark.parametrize("rpc", RPCS)
async def test_every_rpc_that_changes_something_is_audited(
    cloud: Service,
    peers: dict[str, rpcs.Peer],
    rpc: str,
) -> None:
    before, newest_id = kept(cloud.folder), cloud.catalog.audit.rows(1)[0].id
    told, detail, _ = await rpcs.outcome(cloud, rpc, peers["valid"])
    assert told is rpcs.Code.OK, detail
    rows = [row for row in reversed(cloud.catalog.audit.rows(9)) if row.id > newest_id]
    assert len(rows) == len(RPCS[rpc]), rows
    for row, patterns in zip(rows, RPCS[rpc]):
        found = (row.actor, row.action, row.subject)
        assert all(re.fullmatch(pattern, text) for pattern, text in zip(patterns, found)), found
    if not RPCS[rpc]:
        changed = {line.split('"')[1] for line in kept(cloud.folder) ^ before if line.startswith("INSERT INTO")}
        assert changed <= (DATA if rpc == SYNC_METHOD else set())
