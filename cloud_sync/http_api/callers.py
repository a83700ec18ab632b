"""Whose a credential is, asked of the catalog every few seconds at most, and how often one may be wrong."""

from __future__ import annotations

from collections import OrderedDict

from cloud_sync.auth.credentials import Credential
from cloud_sync.catalog.people import Caller, People
from cloud_sync.errors import CatalogDown, CredentialRefused
from cloud_sync.http_api.workers import Workers
from cloud_sync.refusals import Refusals, share_of
from wire.clock import NS_PER_S, NS_PER_US, Clock

FRESH_NS = 2 * NS_PER_S  # what is ended counts within that time, as with gateways
OUTAGE_NS = 600 * NS_PER_S  # so long metrics still tell those who watch them that the catalog is down
KNOWN_MAX = 1024


class TooManyRefusals(Exception):
    """This address showed too many credentials that are none: nothing is looked up for it now."""


class Callers:
    """Used from one event loop."""

    def __init__(self, people: People, workers: Workers, clock: Clock) -> None:
        self._people = people
        self._workers = workers
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[Caller, int]] = OrderedDict()
        self._refusals = Refusals()

    async def caller(self, shown: Credential, address: str) -> Caller:
        """Who shows this. Raises CredentialRefused, TooManyRefusals, CatalogDown, Busy."""
        key, now_ns = _key(shown), self._clock.boottime_ns()
        known, since_ns = self._known.get(key, (None, 0))
        if known is not None and now_ns < since_ns + FRESH_NS:
            return known
        if known is None:  # who was let in before is not shut out by others behind the same address
            self._require_share(address)
        try:
            caller = await self._workers.run(self._people.caller, shown)
        except CredentialRefused:
            self._known.pop(key, None)
            self._note_refusal(address)
            raise
        except CatalogDown:
            if known is None or now_ns >= since_ns + OUTAGE_NS:
                raise
            if self._clock.wall_ns() // NS_PER_US >= known.expires_us:
                raise
            return known
        self._known[key] = (caller, now_ns)
        self._known.move_to_end(key)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return caller

    async def open_session(self, shown: Credential | None, address: str) -> tuple[Credential, Caller]:
        """See `People.open_session`; None: what was shown is no credential. Raises as `caller` does."""
        self._require_share(address)
        try:
            if shown is None:
                raise CredentialRefused("this is no link or token of this cloud. Try: copy the whole line, once more")
            return await self._workers.run(self._people.open_session, shown, address)
        except CredentialRefused:
            self._note_refusal(address)
            raise

    async def end_session(self, shown: Credential, caller: Caller) -> None:
        """Log out. Raises CatalogDown, Busy."""
        self._known.pop(_key(shown), None)
        await self._workers.run(self._people.end, caller.id, caller.actor)

    def _note_refusal(self, address: str) -> None:
        self._refusals.note(share_of(address), self._now_s())

    def _require_share(self, address: str) -> None:
        if self._refusals.are_too_many(share_of(address), self._now_s()):
            raise TooManyRefusals(f"{address} showed too many tokens that are not good. Try: again in a minute")

    def _now_s(self) -> float:
        return self._clock.boottime_ns() / NS_PER_S


def _key(shown: Credential) -> bytes:
    return shown.id.encode() + shown.secret_sha256
