"""What `/metrics` says of the HTTP side: how long answers took, and what the cache of messages did;
and where the fleet's readings are."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cloud_sync.catalog.catalog import Catalog
from cloud_sync.errors import CatalogDown
from cloud_sync.http_api.guard import App, Message, Receive, Scope, Send
from cloud_sync.query.engine import QueryEngine
from wire.clock import NS_PER_S, Clock

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Meter:
    """ASGI middleware that times each request to the start of its answer, by route (never by path: ids are many)."""

    def __init__(self, app: App, clock: Clock, registry: CollectorRegistry) -> None:
        self._app = app
        self._clock = clock
        self._seconds = Histogram(
            "tidegate_http_request_seconds",
            "Time until the answer to an HTTP request starts.",
            ("route", "status"),
            buckets=BUCKETS_S,
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_ns = self._clock.boottime_ns()

        async def send_timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                spent_ns = self._clock.boottime_ns() - started_ns
                self._seconds.labels(route, str(message["status"])).observe(spent_ns / NS_PER_S)
            await send(message)

        await self._app(scope, receive, send_timed)


class CacheMetrics(Collector):
    """The cache of decoded messages, read when asked."""

    def __init__(self, query: QueryEngine) -> None:
        self._query = query

    def collect(self) -> Iterator[Metric]:
        """See prometheus-client."""
        cache = self._query.cache
        looked = CounterMetricFamily(
            "tidegate_query_cache_lookups", "Messages looked up in the cache of decoded messages.", labels=["result"]
        )
        looked.add_metric(["hit"], cache.hits)
        looked.add_metric(["miss"], cache.misses)
        yield looked
        yield GaugeMetricFamily("tidegate_query_cache_bytes", "Memory of the decoded messages kept.", cache.bytes_held)


class LedgerMetrics(Collector):
    """The fleet's ledger in sum, read when asked. While the catalog is away there is none."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def describe(self) -> Iterator[Metric]:
        """See prometheus-client: what would be collected, without asking the catalog."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """See prometheus-client."""
        try:
            accounts = self._catalog.accounts().values()
        except CatalogDown:
            return
        readings = GaugeMetricFamily(
            "tidegate_ledger_readings",
            "Readings of the fleet by where they are; gap is a part of pending.",
            labels=["state"],
        )
        for state in ("taken", "stored", "tombstoned", "pending", "gap", "losses_without_seq"):
            readings.add_metric([state], sum(getattr(each, state) for each in accounts))
        yield readings
        gateways = GaugeMetricFamily(
            "tidegate_gateways_alarming",
            "Gateways with a gap, and such whose certificate two machines use.",
            labels=["why"],
        )
        gateways.add_metric(["gap"], sum(each.gap > 0 for each in accounts))
        gateways.add_metric(["clone"], sum(each.is_cloned for each in accounts))
        yield gateways
