"""Joining a cloud with a token, and leaving it.

The order makes a second try safe: the key is on disk before anything is sent, the cloud gives the same answer to the
same key, and the identity appears whole, by one rename.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.enrol import client
from edge_agent.enrol.client import Joined, Place
from edge_agent.enrol.files import erase, make_folder, unusable_file, write_file
from edge_agent.enrol.identity import ASSIGNED, BEGUN, FOLDER, Identity, JoinFacts, facts_json, identity_of
from edge_agent.enrol.keys import DeviceKey, certificate_of, validity
from edge_agent.enrol.owner import as_owner_of
from edge_agent.enrol.probe import trusted_ca
from edge_agent.errors import CredentialsRejected, JoinRefused, LinkDown
from edge_agent.version import VERSION
from wire.clock import NS_PER_S, Clock, machine_id
from wire.durable import fsync_folder
from wire.join import ENROL_PORT, JoinToken, split_address

ASK_AGAIN_S = 3.0
CLOCK_YEARS = (1970, 2099)  # in which the cloud's certificate is valid

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What `edge-agent join` was told."""

    token: JoinToken
    gateway: str  # the id asked for
    cloud: str  # HOST:PORT of the enrolment port; empty: as in the token
    server_name: str
    wait_s: float  # for approval


def join(state_dir: Path, wish: Wish, check_config: Callable[[Path], list[str]], clock: Clock, say: Say) -> Identity:
    """Become a gateway of the token's cloud. `check_config` gives the problems of a first configuration. With the token
    that was joined with nothing happens: a boot that is repeated joins once.

    Raises JoinRefused, CredentialsRejected, LinkDown, StateUnusable; each leaves things so that a second try is safe.
    """
    there = identity_of(state_dir)
    if there is not None and there.facts.token == wish.token.id:
        return there
    if there is not None:
        raise JoinRefused(
            f"this device is gateway {there.facts.gateway} of {there.facts.host} already. Try: edge-agent leave first"
        )
    host, port = _address(wish)
    _require_plausible(clock)
    ca = trusted_ca(wish.token, host, port)
    begun = state_dir / BEGUN
    with as_owner_of(state_dir):
        make_folder(state_dir)
        make_folder(begun)
        key = _key_for(begun, wish)
    place = Place(host, port, ca, wish.server_name)
    joined = asyncio.run(_ask(place, wish, key, clock, say))
    certificate = joined.issued.certificate
    if not key.fits(certificate):
        raise JoinRefused("the cloud sent a certificate for another key. Try: again, and tell who runs it")
    facts = JoinFacts(
        joined.gateway,
        host,
        joined.sync_port,
        port,
        wish.server_name,
        *validity(certificate),
        joined.labels,
        wish.token.id,
    )
    with as_owner_of(state_dir):
        write_file(begun / "ca.pem", joined.issued.ca_bundle)
        write_file(begun / "device.pem", key.pem + certificate)
        write_file(begun / "join.json", facts_json(facts))
        if joined.config:
            write_file(begun / ASSIGNED, joined.config.encode(), 0o640)
    problems = check_config(begun / ASSIGNED) if joined.config else []
    for line in problems:
        say(f"the cloud's first configuration is not used: {line}")
    with as_owner_of(state_dir):
        for name in ("begun.json", "key.pem", *([ASSIGNED] if problems else [])):
            erase(begun / name)
        _appear(begun, state_dir / FOLDER)
    return Identity(state_dir / FOLDER, facts)


def leave(identity: Identity, say: Say, *, force: bool) -> None:
    """Give the identity back to the cloud and erase it here; the buffer stays.

    Raises LinkDown, JoinRefused or CredentialsRejected unless told to go on without the cloud; StateUnusable.
    """
    facts = identity.facts
    try:
        device = identity.device.read_bytes()
        place = Place(facts.host, facts.sync_port, identity.ca.read_bytes(), facts.server_name)
        asyncio.run(client.leave(place, (certificate_of(device), DeviceKey.load(device).pem)))
    except (LinkDown, JoinRefused, CredentialsRejected) as error:
        if not force:
            raise type(error)(f"{error}. To leave all the same: edge-agent leave --force") from error
        say(f"the cloud was not told: {error}. There: cloud-sync gateway revoke {facts.gateway}")
    except (OSError, ValueError) as error:
        if not force:
            raise JoinRefused(f"{identity.folder} is damaged: {error}. Try: edge-agent leave --force") from error
    forget(identity.folder)


def forget(folder: Path) -> None:
    """Erase an identity's files: `join.json` first, so that what a cut leaves is none. Raises StateUnusable."""
    with as_owner_of(folder.parent):
        for path in [folder / "join.json", *(each for each in folder.glob("*") if each.name != "join.json")]:
            erase(path)
        with suppress(FileNotFoundError):
            folder.rmdir()


def _address(wish: Wish) -> tuple[str, int]:
    said = wish.cloud or wish.token.address
    if not said:
        raise JoinRefused("the token names no address. Try: edge-agent join TOKEN --cloud HOST:PORT")
    try:
        return split_address(said, ENROL_PORT)
    except ValueError as error:
        raise JoinRefused(f"--cloud: {error}") from error


def _require_plausible(clock: Clock) -> None:
    now = datetime.fromtimestamp(clock.wall_ns() // NS_PER_S, UTC)
    if not CLOCK_YEARS[0] <= now.year <= CLOCK_YEARS[1]:
        raise CredentialsRejected(
            f"this clock says {now:%Y-%m-%d}: TLS needs a year from {CLOCK_YEARS[0]} to {CLOCK_YEARS[1]}, any of them "
            "will do. Try: sudo date -s 2026-01-01"
        )


def _key_for(begun: Path, wish: Wish) -> DeviceKey:
    """The key of the try that was begun with this token and id, or a fresh one, on disk."""
    about = json.dumps({"token": wish.token.id, "gateway": wish.gateway}).encode()
    with suppress(OSError, ValueError):
        if (begun / "begun.json").read_bytes() == about:
            return DeviceKey.load((begun / "key.pem").read_bytes())
    key = DeviceKey.new()
    erase(begun / "begun.json")
    write_file(begun / "key.pem", key.pem)
    write_file(begun / "begun.json", about)
    return key


async def _ask(place: Place, wish: Wish, key: DeviceKey, clock: Clock, say: Say) -> Joined:
    request = key.request(wish.gateway)
    machine = hashlib.sha256(machine_id().encode()).digest()[:16]
    deadline_ns = clock.boottime_ns() + round(wish.wait_s * NS_PER_S)
    told = False
    while True:
        try:
            joined = await client.join(place, wish.token, wish.gateway, request, machine, VERSION)
        except LinkDown:
            if not told:
                raise
            joined = None  # it was there a moment ago, and somebody may be approving right now
        if joined is not None:
            return joined
        if not told:
            say(f"waits for approval. On the cloud, compare the code: cloud-sync gateway approve {key.code}")
            told = True
        if clock.boottime_ns() >= deadline_ns:
            raise LinkDown(
                f"nobody approved code {key.code} within {wish.wait_s:.0f} s. Try: the same command again, it goes on "
                "where it stopped"
            )
        await asyncio.sleep(ASK_AGAIN_S)


def _appear(begun: Path, folder: Path) -> None:
    try:
        if folder.exists():  # what a `leave` that was cut short has left: it holds no identity
            shutil.rmtree(folder)
        begun.rename(folder)
        fsync_folder(folder.parent)
    except OSError as error:
        raise unusable_file(folder, error) from error
