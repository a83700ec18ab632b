"""Who may what over HTTP: every route and every role, logging in and out, and what comes from other sites."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter
from httpx import Client, Response
from prometheus_client import CollectorRegistry

from cloud_sync import refusals
from cloud_sync.auth.credentials import Credential, Kind
from cloud_sync.auth.roles import Role
from cloud_sync.catalog.people import Caller
from cloud_sync.errors import CatalogDown
from cloud_sync.http_api import callers, gate, live
from cloud_sync.http_api.app import create_app
from cloud_sync.http_api.guard import BODY_BYTES_MAX
from cloud_sync.http_api.roles import ANYBODY, allow, declared, require_declared
from tests.unit.cloud_sync.http_api.serving import bearer, served
from tests.unit.cloud_sync.query.seeding import CLIMATE, NOW_US, Cloud, tick

S = 1_000_000
OURS = {"sec-fetch-site": "same-origin"}
OPEN_TO_ALL = {("GET", "/health"), ("GET", "/ready"), ("GET", "/login"), ("POST", "/login"), ("GET", "/assets/{name}")}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path)
    made.push("press-3", 1, {CLIMATE: [tick(CLIMATE, NOW_US - S, 2100, 4000, 101_325)]})
    yield made
    made.close()


@pytest.fixture
def site(cloud: Cloud) -> Iterator[str]:
    with served(cloud) as base:
        yield base


@pytest.fixture
def anyone(site: str) -> Iterator[Client]:
    with Client(base_url=site, trust_env=False) as made:
        yield made


def kind_of(response: Response) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["type"]).removeprefix("urn:tidegate:problem:")


def log_in(client: Client, shown: Credential, **more: str) -> Response:
    """As the form of the login page does."""
    name = "link" if shown.kind is Kind.LINK else "token"
    return client.post("/login", data={name: str(shown), **more}, headers=OURS)


def cookie(cloud: Cloud, session: Credential, scheme: str = "http") -> str:
    return f"{gate.cookie_name(cloud.catalog.generation(), scheme)}={session}"


def routes_of(cloud: Cloud) -> list[tuple[str, str, int]]:
    """(method, path, least role) of every route, as the application has them."""
    found = []
    for route in create_app(cloud.catalog, cloud.query, cloud.clock, CollectorRegistry()).state.routes:
        least = declared(route)
        assert least is not None
        found += [(method, route.path, least) for method in route.methods]
    return found


def refusal(client: Client, method: str, path: str, headers: dict[str, str]) -> str:
    """How the gate refuses; "" when it does not."""
    names = {"gateway": "press-3", "name": "console.css"}
    query = {"gateway": "press-3"} if path in ("/v1/live", "/v1/query") else {}
    filled = re.sub(r"\{(\w+)\}", lambda found: names.get(found[1], "none"), path)
    with client.stream(method, filled, params=query, headers=headers) as response:
        if response.headers.get("content-type") != "application/problem+json":
            return ""
        response.read()
        return kind if (kind := kind_of(response)) in GATE else ""


GATE = ("credential-missing", "role-missing", "origin-foreign", "refused-often")


def test_every_route_for_every_role(cloud: Cloud, site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A route's declared role decides, by token and by session alike, and nobody else gets past."""
    monkeypatch.setattr(refusals, "REFUSALS_BURST", 1e6)
    people = cloud.catalog.people
    tokens = {role: people.create_token(role.word, role, 10**6) for role in Role}
    ended, link = people.create_token("ended", Role.ADMIN, 10**6), people.create_link()
    people.end(ended.id)
    session_of_ended = people.open_session(ended_later := people.create_token("later", Role.ADMIN, 10**6), "")[0]
    people.end(ended_later.id)
    strangers = [
        {},
        *({"authorization": f"Bearer {text}"} for text in (ended, link, Credential.new(Kind.TOKEN), "x", "x y")),
    ]
    strangers += [{"authorization": f"Basic {tokens[Role.ADMIN]}"}, {"cookie": cookie(cloud, tokens[Role.ADMIN])}]
    strangers += [{"cookie": cookie(cloud, session_of_ended)}, {"cookie": cookie(cloud, link)}]
    routes = routes_of(cloud)
    assert {(method, path) for method, path, least in routes if least == ANYBODY} == OPEN_TO_ALL
    wrong = []
    with Client(base_url=site, trust_env=False) as client:
        for method, path, least in routes:
            asks: list[tuple[int, dict[str, str]]] = [(ANYBODY, headers) for headers in strangers]
            for role, token in tokens.items():
                session = people.open_session(token, "test")[0]  # a fresh one: logging out ends it
                asks += [(role, {"authorization": f"Bearer {token}"}), (role, {"cookie": cookie(cloud, session)})]
            for role, headers in asks:
                said = refusal(client, method, path, headers | OURS)
                expected = "" if role >= least else "role-missing" if role else "credential-missing"
                if said != expected:
                    wrong.append(f"{method} {path} as {role} with {headers}: {said!r}, expected {expected!r}")
    assert wrong == []


