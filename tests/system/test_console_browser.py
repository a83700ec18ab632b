"""The console in a real browser: it updates by itself, stays quiet, fits a phone, and weighs little."""

from __future__ import annotations

import math
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.auth.roles import Role
from cloud_sync.http_api.gate import cookie_name
from tests.unit.cloud_sync.http_api.serving import served
from tests.unit.cloud_sync.query.seeding import CLIMATE, Cloud, tick
from wire.alarm import Severity
from wire.clock import SystemClock
from wire.reading import CellState

CHROMIUM = shutil.which("chromium")
FIRST_LOAD_BYTES_MAX = 150_000
S = 1_000_000

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium. Try: apt-get install chromium"),
]


class Feed(threading.Thread):
    """One message a second, as a live gateway sends them."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(name="feed")
        self.cloud = cloud
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.5):
            self.cloud.push("press-3", 1, {CLIMATE: [reading(time.time_ns() // 1000)]})


def reading(wall_us: int, states: bytes = b"") -> Any:
    seconds = wall_us / S
    raw = (round(2150 + 50 * math.sin(seconds / 7)), round(4000 + 90 * math.sin(seconds / 11)), 101_325)
    return tick(CLIMATE, wall_us, *raw, states=states)


@dataclass(frozen=True)
class Site:
    """A cloud and where it is served."""

    url: str
    cloud: Cloud

    def __str__(self) -> str:
        return self.url

    def cookie(self) -> dict[str, str]:
        """Of somebody who logged in."""
        link = self.cloud.catalog.people.create_link()
        session, _ = self.cloud.catalog.people.open_session(link, "test")
        return {"name": cookie_name(self.cloud.catalog.generation(), "http"), "value": str(session), "url": self.url}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    cloud = Cloud(tmp_path_factory.mktemp("cloud"), SystemClock())
    cloud.hello("pump-4", (9, 0))
    now_us = time.time_ns() // 1000
    silent = bytes([CellState.NO_ANSWER] * 3)
    past = [reading(now_us - n * S, silent if 100 <= n < 130 else b"") for n in range(300, 0, -1)]
    cloud.push("press-3", 1, {CLIMATE: past})
    cloud.hello("bench-1", (7, 0))
    cloud.push("pump-4", 9, {CLIMATE: [reading(now_us - n * S) for n in range(300, 0, -1)]})
    cloud.alarm("pump-4", 9, now_us - 200 * S, cleared_us=now_us - 140 * S)
    cloud.alarm("pump-4", 9, now_us - 60 * S, severity=Severity.CRITICAL)
    feed = Feed(cloud)
    with served(cloud) as url:
        feed.start()
        yield Site(url, cloud)
        feed.ended.set()
        feed.join()
    cloud.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


@contextmanager
def opened(browser: Any, site: Site, path: str | None, **context: Any) -> Iterator[tuple[Any, list[str]]]:
    """A page for somebody who has logged in, and what went wrong on it."""
    with browser.new_context(**context) as made:
        made.add_cookies([site.cookie()])
        page = made.new_page()
        faults: list[str] = []
        page.on(
            "console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        if path is not None:
            page.goto(f"{site}{path}")
        yield page, faults


def until(page: Any, expression: str, seconds: float = 20) -> None:
    """Wait for a truth about the page; asked from outside, because the page's policy forbids eval."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"not within {seconds} s: {expression}"
        page.wait_for_timeout(50)


def updates(page: Any, count: int) -> None:
    """Wait until the charts were drawn from so many answers."""
    until(page, f"Number(document.getElementById('charts').dataset.updates) >= {count}")


def test_charts_and_values_move_without_a_reload(browser: Any, base: Site) -> None:
    with opened(browser, base, "/gateways/press-3") as (page, faults):
        page.evaluate("window.sameDocument = true")
        updates(page, 1)
        assert page.locator("#pulse").inner_text() == "live"
        assert page.locator(".chart canvas").count() == 3

        shown = page.locator("output").first
        drawn = "document.querySelector('.chart canvas').toDataURL()"
        before = shown.inner_text(), page.evaluate(drawn), page.locator("#sums dd").first.inner_text()
        assert float(before[0].replace(",", "")) > 0
        until(page, f"document.querySelector('output').textContent !== {before[0]!r}")
        until(page, f"document.querySelector('#sums dd').textContent !== {before[2]!r}")
        assert page.evaluate(drawn) != before[1]
        assert page.evaluate("window.sameDocument") is True
        assert faults == []


def test_failed_reads_are_marked_and_break_the_line(browser: Any, base: Site) -> None:
    """Thirty of 300 seconds are gaps: a strip of that width in the gap colour, and no line above it."""
    script = """() => {
      const canvas = document.querySelector('.chart canvas');
      const {data, width, height} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      const is = (x, y, [r, g, b]) => {
        const i = 4 * (y * width + x);
        return Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 24 && data[i + 3] > 200;
      };
      const column = (x, colour) => [...Array(height).keys()].some((y) => is(x, y, colour));
      const xs = [...Array(width).keys()];
      const strip = xs.filter((x) => column(x, [0xa3, 0x5a, 0x00]));
      const line = xs.filter((x) => column(x, [0x0b, 0x7a, 0x8f]));
      return {strip: strip.length, line: line.length, both: strip.filter((x) => line.includes(x)).length};
    }"""
    with opened(browser, base, "/gateways/press-3", viewport={"width": 1400, "height": 900}) as (page, _):
        updates(page, 2)
        found = page.evaluate(script)
        assert found["strip"] == pytest.approx(found["line"] / 9, rel=0.25)
        assert found["both"] <= 6


