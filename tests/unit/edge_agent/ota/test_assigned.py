"""What a gateway does with an assignment: it installs what Director and repository agree on, and nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from cloud_sync.auth.ca import PkiFiles, create_ca, issue_gateway
from cloud_sync.rollout.ceremony import Quorum
from cloud_sync.rollout.publish import Wishes
from edge_agent.ota.folder import FolderFetcher
from edge_agent.ota.installing import Done, Job, NotBefore, gateway_in, install
from edge_agent.ota.live import Live
from edge_agent.ota.records import Stage
from tests.unit.edge_agent.ota.parts import DialClock
from tests.unit.edge_agent.ota.releases import Gateway, write_model
from wire.assignment import Assigned, Assignment, Mark
from wire.clock import NS_PER_US, US_PER_S
from wire.release import Release

NONCE = b"n" * 16


class Bench(Gateway):
    """A gateway gw-a that is told things."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.live = Live("", [])
        files = PkiFiles(folder / "pki")
        files.folder.mkdir()
        create_ca(files, [])
        self.certificate = folder / "cert.pem"
        self.certificate.write_bytes(issue_gateway(files, "gw-a", datetime.now(UTC), 1).issued.pem)
        self.client()  # trusts the first root
        (self.state / "ota").mkdir(parents=True)
        (folder / "gateway").rename(self.state / "ota" / "metadata")

    @property
    def now_us(self) -> int:
        return self.clock.wall_ns() // NS_PER_US

    def assignment(self, *releases: Assigned, counter: int = 1) -> Assignment:
        return Assignment("gw-a", counter, releases, self.now_us, self.now_us + 3600 * US_PER_S, NONCE)

    def told(self, document: bytes, nonce: bytes = NONCE, server_time_us: int = 0) -> Done:
        job = Job(str(self.state), str(self.certificate), document, nonce, server_time_us, self.live)
        return install(job, FolderFetcher(self.folder / "objects" / "ota"), self.clock)

    def told_of(self, *releases: Assigned, counter: int = 1) -> Done:
        return self.told(self.sealed(self.assignment(*releases, counter=counter)))

    def made(self, version: int, wishes: Wishes | None = None) -> Release:
        return self.publish(write_model(self.folder / f"m{version}", version), wishes)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def reasons(done: Done) -> list[str]:
    return [outcome.reason for outcome in done.outcomes]


def test_the_assigned_release_runs_even_where_it_is_not_the_newest(bench: Bench) -> None:
    first = bench.made(1)
    bench.made(2)
    done = bench.told_of(bench.assigned(first))
    assert (done.reason, reasons(done), bench.active()) == ("", [""], "1")
    stages = [event.stage for event in bench.slots.record("toy").events]
    assert stages == [Stage.ASSIGNED, Stage.DOWNLOADED, Stage.TESTED, Stage.STAGED, Stage.PROBATION]
    assert bench.slots.mark() == Mark(1, bench.assignment(bench.assigned(first)).digest)
    assert reasons(bench.told_of(bench.assigned(first))) == ["active"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gateway": "gw-b"}, "foreign"),
        ({"nonce": b"x" * 16}, "replayed"),
        ({"expires_us": 1}, "expired"),
    ],
)
def test_row_15_a_foreign_and_an_old_one_are_refused(bench: Bench, change: dict[str, object], reason: str) -> None:
    release = bench.assigned(bench.made(1))
    document = bench.sealed(replace(bench.assignment(release), **change))  # type: ignore[arg-type]
    assert bench.told(document).reason == reason
    assert (bench.active(), bench.slots.mark()) == ("factory", Mark())


def test_row_15_a_lower_counter_and_another_word_under_the_same_are_refused(bench: Bench) -> None:
    release = bench.assigned(bench.made(1))
    assert bench.told_of(counter=7).reason == ""
    assert bench.told_of(release, counter=6).reason == "older"
    assert bench.told_of(release, counter=7).reason == "conflicting"
    assert bench.active() == "factory"
    assert reasons(bench.told_of(release, counter=8)) == [""]


def test_row_15_a_stolen_director_key_cannot_make_or_change_a_release(bench: Bench) -> None:
    """It chooses among what offline keys signed, and not below what ran."""
    first, second = (bench.assigned(bench.made(version)) for version in (1, 2))
    for changed in (
        replace(first, sha256="0" * 64),
        replace(first, length=first.length + 1),
        replace(first, sha256=second.sha256, length=second.length),
    ):
        assert reasons(bench.told_of(changed, counter=bench.slots.mark().counter + 1)) == ["disagree"]
    assert reasons(bench.told_of(replace(first, counter=9), counter=4)) == ["target_unknown"]
    assert reasons(bench.told_of(replace(first, family="other"), counter=5)) == ["target_unknown"]
    assert bench.active() == "factory"
    assert reasons(bench.told_of(second, counter=6)) == [""]
    assert reasons(bench.told_of(first, counter=7)) == ["older"]
    foreign = bench.assigned(bench.made(3, Wishes(hardware=("mips",))))
    assert reasons(bench.told_of(foreign, counter=8)) == ["incompatible"]
    assert bench.active() == "2"


