"""Pages as a browser receives them: what they say, in every state, and that nothing in them can run or reach out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from httpx import Client

from tests.unit.cloud_sync.http_api.serving import bearer, served
from tests.unit.cloud_sync.query.seeding import CLIMATE, NOW_US, Cloud, tick
from wire.alarm import Severity
from wire.clock import Anchor
from wire.reading import CellState, LossReason, Tombstone
from wire.series import SeriesDef, SeriesSet

S = 1_000_000
HOSTILE = '"><script>alert(1)</script>'


class Page(HTMLParser):
    """Text, ids, links and whatever a content security policy would stop."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.forbidden: list[str] = []
        self._inline = False
        self.feed(html)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        urls = [value or "" for name, value in attrs if name in ("href", "src", "action")]
        self.links += urls
        self.forbidden += [url for url in urls if not url.startswith(("/", "#"))]
        self.forbidden += [name for name, _ in attrs if name.startswith("on") or name == "style"]
        if tag == "form" and given.get("method") != "post":
            self.forbidden.append(tag)
        if tag in ("style", "iframe", "object") or (tag == "script" and "src" not in given):
            self.forbidden.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def load(client: Client, path: str, status: int = 200) -> Page:
    response = client.get(path)
    assert response.status_code == status
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    page = Page(response.text)
    assert page.forbidden == []
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        if link.startswith("/assets/"):
            assert client.get(link).status_code == 200
    return page


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path)
    yield made
    made.close()


@pytest.fixture
def client(cloud: Cloud) -> Iterator[Client]:
    with served(cloud) as base, Client(base_url=base, headers=bearer(cloud), trust_env=False) as made:
        yield made


def test_an_empty_fleet_says_how_to_begin(client: Client) -> None:
    page = load(client, "/")
    assert "No gateway has connected yet" in page.text
    assert "cloud-sync token create" in page.text
    assert "edge-agent join -c" in page.text
    assert "edge-agent run -c" in page.text


def test_the_fleet_tells_each_state(client: Client, cloud: Cloud) -> None:
    cloud.push("quiet", 1, {CLIMATE: [tick(CLIMATE, NOW_US, 1, 2, 3)]})
    cloud.clock.sleep(7_200)
    cloud.hello("busy", (2, 1_234))
    page = load(client, "/")
    assert "2 gateways, 1 online, 1,234 readings still on gateways" in page.text
    assert "2 gateways, 1 online, 1,234 readings" in load(client, "/?page=9").text  # of the fleet, not of the page
    assert "quiet offline 2 h ago 0 3 3 0 0" in page.text
    assert "busy online just now 0 1,234 0 1,234 0" in page.text
    assert "/gateways/busy" in page.links
    assert "There is no page 3" in load(client, "/?page=3").text


def test_a_gateway_page_shows_values_gaps_doubts_and_the_ledger(client: Client, cloud: Cloud) -> None:
    gap = bytes([CellState.NO_ANSWER, 0, 0])
    ticks = [tick(CLIMATE, NOW_US - 60 * S, 2150, 4000, 101_325)]
    ticks.append(tick(CLIMATE, NOW_US - S, 0, 4100, 101_330, states=gap, quality=bytes([0, 2, 0])))
    cloud.push("press-3", 0xABC, {CLIMATE: ticks})
    cloud.lose("press-3", Tombstone(0xABC, 6, 10, LossReason.EVICTED, 4))
    cloud.hello("press-3", (0xABC, 15))
    page = load(client, "/gateways/press-3")
    assert "room/ temperature 21.50 °C °C 1 min ago no answer" in page.text
    assert "room/ humidity 41.00 % RH % RH just now stuck" in page.text
    assert "room/ pressure 101,330 Pa Pa just now" in page.text
    assert "Taken 15 = Stored 6 + Pending 5 + Given up 4" in page.text
    assert "0000000000000abc the first of its outbox 15 6 5 4 4 evicted ± 2 ms" in page.text
    assert 'curl -H "Authorization: Bearer $TOKEN" \'http://127.0.0.1:' in page.text
    for link in page.links:
        if link.startswith("/v1/"):
            assert client.get(link).status_code == 200


def test_alarms_stand_with_cause_state_and_score_the_lasting_first(client: Client, cloud: Cloud) -> None:
    for number, gateway in enumerate(("press-3", "calm"), 1):
        cloud.hello(gateway, (number, 0))
        cloud.push(gateway, number, {CLIMATE: [tick(CLIMATE, NOW_US - S, 2150, 4000, 101_325)]})
    assert "No alarm in this time." in load(client, "/gateways/press-3").text
    assert "active alarm" not in load(client, "/").text
    old = cloud.alarm("press-3", 1, NOW_US - 7 * 86_400 * S, severity=Severity.CRITICAL)
    cloud.alarm("press-3", 1, NOW_US - 90 * S, cleared_us=NOW_US - 20 * S)
    cause = "room/temperature: 31.5 °C, expected 20 to 23 °C, nearest known 21.4 (value-novelty, 4)"
    page = load(client, "/gateways/press-3")
    assert (
        f"{cause} active critical 7 d ago 4 (limit 1) {cause} cleared warning 1 min ago 1 min 4 (limit 1)" in page.text
    )
    assert "1 active alarm agent" in page.text
    assert client.get(next(link for link in page.links if link.startswith("/v1/alarms"))).json()["alarms"]
    fleet = load(client, "/")
    assert "2 gateways, 2 online, nothing pending, 1 active alarm" in fleet.text
    assert "press-3 online just now 1 3 3 0 0" in fleet.text
    assert "calm online just now 0 3 3 0 0" in fleet.text
    assert "No alarm in this time." in load(client, "/gateways/calm").text
    cloud.alarm("press-3", 1, NOW_US - 7 * 86_400 * S, cleared_us=NOW_US, severity=Severity.CRITICAL)
    assert old
    assert "active alarm" not in load(client, "/").text


