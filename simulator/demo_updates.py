"""The update part of the demonstration: a better model becomes active, two bad ones do not, each for its reason."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.data_folder import DataFolder
from cloud_sync.rollout.standing import Place, place_of
from simulator.lab import model_variants
from simulator.lab.cloud import LabCloud
from simulator.lab.gateway import LabGateway
from simulator.lab.model_variants import FAMILY
from simulator.lab.processes import LabFailed, run
from wire.clock import SystemClock

WAIT_S = 60.0  # for one release, download to outcome
BUDGET_MS = 2.0  # signed for a run; the slow one takes some twenty times as long
BAD = {"nan": 2, "slow": 3}  # release counters
LOADED_S = 20.0  # until the agent says that it has loaded what it swapped in


@dataclass(frozen=True, slots=True)
class Updated:
    """`reasons`: of the bad ones, as the cloud was told them."""

    good_active: bool = False
    bad_refused: bool = False
    reasons: dict[str, str] = field(default_factory=dict)


class DemoUpdates:
    """One gateway of the site, a repository with three releases. Calls block."""

    def __init__(self, cloud: LabCloud, gateway: LabGateway, folder: Path) -> None:
        self._cloud = cloud
        self._gateway = gateway
        self._folder = folder
        self._environment = {"EDGE_OTA_PASSPHRASE": secrets.token_hex(16)}

    def prepare(self) -> None:
        """Keys, releases, and the gateway trusts the root. Raises LabFailed."""
        keys = self._folder / "keys"
        self._ota("key", "init", "--keys", str(keys), "--family", FAMILY, "--threshold", "1", "--of", "1")
        config = str(self._gateway.folder / "edge-agent.toml")
        run("edge-agent", "model", "trust", str(keys / "root.json"), "-c", config)
        for make in (model_variants.better, model_variants.blind, model_variants.slow):
            made = make(self._folder / "models")
            self._ota("model", "push", str(made), "--keys", str(keys), "--p95-ms", str(BUDGET_MS))

    def run(self, say: Callable[[str], None]) -> Updated:
        """Assign one after the other, and wait for what becomes of each. Raises LabFailed."""
        with closing(DataFolder(self._cloud.folder).open_catalog(SystemClock())) as catalog:
            say(f"a better model is assigned to {self._gateway.plan.name}: {FAMILY}/1")
            place = self._outcome(catalog, 1)
            good = place.state == "active" and self._runs_within(f"{FAMILY}/2", LOADED_S)
            say(f"{FAMILY}/1 {'runs, on probation' if good else f'is not active: {place.why}'}")
            reasons = {}
            for name, counter in BAD.items():
                place = self._outcome(catalog, counter)
                reasons[name] = place.reason
                say(f"{FAMILY}/{counter}, a bad one ({name}): {place.state}, {place.why}")
                good_stays = self._runs_within(f"{FAMILY}/2", LOADED_S)
                if place.state not in ("refused", "rolled_back") or not good_stays:
                    return Updated(good, False, reasons)
        return Updated(good, True, reasons)

    def _outcome(self, catalog: SqlCatalog, counter: int) -> Place:
        name = self._gateway.plan.name
        self._ota("assign", name, f"{FAMILY}/{counter}")
        end = time.monotonic() + WAIT_S
        while True:
            places = [place_of(one) for one in catalog.assignments.standings()]
            place = next(each for each in places if (each.standing.gateway, each.standing.family) == (name, FAMILY))
            if place.has_ended:
                return place
            if time.monotonic() > end:
                raise LabFailed(f"{FAMILY}/{counter} on {name} after {WAIT_S:.0f} s: {place.state}, {place.why}")
            time.sleep(0.1)

    def _runs_within(self, model: str, seconds: float) -> bool:
        """Whether the agent says that it runs this model, or learns with it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            status = self._gateway.status()
            if status and [each["model"] for each in status["models"] if each["state"] != "stopped"] == [model]:
                return True
            time.sleep(0.1)
        return False

    def _ota(self, *arguments: str) -> None:
        run("edge-ota", *arguments, "--data", str(self._cloud.folder), environment=self._environment)