def test_only_keys_of_the_root_sign_assignments(bench: Bench) -> None:
    release = bench.assigned(bench.made(1))
    stranger = CryptoSigner.generate_ed25519()
    for key in (stranger, bench.online["snapshot"], bench.team.signers[0]):
        assert isinstance(key, CryptoSigner)
        assert bench.told(bench.sealed(bench.assignment(release), key)).reason == "signature"
    bench.ceremony.rotate("director", Quorum([stranger], 1), bench.root.signers)
    assert bench.told(bench.sealed(bench.assignment(release))).reason == "signature", "it was rotated away"
    assert reasons(bench.told(bench.sealed(bench.assignment(release), stranger))) == [""]


def test_outside_its_window_nothing_happens(bench: Bench) -> None:
    release = bench.assigned(bench.made(1))
    early = replace(release, from_us=bench.now_us + US_PER_S)
    late = replace(release, until_us=bench.now_us)
    for counter, one in enumerate((early, late), 1):
        done = bench.told_of(one, counter=counter)
        assert (done.reason, done.outcomes, bench.active()) == ("", [], "factory")
    within = replace(release, from_us=bench.now_us, until_us=bench.now_us + US_PER_S)
    assert reasons(bench.told_of(within, counter=3)) == [""]


def test_row_06_a_gateway_without_a_clock_knows_by_the_cloud_s_time_what_has_expired(bench: Bench) -> None:
    """The time that the stream told is a floor; a clock far ahead suspends updates and nothing else."""
    release = bench.assigned(bench.made(1))
    document, server_us = bench.sealed(bench.assignment(release)), bench.now_us
    now = bench.clock.now
    bench.clock.now = datetime(1970, 1, 2, tzinfo=UTC)
    assert bench.told(document, server_time_us=server_us + 3 * 86_400 * US_PER_S).reason == "expired"
    bench.clock.now = datetime(2038, 1, 19, tzinfo=UTC)
    assert bench.told(document, server_time_us=server_us).reason == "expired"
    assert bench.active() == "factory"
    bench.clock.now = datetime(1970, 1, 2, tzinfo=UTC)
    assert reasons(bench.told(document, server_time_us=server_us)) == [""]
    bench.clock.now = now


def test_the_floor_moves_on() -> None:
    dial = DialClock(datetime(1970, 1, 2, tzinfo=UTC))
    clock = NotBefore(dial, 10**15)
    dial.sleep(5)
    assert clock.wall_ns() == 10**18 + 5 * 10**9
    dial.now = datetime.fromtimestamp(10**9 + 100, UTC)
    assert clock.wall_ns() == dial.wall_ns()


def test_a_damaged_mark_stops_updates_and_says_how_to_go_on(bench: Bench) -> None:
    release = bench.assigned(bench.made(1))
    path = bench.state / "ota" / "assignment.json"
    path.write_text("{")
    done = bench.told_of(release)
    assert (done.reason, "Try: rm" in done.text, bench.active()) == ("disk", True, "factory")
    path.unlink()
    assert reasons(bench.told_of(release)) == [""]


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_certificate_that_names_nobody_is_nobody_s(bench: Bench, content: bytes) -> None:
    release = bench.assigned(bench.made(1))
    bench.certificate.write_bytes(content)
    assert gateway_in(content) == ""
    assert bench.told_of(release).reason == "foreign"


def test_a_repository_that_lies_is_the_reason(bench: Bench) -> None:
    release = bench.assigned(bench.made(1))
    bench.clock.now += timedelta(days=3)  # nobody re-signed
    assert bench.told_of(release).reason == "expired"
    bench.clock.now -= timedelta(days=3)
    path = bench.folder / "objects" / "ota" / "metadata" / "timestamp.json"
    told = json.loads(path.read_text())
    told["signed"]["version"] += 1
    path.write_text(json.dumps(told))
    assert bench.told_of(release).reason == "signature"
    assert bench.active() == "factory"


def test_row_17_patches_that_a_release_offers_are_left_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Format 1 has no patches: whatever a release says of them, for whatever base, the whole files are fetched."""
    plain = Release.custom
    offered = {"0" * 64: {"target": "models/toy/1/patch", "result": "1" * 64, "length": 1 << 40, "window": 2 << 30}}
    monkeypatch.setattr(Release, "custom", lambda self: plain(self) | {"deltas": offered})
    release = bench.assigned(bench.made(1))
    assert reasons(bench.told_of(release)) == [""]
    assert (bench.active(), bench.slots.damage(bench.slots.record("toy").active)) == ("1", "")  # type: ignore[arg-type]


def test_every_row_of_the_list_has_a_test_with_its_name() -> None:
    """Rows 1 to 28: `test_row_NN_...`, or `test_row_NN_and_MM_...` and `test_row_NN_to_MM_...`."""
    named: set[int] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for first, word, last in re.findall(
            r"def test_row_(\d\d)(?:_(and|to)_(\d\d))?", path.read_text(encoding="utf-8")
        ):
            named |= {int(first)} | ({int(last)} if word else set())
            named |= set(range(int(first), int(last))) if word == "to" else set()
    assert named == set(range(1, 29))