def test_a_route_without_a_role_is_not_served(cloud: Cloud) -> None:
    router = APIRouter()

    @router.get("/v1/secrets")
    async def forgotten() -> None: ...

    with pytest.raises(AssertionError, match="no role is declared for /v1/secrets"):
        require_declared(router.routes)
    allow(Role.ADMIN)(forgotten)
    require_declared(router.routes)


def test_a_route_beside_the_table_is_not_reached(cloud: Cloud) -> None:
    with served(cloud, more=lambda app: app.get("/v1/secrets")(lambda: "secret")) as base:
        answer = httpx.get(f"{base}/v1/secrets", headers=bearer(cloud, Role.ADMIN), trust_env=False)
    assert (answer.status_code, kind_of(answer)) == (404, "not-found")


def test_strangers_learn_nothing_but_how_to_log_in(anyone: Client) -> None:
    for path in ("/", "/gateways/press-3", "/v1/gateways", "/metrics", "/v1/openapi.json", "/nowhere", "/docs"):
        answer = anyone.get(path)
        assert (answer.status_code, kind_of(answer)) == (401, "credential-missing")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "api-token create" in answer.json()["detail"]
        assert "press" not in answer.text.replace(path, "")
        page = anyone.get(path + "?a=1&b=/", headers={"accept": "text/html,*/*;q=0.8"})
        assert (page.status_code, page.text) == (303, "")
        assert page.headers["location"] == f"/login?next={path}%3Fa%3D1%26b%3D/"
    assert anyone.get("/health").status_code == anyone.get("/ready").status_code == 200


def test_a_link_logs_in_once(cloud: Cloud, anyone: Client) -> None:
    link = cloud.catalog.people.create_link()
    for _ in range(2):  # programs look at links before people press the button
        page = anyone.get("/login", params={"link": str(link)})
        assert page.status_code == 200
        assert "Log in as admin" in page.text
        assert not page.headers.get_list("set-cookie")
    answer = log_in(anyone, link, next="/gateways/press-3")
    assert (answer.status_code, answer.headers["location"]) == (303, "/gateways/press-3")
    (set_cookie,) = answer.headers.get_list("set-cookie")
    assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=604800"} <= set(set_cookie.split("; "))
    assert "Secure" not in set_cookie
    assert anyone.get("/gateways/press-3").status_code == 200
    me = anyone.get("/v1/me").json()
    assert (me["kind"], me["role"]) == ("session", "admin")
    assert "admin link · admin" in anyone.get("/").text
    with Client(base_url=anyone.base_url, trust_env=False) as other:
        again = log_in(other, link)
        assert again.status_code == 401
        assert "works once" in again.text
        assert other.get("/v1/me").status_code == 401


def test_a_session_shows_csv_and_live_readings(cloud: Cloud, anyone: Client) -> None:
    log_in(anyone, cloud.catalog.people.create_token("screen", Role.READONLY, 10**6))
    text = anyone.get("/v1/query", params={"gateway": "press-3", "format": "csv"}).text
    assert text.startswith("time,series,value")
    with anyone.stream("GET", "/v1/live", params={"gateway": "press-3"}) as answer:
        assert next(answer.iter_lines()).startswith("id: ")
    assert anyone.get("/v1/audit").status_code == 403


