"""`edge-ota assign | status | rollback | explain`: which gateway shall run what, and what became of it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cloud_sync.cli_options import catalog_option, data_option, json_option, store_option
from cloud_sync.errors import ConfigInvalid, NotFound
from cloud_sync.ota_options import fleet_catalog, keyring_of, keys_option, opened_repository, release_named, sign_online
from wire.clock import US_PER_S

if TYPE_CHECKING:
    from cloud_sync.catalog.assignments import Assignments
    from cloud_sync.rollout.standing import Place
    from wire.assignment import Assigned
    from wire.release import Release

WATCH_S = 2.0
BAR_WIDTH = 24
from_option = click.option("--from", "begins", help="Install from this time on: 2026-12-01T02:00Z.")
until_option = click.option("--until", "ends", help="Do not install any more from this time on.")


@click.command()
@click.argument("which", metavar="GATEWAY|NAME=VALUE|all")
@click.argument("release", metavar="FAMILY/COUNTER")
@from_option
@until_option
@data_option
@catalog_option
@store_option
@json_option
def assign(
    *,
    which: str,
    release: str,
    begins: str | None,
    ends: str | None,
    data: Path,
    catalog: str | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Let a gateway, those that joined with a label, or all of them run a release that was pushed."""
    from cloud_sync.rollout.publish import release_of

    with fleet_catalog(data, catalog) as opened:
        repository, _ = opened_repository(data, store)
        repository.require()
        found = release_of(repository, *release_named(release))
        wanted = _assigned(found, _time_us(begins, "--from"), _time_us(ends, "--until"))
        _assign(opened.assignments, which, wanted, as_json)


@click.command()
@click.argument("which", metavar="GATEWAY|NAME=VALUE|all")
@click.argument("release", metavar="FAMILY/COUNTER")
@keys_option
@data_option
@catalog_option
@store_option
@json_option
def rollback(
    *, which: str, release: str, keys: Path, data: Path, catalog: str | None, store: str | None, as_json: bool
) -> None:
    """Let gateways run an older release again: its bytes are signed anew under the next counter, and assigned.

    A gateway never goes back to a lower counter by itself, so that nobody can make it.
    """
    from cloud_sync.rollout.ceremony import Ceremony
    from cloud_sync.rollout.publish import again
    from wire.clock import SystemClock

    with fleet_catalog(data, catalog) as opened:
        repository, _ = opened_repository(data, store)
        repository.require()
        opened.assignments.choose(which)
        ceremony = Ceremony(repository, SystemClock())
        family, counter = release_named(release)
        anew, files = again(repository, family, counter, ceremony.releases(family).counters)
        if files:
            team = keyring_of(keys, confirm=False).load(family)
            with click.progressbar(length=sum(map(len, files.values())), label=anew.name, file=sys.stderr) as bar:
                ceremony.release(anew, files, team, bar.update)
            sign_online(repository, data, catalog)
            if not as_json:
                click.echo(f"{anew.name} is {release} again")
        _assign(opened.assignments, which, _assigned(anew), as_json)


@click.command()
@click.argument("which", metavar="[GATEWAY|NAME=VALUE|all]", default="all")
@click.option("--watch", is_flag=True, help="Show changes until nothing moves any more. Exit 1 when a release failed.")
@data_option
@catalog_option
@json_option
def status(which: str, watch: bool, data: Path, catalog: str | None, as_json: bool) -> None:
    """Show what each gateway shall run, what it runs, and how far it is."""
    with fleet_catalog(data, catalog) as opened:
        places = _places(opened.assignments, which)
        if as_json:
            _print_json(places)
        else:
            _print_table(places)
        seen = {_key(place): _row(place) for place in places}
        while watch and not all(place.has_ended for place in places):
            time.sleep(WATCH_S)
            places = _places(opened.assignments, which)
            changed = [place for place in places if seen.get(_key(place)) != _row(place)]
            if changed and as_json:
                _print_json(places)
            for place in changed if not as_json else ():
                click.echo("  ".join(_row(place)).rstrip())
            if changed and not as_json:
                click.echo(_bar(places), err=True)
            seen = {_key(place): _row(place) for place in places}
        if watch and any(place.state in ("refused", "rolled_back") for place in places):
            sys.exit(1)