def test_a_storm_of_alarms_is_cut_and_says_so(client: Client, cloud: Cloud) -> None:
    cloud.hello("g", (1, 0))
    cloud.push("g", 1, {CLIMATE: [tick(CLIMATE, NOW_US - S, 2150, 4000, 101_325)]})
    for n in range(25):
        cloud.alarm("g", 1, NOW_US - n * S)
    page = load(client, "/gateways/g")
    assert page.text.count("value-novelty, 4") == 20
    assert "25 active alarms" in page.text
    assert "There are more in the API" in page.text
    assert "25 active alarms" in load(client, "/").text


def test_an_offline_gateway_says_since_when_and_leads_to_its_newest(client: Client, cloud: Cloud) -> None:
    cloud.push("press-3", 1, {CLIMATE: [tick(CLIMATE, NOW_US - S, 2150, 4000, 101_325)]})
    cloud.clock.sleep(86_400)
    page = load(client, "/gateways/press-3?window=15m")
    assert "offline since 2026-05-28 20:26:40 UTC, 1 d ago" in page.text
    assert "No readings in this window." in page.text
    (newest,) = [link for link in page.links if "end=" in link and "window=15m" in link]
    then = load(client, newest)
    assert "No readings in this window." not in then.text
    assert "Back to live" in then.text
    (api,) = [link for link in then.links if "step=" in link]
    assert sum(len(each["times"]) for each in client.get(api).json()["series"]) == 3


def test_a_gateway_without_a_clock_is_found_in_1970(client: Client, cloud: Cloud) -> None:
    cloud.push("drifter", 1, {CLIMATE: [tick(CLIMATE, NOW_US, 2150, 4000, 101_325)]}, Anchor(0, 9 * S, False, 0))
    page = load(client, "/gateways/drifter")
    assert "clock unsure" in page.text
    assert "not synchronised" in page.text
    (newest,) = [link for link in page.links if "end=1970" in link and "window=5m" in link]
    (api,) = [link for link in load(client, newest).links if "step=" in link]
    assert sum(len(each["times"]) for each in client.get(api).json()["series"]) == 3


def test_a_gateway_without_readings(client: Client, cloud: Cloud) -> None:
    cloud.hello("new", (1, 0))
    page = load(client, "/gateways/new")
    assert "No readings yet" in page.text
    assert "no data yet" in page.text


def test_wrong_addresses_have_pages_too(client: Client, cloud: Cloud) -> None:
    assert "No gateway 'nobody' has ever connected" in load(client, "/gateways/nobody", 404).text
    cloud.hello("new", (1, 0))
    assert "take 5m, 15m, 1h, 6h, 24h" in load(client, "/gateways/new?window=2y", 400).text
    assert "RFC 3339" in load(client, "/gateways/new?end=later", 400).text


def test_names_are_text_never_markup(client: Client, cloud: Cloud) -> None:
    hostile = SeriesSet((SeriesDef(HOSTILE.replace("/", "|"), "x", HOSTILE),))
    cloud.push("g", 1, {hostile: [tick(hostile, NOW_US - S, 1)]})
    cloud.hello(HOSTILE, (2, 0), version=HOSTILE)
    cloud.alarm("g", 1, NOW_US, series=HOSTILE, rule=HOSTILE)
    for path in ("/", "/gateways/g", "/gateways/%22%3E%3Cscript%3E"):
        html = client.get(path).text
        assert "<script>" not in html
        Page(html)
    assert HOSTILE in load(client, "/").text


def test_assets_may_be_kept_for_ever_because_their_address_changes(client: Client) -> None:
    page = load(client, "/")
    (sheet,) = [link for link in page.links if "console.css" in link]
    headers = client.get(sheet).headers
    assert headers["cache-control"] == "public, max-age=31536000, immutable"
    assert re.search(r"\?v=[0-9a-f]{12}$", sheet)
    assert "MIT License" in client.get("/assets/uplot-licence.txt").text


def test_many_series_are_drawn_in_charts_of_eight(client: Client, cloud: Cloud) -> None:
    wide = SeriesSet(tuple(SeriesDef("wide", f"c{n:02}", "V", num=1, den=10) for n in range(30)))
    cloud.push("g", 1, {wide: [tick(wide, NOW_US - S, *range(30))]})
    html = client.get("/gateways/g").text
    assert html.count('<figure class="card chart"') == 3
    assert html.count("data-series=") == 24
    assert "6 more series" in html
    assert html.count('data-colour="7"') == 3
