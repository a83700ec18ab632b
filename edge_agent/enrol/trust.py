"""The CAs that this gateway trusts, in a file that the cloud may replace: a new CA needs no hands here."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from edge_agent.enrol.files import erase, write_file
from edge_agent.errors import AgentError, CredentialsRejected, LinkDown
from edge_agent.sync.credentials import Credentials, Ended
from wire.trust import BUNDLE_BYTES_MAX, bundle_digest

log = logging.getLogger(__name__)


class TrustFile:
    """`ca.pem` of a joined identity. Blocking."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def digest(self) -> int:
        """What Hello says of it; 0, so that nothing is sent, when it cannot be read."""
        try:
            return bundle_digest(self._path.read_bytes()[: BUNDLE_BYTES_MAX + 1])
        except OSError:
            return 0

    def replace(self, bundle: bytes, host: str, port: int, name: str) -> None:
        """Trust these CAs from now on, if the cloud that answers at host:port as `name` is of one of them: a gateway
        that shut itself out could not be told better.

        Raises CredentialsRejected when it is of none, LinkDown when nobody answers, StateUnusable. The file is as it
        was then.
        """
        if len(bundle) > BUNDLE_BYTES_MAX:
            raise CredentialsRejected(f"{len(bundle)} bytes of CAs, at most {BUNDLE_BYTES_MAX}")
        offered = self._path.with_name(self._path.name + ".offered")
        write_file(offered, bundle)
        try:
            found = Credentials(offered, offered, offered).handshake(host, port, name, present=False)
            if found.ended is Ended.UNTRUSTED:
                raise CredentialsRejected(f"the cloud's own certificate is of none of them: {found.why}")
            if found.ended is Ended.CUT:
                raise LinkDown(found.why)
            write_file(self._path, bundle)
        finally:
            erase(offered)


class Learning:
    """What Welcome says of trust, and what becomes of it. Without a file (certificates that people put here are theirs)
    nothing is learnt. On the event loop's thread."""

    def __init__(self, file: TrustFile | None, host: str, port: int, name: str) -> None:
        self._file = file
        self._place = host, port, name
        self._news: asyncio.Queue[bytes] = asyncio.Queue()
        self.wants_renewal = False  # as the last Welcome said

    def digest(self) -> int:
        """For Hello."""
        return 0 if self._file is None else self._file.digest()

    def told(self, bundle: bytes, renew: bool) -> None:
        """The cloud has said Welcome."""
        self.wants_renewal = renew
        if bundle:
            self._news.put_nowait(bundle)

    async def run(self) -> None:
        """Until cancelled. What cannot be trusted is said and left; the next Welcome offers it again."""
        while True:
            bundle = await self._news.get()
            if self._file is None:
                continue
            try:
                await asyncio.to_thread(self._file.replace, bundle, *self._place)
            except AgentError as error:
                log.warning("the cloud's new CAs are not taken over: %s", error)
            else:
                log.info("the CAs of the cloud have changed, and are trusted from now on")
