"""One renewal: a new key and a certificate for it, in place of those that are there."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from edge_agent.enrol import client
from edge_agent.enrol.client import Issued, Place
from edge_agent.enrol.files import erase, write_file
from edge_agent.enrol.identity import Identity, facts_json
from edge_agent.enrol.keys import DeviceKey, certificate_of, validity
from edge_agent.enrol.owner import as_owner_of
from edge_agent.errors import CredentialsRejected, LinkDown
from edge_agent.sync.credentials import Credentials


def renew(identity: Identity, host: str, port: int) -> Identity:
    """Ask at the gateways' port `host`:`port`, or, where TLS there refuses the certificate, at the enrolment port.

    The new key is on disk before it is sent, the old pair stays until the new one is there whole, and the same key
    gets the same answer: a cut at any moment costs nothing.

    Raises:
        LinkDown: nobody answers.
        JoinRefused: the cloud says no.
        CredentialsRejected: a file here is damaged.
        StateUnusable: the disk refuses.
    """
    facts = identity.facts
    try:
        device = identity.device.read_bytes()
        ca = identity.ca.read_bytes()
        old, certificate = DeviceKey.load(device), certificate_of(device)
    except (OSError, ValueError) as error:
        raise CredentialsRejected(
            f"{identity.folder} is damaged: {error}. Try: edge-agent leave --force, then edge-agent join TOKEN"
        ) from error
    with as_owner_of(identity.folder.parent):
        key = _next_key(identity)
    request = key.request(facts.gateway)
    place = Place(host, port, ca, facts.server_name)
    issued = asyncio.run(_ask(identity, place, certificate, old, request))
    if not key.fits(issued.certificate):
        raise CredentialsRejected("the cloud sent a certificate for another key. Try: again, and tell who runs it")
    start_s, end_s = validity(issued.certificate)
    fresh = Identity(identity.folder, replace(facts, valid_from_s=start_s, valid_until_s=end_s))
    with as_owner_of(identity.folder.parent):
        write_file(identity.ca, issued.ca_bundle)
        write_file(identity.device, key.pem + issued.certificate)
        write_file(identity.folder / "join.json", facts_json(fresh.facts))
        erase(identity.next_key)
    return fresh


async def _ask(identity: Identity, place: Place, certificate: bytes, old: DeviceKey, request: bytes) -> Issued:
    try:
        return await client.renew(place, (certificate, old.pem), request)
    except LinkDown:
        paths = Credentials(identity.ca, identity.device, identity.device)
        refusal = await asyncio.to_thread(paths.refusal, place.host, place.port, place.server_name)
        if refusal is None:
            raise
    there = Place(identity.facts.host, identity.facts.enrol_port, place.ca, place.server_name)
    return await client.recover(there, certificate, request, old.sign_recovery(request))


def _next_key(identity: Identity) -> DeviceKey:
    """The key of a renewal that was begun and not ended, or a fresh one, on disk."""
    try:
        return DeviceKey.load(identity.next_key.read_bytes())
    except (OSError, ValueError):
        key = DeviceKey.new()
        write_file(identity.next_key, key.pem)
        return key
