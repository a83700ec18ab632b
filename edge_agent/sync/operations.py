"""What the control socket offers of sync: `edge-agent sync now | pause | resume | explain`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edge_agent.asking import RequestRefused
from edge_agent.control import Operation
from edge_agent.outbox.stats import OutboxStats
from edge_agent.sync.policy import limits_document
from wire.clock import NS_PER_S, Clock

if TYPE_CHECKING:
    from edge_agent.sync.grpc_transport import SyncClient

PAUSE_S_MAX = 366 * 86400.0
NO_CLOUD = "there is no [cloud] table: readings are kept here. See: edge-agent config init"


class SyncOperations:
    """Requests by name, for `ControlServer`. On the event loop's thread."""

    def __init__(
        self, sync: SyncClient | None, stats: Callable[[], OutboxStats], clock: Clock, rate_max: float = 0.0
    ) -> None:
        self._sync = sync
        self._stats = stats
        self._clock = clock
        self._rate_max = rate_max

    def by_name(self) -> dict[str, Operation]:
        """Names of the control socket."""
        return {
            "sync-now": self._now,
            "sync-pause": self._pause,
            "sync-resume": self._resume,
            "sync-explain": self._explain,
        }

    @property
    def _client(self) -> SyncClient:
        if self._sync is None:
            raise RequestRefused(NO_CLOUD)
        return self._sync

    def _now(self, request: Mapping[str, Any]) -> object:
        client = self._client
        if any(hold.code == "paused" for hold in client.policy.holds()):
            raise RequestRefused("sync is paused. Try: edge-agent sync resume")
        client.hurry()
        return self._explain(request)

    def _pause(self, request: Mapping[str, Any]) -> object:
        lasts_s, alarms = request.get("for_s"), request.get("alarms", False)
        timed = isinstance(lasts_s, int | float) and not isinstance(lasts_s, bool) and 0 < lasts_s <= PAUSE_S_MAX
        if not (lasts_s is None or timed) or not isinstance(alarms, bool):
            raise RequestRefused(f"for_s is null or 0 to {PAUSE_S_MAX:.0f} seconds, alarms true or false")
        client = self._client
        client.policy.pause(lasts_s, alarms=alarms)
        client.reconsider()
        return self._explain(request)

    def _resume(self, request: Mapping[str, Any]) -> object:
        client = self._client
        client.policy.resume()
        client.reconsider()
        return self._explain(request)

    def _explain(self, _: Mapping[str, Any]) -> object:
        if self._sync is None:
            return {
                "schema_version": 1,
                "moving": False,
                "findings": [{"code": "no_cloud", "text": NO_CLOUD, "advice": ""}],
                "plans": [],
            }
        from edge_agent.sync.explain import Situation, explain  # half a megabyte, seldom asked for

        client, stats = self._sync, self._stats()
        moving, findings = explain(
            Situation(
                address=client.address,
                status=client.status,
                holds=client.policy.holds(),
                rejected=client.is_rejected,
                retry_in_s=client.retry_in_s,
                now_s=self._clock.boottime_ns() / NS_PER_S,
                cells=stats.cells,
                ticks=stats.journal_ticks,
                commit_s=stats.commit_interval_s,
                rate_max=self._rate_max,
            )
        )
        return {
            "schema_version": 1,
            "moving": moving,
            "findings": [asdict(finding) for finding in findings],
            "plans": limits_document(client.policy.limits()),
        }