def test_logging_out(cloud: Cloud, anyone: Client) -> None:
    token = cloud.catalog.people.create_token("screen", Role.READONLY, 10**6)
    log_in(anyone, token)
    kept = {"cookie": "; ".join(f"{name}={value}" for name, value in anyone.cookies.items())}
    answer = anyone.post("/logout", headers=OURS)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert not anyone.cookies
    assert anyone.get("/v1/me", headers=kept).status_code == 401  # not only forgotten by the browser
    by_token = {"authorization": f"Bearer {token}"}
    assert anyone.post("/logout", headers=by_token).status_code == 400  # a token must not end by a slip
    assert anyone.get("/v1/me", headers=by_token).status_code == 200


@pytest.mark.parametrize(
    "there", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nx: y", "x", "/ a", ""]
)
def test_login_leads_nowhere_else(cloud: Cloud, anyone: Client, there: str) -> None:
    answer = log_in(anyone, cloud.catalog.people.create_link(), next=there)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert 'name="next" value="/"' in anyone.get("/login", params={"next": there}).text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "origin": "OWN"},
    ],
)
def test_no_other_page_changes_anything(cloud: Cloud, anyone: Client, site: str, headers: dict[str, str]) -> None:
    sent = {name: site if value == "OWN" else value for name, value in headers.items()}
    link = cloud.catalog.people.create_link()
    refused = anyone.post("/login", data={"link": str(link)}, headers=sent)
    assert (refused.status_code, kind_of(refused)) == (403, "origin-foreign")
    log_in(anyone, link)
    for path in ("/logout", "/v1/gateways/press-3/revoke", "/v1/enrolments/none/approve"):
        refused = anyone.post(path, json={}, headers=sent)
        assert (refused.status_code, kind_of(refused)) == (403, "origin-foreign")
    assert anyone.get("/v1/me", headers=sent).status_code == 200
    assert anyone.post("/logout", headers={"origin": site}).status_code == 303  # an older browser's way


def test_programs_need_no_origin(cloud: Cloud, anyone: Client) -> None:
    operator = bearer(cloud, Role.OPERATOR)
    answer = anyone.post("/v1/gateways/press-3/revoke", json={"reason": "stolen"}, headers=operator)
    assert (answer.status_code, answer.json()) == (200, {"gateway": "press-3"})
    assert anyone.post("/v1/enrolments/none/approve", headers=operator).status_code == 404
    assert anyone.post("/v1/gateways/nosuch/revoke", json={}, headers=operator).status_code == 404
    (gone,) = anyone.get("/v1/enrolments", headers=operator).json()["enrolments"]
    assert (gone["gateway"], gone["state"], gone["reason"]) == ("press-3", "revoked", "stolen")


def test_what_changed_stands_in_the_audit(cloud: Cloud, anyone: Client) -> None:
    link = cloud.catalog.people.create_link()
    log_in(anyone, link)
    me = anyone.get("/v1/me").json()["id"]
    anyone.post("/v1/gateways/press-3/revoke", json={"reason": "stolen"}, headers=OURS)
    first = anyone.get("/v1/audit", params={"page_size": 1}).json()
    rest = anyone.get("/v1/audit", params={"page_token": first["next_page_token"]}).json()
    rows = first["changes"] + rest["changes"]
    assert rest["next_page_token"] == ""
    assert [(row["action"], row["subject"]) for row in rows] == [
        ("gateway.revoke", "press-3"),
        ("session.open", me),
        ("link.create", link.id),
    ]
    assert rows[0]["actor"] == f"session {me} (admin link)"
    assert "127.0.0.1" in rows[1]["detail"]