def test_alarms_are_bands_with_their_cause(browser: Any, base: Site) -> None:
    """Of five minutes, one lies in a cleared alarm and one in a lasting one; only on the chart of their series."""
    script = """() => [...document.querySelectorAll('.chart canvas')].map((canvas) => {
      const {data, width, height} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      const strip = (...colour) => [...Array(width).keys()].filter((x) => [...Array(20).keys()].some((y) => {
        const i = 4 * (y * width + x);
        return data[i + 3] > 180 && colour.every((part, n) => Math.abs(data[i + n] - part) < 6);
      })).length;
      return {warning: strip(0xc2, 0x57, 0x0c) / width, critical: strip(0xb3, 0x26, 0x1e) / width};
    })"""
    viewport = {"width": 1400, "height": 900}
    with opened(browser, base, "/gateways/pump-4", viewport=viewport, color_scheme="light") as (page, faults):
        updates(page, 1)
        humidity, pressure, temperature = page.evaluate(script)
        assert humidity == pressure == {"warning": 0, "critical": 0}
        assert temperature["warning"] == pytest.approx(0.19, abs=0.02)
        assert temperature["critical"] == pytest.approx(0.19, abs=0.03)
        causes = page.locator(".cause")
        assert [bool(text) for text in causes.all_inner_texts()] == [False, False, True]
        assert "room/temperature: 31.5 °C, expected 20 to 23 °C" in causes.nth(2).inner_text()
        newest = causes.nth(2).inner_text()
        box = page.locator(".plot").nth(2).bounding_box()
        page.locator(".plot").nth(2).hover(position={"x": 58 + (box["width"] - 86) * 0.45, "y": 60})
        until(page, f"document.querySelectorAll('.cause')[2].textContent !== {newest!r}")
        assert "1 active alarm" in page.inner_text("#heard")
        assert faults == []


@pytest.mark.parametrize(
    "path", ["/", "/gateways/press-3", "/gateways/bench-1", "/gateways/pump-4", "/gateways/press-3?window=24h"]
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone_and_follow_the_scheme(browser: Any, base: Site, path: str, scheme: str) -> None:
    with opened(browser, base, path, viewport={"width": 360, "height": 740}, color_scheme=scheme) as (page, faults):
        if page.locator("#charts").count():
            updates(page, 1)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(245, 247, 247)", "dark": "rgb(14, 20, 23)"}[scheme]
        assert faults == []


def test_a_wide_page_has_two_columns_of_charts_and_a_phone_one(browser: Any, base: Site) -> None:
    script = "[...document.querySelectorAll('.chart')].map((chart) => Math.round(chart.getBoundingClientRect().left))"
    above = "document.getElementById('alarms').getBoundingClientRect().bottom"
    for width, columns in ((360, 1), (1400, 2)):
        with opened(browser, base, "/gateways/pump-4", viewport={"width": width, "height": 900}) as (page, _):
            updates(page, 1)
            lefts = page.evaluate(script)
            assert len(set(lefts)) == columns, lefts
            assert lefts[-1] == lefts[0]  # the odd one out fills its row
            assert page.evaluate(above) < page.locator(".chart").first.bounding_box()["y"]


def test_the_first_load_is_light(browser: Any, base: Site) -> None:
    with browser.new_context() as context:
        context.add_cookies([base.cookie()])
        page = context.new_page()
        finished: list[Any] = []

        def note(request: Any) -> None:
            finished.append(request)

        page.on("requestfinished", note)
        page.goto(f"{base}/gateways/press-3")
        updates(page, 1)
        sizes = [request.sizes() for request in finished]
        total = sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes)
        decoded = sum(len(request.response().body()) for request in finished)
        assert all(request.url.startswith(base.url) for request in finished)
        assert 10_000 < total <= FIRST_LOAD_BYTES_MAX, total
        assert decoded <= 200_000, decoded  # what a proxy that strips gzip would send


def test_the_keyboard_reaches_everything(browser: Any, base: Site) -> None:
    with opened(browser, base, "/gateways/press-3") as (page, faults):
        updates(page, 1)
        reached = []
        for _ in range(24):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.textContent.trim().split(/\\s+/)[0]"))
        assert reached[0] == "Skip"
        assert {"Tidegate", "Fleet", "5", "24", "room/temperature", "Readings"} <= set(reached)
        toggle = page.locator("button[data-series]").first
        toggle.focus()
        page.keyboard.press("Space")
        assert toggle.get_attribute("aria-pressed") == "false"
        updates(page, 3)
        assert toggle.evaluate("element => element === document.activeElement")
        page.keyboard.press("Space")
        assert toggle.get_attribute("aria-pressed") == "true"
        assert faults == []


