"""Backups put back, cards copied and wiped: nothing lost that either side still had, nothing twice, all of it told."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from simulator.lab.cloud import LabCloud
from simulator.lab.processes import run
from tests.system import other_machine
from tests.system.boxes import NAME, site, values, wait, wait_for_more

PAGE = Path(__file__).parents[2] / "docs/operating/restore.md"

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(180),
    pytest.mark.skipif(other_machine.compiler() is None, reason="no C compiler. Try: apt-get install gcc libc6-dev"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return other_machine.build(tmp_path_factory.mktemp("library"))


def ledger(cloud: LabCloud) -> dict[str, Any]:
    document: dict[str, Any] = cloud.get(f"/v1/gateways/{NAME}/ledger")
    return document


def reasons(cloud: LabCloud) -> dict[str, int]:
    found: dict[str, int] = ledger(cloud)["by_reason"]
    return found


def settled(cloud: LabCloud) -> bool:
    """Nothing is on its way any more: what is pending is a gap."""
    document = ledger(cloud)
    return bool(document["pending"] == document["gap"])


def require_once(cloud: LabCloud, taken: set[int]) -> set[float]:
    """Nothing foreign, nothing twice; returns what was taken and is not stored."""
    found = values(cloud)
    assert [value for value, times in found.items() if times > 1] == []
    assert found.keys() - taken == set()
    return {float(number) for number in taken} - found.keys()


def follow_page(block: str, cloud: LabCloud, backup: Path) -> None:
    """Run the commands that the page shows."""
    found = re.search(rf"```sh {block}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    programs = Path(sys.executable).parent
    environment = {**os.environ, "DATA": str(cloud.folder), "BACKUP": str(backup)}
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    subprocess.run(["sh", "-euc", found[1]], env=environment, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="no sqlite3. Try: apt-get install sqlite3")
@pytest.mark.parametrize("objects", [False, True], ids=["catalog", "catalog-and-objects"])
def test_cloud_restored_from_an_older_backup(tmp_path: Path, library: Path, objects: bool) -> None:
    with site(tmp_path, library, 1) as (cloud, [box]):
        box.start()
        wait_for_more(cloud)
        follow_page("backup", cloud, tmp_path / "backup")
        wait_for_more(cloud)
        box.kill()
        cloud.stop()
        if objects:
            shutil.rmtree(cloud.folder / "objects")
        follow_page("restore", cloud, tmp_path / "backup")
        cloud.start()
        box.configure(cloud.grpc_port)
        box.start()
        wait_for_more(cloud)
        taken = box.finish()
        wait(cloud, lambda: settled(cloud))
        lost = require_once(cloud, taken)
        told = reasons(cloud).get("cloud_restored", 0)
        assert len(lost) == told == ledger(cloud)["tombstoned"]
        assert objects or not lost, "its packs are there and were taken in again"


@pytest.mark.parametrize("reboot", [True, False], ids=["other-boot", "same-boot"])
def test_gateway_restored_from_an_image(tmp_path: Path, library: Path, reboot: bool) -> None:
    with site(tmp_path, library, 1) as (cloud, [box]):
        box.start()
        wait_for_more(cloud)
        box.kill()
        box.copy_card(tmp_path / "image")
        box.start()
        wait_for_more(cloud)
        if reboot:
            box.power_off()
            box.machine.reboot()
        else:
            box.kill()
        known = {float(number) for number in box.taken()}
        on_card_alone = known - values(cloud).keys()
        box.put_card(tmp_path / "image")
        box.start()
        wait_for_more(cloud)
        taken = box.finish()
        wait(cloud, lambda: settled(cloud))
        lost = require_once(cloud, taken)
        assert lost <= on_card_alone, "what either side still had is there"
        first, *_, last = ledger(cloud)["epochs"]
        assert first["epoch"] != last["epoch"], "numbers that the cloud may know are not given again"
        assert (first["end"], last["end"]) == ("unknown", "open")


def test_card_cloned(tmp_path: Path, library: Path) -> None:
    """Two machines run copies of one card at once."""
    with site(tmp_path, library, 2) as (cloud, [box, twin]):
        box.start()
        wait_for_more(cloud)
        box.kill()
        twin.put_card(box.card)
        box.start()
        assert not ledger(cloud)["cloned"]
        twin.start()
        wait_for_more(cloud, 120)
        wait(cloud, lambda: bool(ledger(cloud)["cloned"]))
        taken = box.finish() | twin.finish()
        wait(cloud, lambda: settled(cloud))
        assert require_once(cloud, taken) == set()
        assert ledger(cloud)["gap"] == 0
        assert 'tidegate_gateways_alarming{why="clone"} 1.0' in metrics(cloud)
        machine = ledger(cloud)["machines"][1]["machine"]
        run("cloud-sync", "machine", "retire", NAME, machine, "--data", str(cloud.folder))
        assert not ledger(cloud)["cloned"]


def test_card_wiped(tmp_path: Path, library: Path) -> None:
    """What the cloud was told of and never got is a gap; the epoch's end is unknown; all else goes on."""
    with site(tmp_path, library, 1) as (cloud, [box]):
        box.start()
        wait_for_more(cloud)
        with store_down(cloud):
            wait(cloud, lambda: ledger(cloud)["pending"] > 200)
            box.power_off()
            told = ledger(cloud)["epochs"][0]
            cloud.kill()  # else it stores what it has, when it can
        cloud.start()
        box.configure(cloud.grpc_port)
        box.machine.reboot()
        box.wipe_card()
        box.start()
        wait_for_more(cloud)
        taken = box.finish()
        wait(cloud, lambda: settled(cloud))
        document = ledger(cloud)
        old, new = document["epochs"]
        assert (old["end"], new["end"], new["predecessor"]) == ("unknown", "open", None)
        assert old["gap"] == old["pending"] == told["pending"] == document["gap"]
        lost = require_once(cloud, taken)
        assert document["gap"] <= len(lost), "the cloud cannot know of what it was never told"
        assert 'tidegate_gateways_alarming{why="gap"} 1.0' in metrics(cloud)
        assert "readings are in a gap" in page(cloud)


@contextmanager
def store_down(cloud: LabCloud) -> Iterator[None]:
    """The cloud hears what the gateway holds, and cannot take it."""
    packs, aside = cloud.folder / "objects" / "packs", cloud.folder / "packs-aside"
    packs.rename(aside)
    packs.write_bytes(b"not a folder")
    yield
    packs.unlink()
    aside.rename(packs)


def metrics(cloud: LabCloud) -> str:
    return fetch(cloud, "/metrics")


def page(cloud: LabCloud) -> str:
    return fetch(cloud, f"/gateways/{NAME}")


def fetch(cloud: LabCloud, path: str) -> str:
    return cloud.fetch(path).decode()