@click.command()
@click.argument("gateway")
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="How many steps, newest first."
)
@data_option
@catalog_option
@json_option
def explain(gateway: str, limit: int, data: Path, catalog: str | None, as_json: bool) -> None:
    """Say where each release is on a gateway and why, with the steps that it reported."""
    from cloud_sync.rollout.standing import history

    with fleet_catalog(data, catalog) as opened:
        if opened.assignments.choose(gateway) != [gateway]:
            raise NotFound(f"{gateway!r} is no gateway. Try: cloud-sync gateway list")
        places = _places(opened.assignments, gateway)
        desired = opened.assignments.of(gateway)
        cloned = opened.is_cloned(gateway)
        steps = history(opened.assignments.reports(gateway, limit))
    hint = "two machines use its certificate: nothing is sent to it. Try: cloud-sync machine list" if cloned else ""
    if as_json:
        told = {
            "schema_version": 1,
            "gateway": gateway,
            "counter": desired.counter if desired else 0,
            "withheld": hint,
            "families": [place.document() for place in places],
            "steps": steps,
        }
        click.echo(json.dumps(told, indent=1))
        return
    for place in places:
        wanted = place.standing.desired
        click.echo(f"{place.standing.family}: {wanted.name if wanted else place.standing.running}, {place.state}")
        click.echo(f"  {place.why}")
    if hint:
        click.echo(hint)
    for step in steps:
        why = ": ".join(part for part in (step["reason"], step["text"]) if part)
        click.echo(f"  {step['received_at']}  {step['release'] or 'assignment'}  {step['stage']}  {why}".rstrip())
    if not places and not steps:
        click.echo(f"nothing was assigned to {gateway}. Try: edge-ota assign {gateway} FAMILY/COUNTER", err=True)


def _assign(assignments: Assignments, which: str, wanted: Assigned, as_json: bool) -> None:
    gateways = assignments.choose(which)
    changed = assignments.assign(gateways, wanted)
    if as_json:
        told = {"schema_version": 1, "release": wanted.name, "gateways": gateways, "changed": changed}
        click.echo(json.dumps(told, indent=1))
    else:
        click.echo(f"{wanted.name} is assigned to {len(gateways)} gateways, new for {changed}")


def _assigned(release: Release, from_us: int = 0, until_us: int = 0) -> Assigned:
    import hashlib

    from wire.assignment import Assigned

    document = release.document()
    digest = hashlib.sha256(document).hexdigest()
    return Assigned(release.family, release.counter, digest, len(document), from_us, until_us)


def _time_us(text: str | None, option: str) -> int:
    if text is None:
        return 0
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigInvalid(f"{option} {text!r} is no time. Try: {option} 2026-12-01T02:00Z") from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if at.year < 2000:
        raise ConfigInvalid(f"{option} {text!r} lies before the year 2000")
    return int(at.timestamp()) * US_PER_S


def _places(assignments: Assignments, which: str) -> list[Place]:
    from cloud_sync.rollout.standing import place_of

    chosen = set(assignments.choose(which))
    return [place_of(one) for one in assignments.standings() if one.gateway in chosen and one.family]


def _key(place: Place) -> tuple[str, str]:
    return place.standing.gateway, place.standing.family


def _row(place: Place) -> list[str]:
    from cloud_sync.rollout.standing import printable

    one = place.standing
    assigned = one.desired.name if one.desired else "-"
    return [one.gateway, assigned, printable(one.running) or "-", place.state, place.reason]


def _print_table(places: Sequence[Place]) -> None:
    if not places:
        click.echo("nothing is assigned. Try: edge-ota assign GATEWAY FAMILY/COUNTER", err=True)
        return
    lines = [["GATEWAY", "ASSIGNED", "RUNNING", "STATE", "REASON"], *map(_row, places)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    click.echo(_bar(places), err=True)


def _bar(places: Sequence[Place]) -> str:
    counted: dict[str, int] = {}
    for place in places:
        counted[place.state] = counted.get(place.state, 0) + 1
    ended = sum(place.has_ended for place in places)
    done = BAR_WIDTH * ended // len(places)
    parts = ", ".join(f"{count} {state}" for state, count in sorted(counted.items()))
    return f"[{'#' * done}{'-' * (BAR_WIDTH - done)}] {ended} of {len(places)}: {parts}"


def _print_json(places: Sequence[Place]) -> None:
    told: dict[str, Any] = {"schema_version": 1, "places": [place.document() for place in places]}
    click.echo(json.dumps(told, indent=1))


COMMANDS = (assign, status, rollback, explain)