def test_a_fleet_row_keeps_its_focus_through_updates(browser: Any, base: Site) -> None:
    with opened(browser, base, "/") as (page, faults):
        page.evaluate("document.querySelector('table a[href$=\"press-3\"]').focus()")
        cell = "document.querySelectorAll('tbody tr')[1].querySelector('td[data-label=Taken]').textContent"
        before = page.evaluate(cell)
        until(page, f"{cell} !== {before!r}")
        assert page.evaluate("document.activeElement.getAttribute('href')") == "/gateways/press-3"
        assert faults == []


def test_the_readings_shown_can_be_saved(browser: Any, base: Site) -> None:
    with opened(browser, base, "/gateways/pump-4", accept_downloads=True) as (page, faults):
        with page.expect_download() as saving:
            page.click("a.button")
        assert saving.value.suggested_filename == "readings.csv"
        lines = Path(saving.value.path()).read_text(encoding="utf-8").splitlines()
        assert lines[0] == "time,series,value,unit,quality,gap,count,min,max"
        assert len(lines) > 600
        assert faults == []


def test_values_come_by_stream_and_a_service_that_stops_is_noticed(browser: Any, tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, SystemClock())
    cloud.push("press-9", 1, {CLIMATE: [reading(time.time_ns() // 1000 - S)]})
    with served(cloud) as url, opened(browser, Site(url, cloud), "/gateways/press-9") as (page, faults):
        until(page, "document.getElementById('charts').dataset.source === 'stream'")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if "/v1/" in request.url else None)
        told = page.evaluate("Number(document.getElementById('charts').dataset.updates)")
        cloud.push("press-9", 1, {CLIMATE: [reading(time.time_ns() // 1000)]})
        updates(page, told + 1)
        assert asked == []
        assert faults == []
    with opened(browser, Site("http://127.0.0.1", cloud), None) as (page, _):
        with served(cloud) as url:
            page.goto(f"{url}/gateways/press-9")
            until(page, "document.getElementById('charts').dataset.source === 'stream'")
        until(page, "document.getElementById('pulse').dataset.state === 'lost'")
    cloud.close()


def test_an_outage_is_said_and_ends_by_itself(browser: Any, base: Site) -> None:
    """Without a stream: the page asks instead."""
    with opened(browser, base, None) as (page, _):
        page.route("**/v1/live*", lambda route: route.abort())
        page.goto(f"{base}/gateways/press-3")
        updates(page, 3)
        assert page.evaluate("document.getElementById('charts').dataset.source") == "poll"
        page.route("**/v1/query*", lambda route: route.abort())
        until(page, "document.getElementById('pulse').dataset.state === 'lost'")
        page.unroute("**/v1/query*")
        until(page, "document.getElementById('pulse').dataset.state === 'live'")


def test_the_page_appears_with_the_first_gateway(browser: Any, tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, SystemClock())
    with served(cloud) as url, opened(browser, Site(url, cloud), "/") as (page, faults):
        assert "No gateway has connected yet" in page.inner_text("main")
        cloud.hello("press-9", (1, 0))
        page.click("text=press-9", timeout=20_000)
        assert "No readings yet" in page.inner_text("main")
        cloud.push("press-9", 1, {CLIMATE: [reading(time.time_ns() // 1000)]})
        page.wait_for_selector(".chart canvas", timeout=20_000)
        assert faults == []
    cloud.close()


def test_somebody_logs_in_by_a_link_and_out(browser: Any, base: Site) -> None:
    link = base.cloud.catalog.people.create_link()
    with browser.new_context(viewport={"width": 360, "height": 740}) as made:
        page = made.new_page()
        page.goto(f"{base}/gateways/press-3")
        assert page.url == f"{base}/login?next=/gateways/press-3"
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.goto(f"{base}/login?link={link}")
        page.click("text=Log in as admin")
        page.wait_for_url(f"{base}/")
        assert page.evaluate("document.cookie") == ""
        page.goto(f"{base}/gateways/press-3")
        updates(page, 2)
        page.click("text=Log out")
        page.wait_for_url(f"{base}/login")
        page.go_back()
        page.reload()
        assert "/login" in page.url
    with browser.new_context() as made:
        page = made.new_page()
        page.goto(f"{base}/login?link={link}")
        page.click("text=Log in as admin")
        assert "works once" in page.text_content("[role=alert]")
        page.fill("#token", str(base.cloud.catalog.people.create_token("guest", Role.READONLY, 3600)))
        page.press("#token", "Enter")
        page.wait_for_url(f"{base}/")
        assert "guest · readonly" in page.text_content("header")


def test_a_session_that_ends_leads_the_page_to_the_login(browser: Any, base: Site) -> None:
    with opened(browser, base, "/") as (page, _):
        session = made_of(page)
        base.cloud.catalog.people.end(session)
        page.wait_for_url("**/login?next=/", timeout=20_000)


def made_of(page: Any) -> str:
    """The id of the session that a page has."""
    return str(page.context.cookies()[0]["value"]).split(".")[1]