def test_what_is_ended_counts_within_two_seconds(cloud: Cloud, anyone: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    token = cloud.catalog.people.create_token("screen", Role.READONLY, 10**6)
    headers = {"authorization": f"Bearer {token}"}
    monkeypatch.setattr(live, "PERIOD_S", 0.01)
    with anyone.stream("GET", "/v1/live", params={"gateway": "press-3"}, headers=headers) as answer:
        lines = answer.iter_lines()
        next(lines)
        cloud.catalog.people.end(token.id)
        assert anyone.get("/v1/me", headers=headers).status_code == 200
        cloud.clock.sleep(callers.FRESH_NS / 1e9)
        assert anyone.get("/v1/me", headers=headers).status_code == 401
        assert not [line for line in lines if line.startswith("id")]  # the stream ends as well


def test_guessing_is_slowed(cloud: Cloud, anyone: Client) -> None:
    good = bearer(cloud)
    assert anyone.get("/v1/me", headers=good).status_code == 200
    wrong = {"authorization": f"Bearer {Credential.new(Kind.TOKEN)}"}
    said = [anyone.get("/v1/me", headers=wrong).status_code for _ in range(int(refusals.REFUSALS_BURST) + 2)]
    assert said == [401] * int(refusals.REFUSALS_BURST) + [429] * 2
    limited = log_in(anyone, Credential.new(Kind.LINK))
    assert (limited.status_code, "too many" in limited.text) == (429, True)
    assert anyone.get("/v1/me", headers=good).status_code == 200  # who is known is not held up
    cloud.clock.sleep(callers.FRESH_NS / 1e9)
    assert anyone.get("/v1/me", headers=good).status_code == 200  # nor when it is looked up again
    assert anyone.get("/v1/me", headers=bearer(cloud)).status_code == 429
    cloud.clock.sleep(60)
    assert anyone.get("/v1/me", headers=wrong).status_code == 401


@pytest.mark.parametrize(
    ("host", "share"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_whose_share_a_refusal_costs(host: str, share: str) -> None:
    assert refusals.share_of(host) == share


@pytest.mark.parametrize("length", [BODY_BYTES_MAX + 1, 1 << 60, -1])
def test_large_bodies_are_not_read(site: str, length: int) -> None:
    host, port = site.removeprefix("http://").split(":")
    head = f"POST /login HTTP/1.1\r\nHost: {host}\r\nSec-Fetch-Site: same-origin\r\n"
    told = f"Content-Length: {length}" if length > 0 else "Transfer-Encoding: chunked"
    with socket.create_connection((host, int(port)), 10) as link:
        link.sendall(f"{head}{told}\r\n\r\n".encode())
        assert link.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_odd_headers(cloud: Cloud, anyone: Client) -> None:
    log_in(anyone, cloud.catalog.people.create_link())
    (name, value), *_ = anyone.cookies.items()
    for sent in (f"{name}={value}; {name}=x", f"{name}={value}; a={'b' * 5000}", f"{name}=", "=;;", f"x{name}={value}"):
        with Client(base_url=anyone.base_url, trust_env=False) as other:
            assert other.get("/v1/me", headers={"cookie": sent}).status_code == 401
    many = {"authorization": "Bearer " + "x" * 9000}
    assert anyone.get("/v1/me", headers=many).status_code == 401
    assert log_in(anyone, cloud.catalog.people.create_link(), **{f"f{n}": "" for n in range(9)}).status_code == 400


def test_catalog_down_is_said(cloud: Cloud, anyone: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    headers, stranger = bearer(cloud), bearer(cloud)
    assert anyone.get("/v1/me", headers=headers).status_code == 200

    def down(_shown: Credential) -> Caller:
        raise CatalogDown("catalog: gone")

    monkeypatch.setattr(cloud.catalog.people, "caller", down)
    cloud.clock.sleep(callers.OUTAGE_NS / 1e9 - 1)
    answer = anyone.get("/v1/me", headers=stranger)
    assert (answer.status_code, kind_of(answer)) == (503, "catalog-down")
    assert anyone.get("/metrics", headers=headers).status_code == 200  # who was known still sees what is wrong
    cloud.clock.sleep(1)
    assert anyone.get("/metrics", headers=headers).status_code == 503
    assert anyone.get("/health").status_code == 200
