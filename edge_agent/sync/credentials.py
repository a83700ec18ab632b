"""The three files that make this gateway who it is, and why a TLS handshake with them failed."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from edge_agent.card import may_pass
from edge_agent.errors import CredentialsRejected, LinkDown

PROBE_S_MAX = 5.0


class Ended(Enum):
    """How a handshake ended."""

    TAKEN = auto()  # the peer took what we showed, and speaks
    SILENT = auto()  # it took the handshake, and says nothing
    REFUSED = auto()  # it does not take our certificate, or that we showed none
    UNTRUSTED = auto()  # its own certificate is not good
    CUT = auto()  # nobody answers, or the link ended in the handshake


@dataclass(frozen=True, slots=True)
class Handshake:
    """How it ended and, where that needs words, why."""

    ended: Ended
    why: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """Paths of PEM files: the CA of the cloud, this gateway's certificate and its key."""

    ca: Path
    cert: Path
    key: Path

    @property
    def renewal(self) -> str:
        """The command that gives another certificate: a joined identity is one file, of `cert issue` come two."""
        return "edge-agent renew" if self.cert == self.key else "cloud-sync cert issue --help"

    def read(self) -> tuple[bytes, bytes, bytes]:
        """CA, certificate and key, as they are now (renewal replaces the files).

        Raises CredentialsRejected when one cannot be read or is no such thing: gRPC 1.85 dies on an empty key; LinkDown
        while the card does not give one.
        """
        found = []
        for path in (self.ca, self.cert, self.key):
            try:
                found.append(path.read_bytes())
            except OSError as error:
                if may_pass(error):
                    raise LinkDown(f"{path} cannot be read: {error.strerror or error}. Try: journalctl -k") from error
                raise CredentialsRejected(
                    f"{path}: {error.strerror}. Try: edge-agent join with a token of cloud-sync token create"
                ) from error
        self._context()
        return found[0], found[1], found[2]

    def _context(self, present: bool = True) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=str(self.ca))
        except (ssl.SSLError, OSError) as error:
            raise CredentialsRejected(f"{self.ca} holds no CA certificate: {error}") from error
        if not present:
            return context
        try:
            context.load_cert_chain(str(self.cert), str(self.key), password="")
        except (ssl.SSLError, OSError, ValueError) as error:
            raise CredentialsRejected(
                f"{self.cert} and {self.key} are no certificate and its key: {error}. "
                f"Try: cloud-sync cert show {self.cert}"
            ) from error
        return context

    def handshake(self, host: str, port: int, name: str, present: bool = True) -> Handshake:
        """One TLS handshake with what should be `name` at host:port; our certificate is shown if `present`.

        With TLS 1.3 a server refuses a client's certificate after the handshake, by closing: its first byte is waited
        for. Takes PROBE_S_MAX for each of connecting, handshake and first byte, at most. Raises CredentialsRejected
        when the files here are no credentials.
        """
        context = self._context(present)
        context.set_alpn_protocols(["h2"])
        try:
            plain = socket.create_connection((host, port), PROBE_S_MAX)
        except OSError as error:
            return Handshake(Ended.CUT, str(error.strerror or error))
        with plain:
            try:
                secure = context.wrap_socket(plain, server_hostname=name)
            except ssl.SSLCertVerificationError as error:
                return Handshake(Ended.UNTRUSTED, error.verify_message)
            except OSError as error:
                reason = getattr(error, "reason", None) or str(error.strerror or error)
                return Handshake(Ended.REFUSED if "ALERT" in reason else Ended.CUT, reason)
            answer = _first_byte(secure)
        if answer is None:
            return Handshake(Ended.SILENT, f"nothing was said within {PROBE_S_MAX:g} s")
        return Handshake(Ended.TAKEN if answer else Ended.REFUSED, "")

    def refusal(self, host: str, port: int, server_name: str) -> str | None:
        """Why TLS with these files fails at host:port; None when it does not, or when nobody answers there.

        gRPC tells of a failed handshake only as an unavailable peer; one handshake of our own finds the reason.
        """
        found = self.handshake(host, port, server_name or host)
        if found.ended is Ended.UNTRUSTED:
            return (
                f"the cloud's certificate is refused: {found.why}. "
                f"Is {self.ca} the CA of {host}, and is [cloud] server_name right?"
            )
        if found.ended is not Ended.REFUSED:
            return None  # cut or silent: the link, not the certificate
        return f"the cloud refuses {self.cert}; {self.own_doubt()}. Try: {self.renewal}"

    def own_doubt(self) -> str:
        """What a server that trusts the CA finds wrong with the certificate; its end date when it finds nothing."""
        problem, end = self.own_look()
        told = problem or f"it is valid until {end}; is this clock right?"
        return f"checked here against {self.ca}{': ' if problem else ' '}{told}"

    def own_look(self) -> tuple[str, str]:
        """What a server that trusts the CA finds wrong with the certificate, empty for nothing; and its end date.

        Both ends of the handshake are here, in memory.
        """
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_verify_locations(str(self.ca))
        for context in (server, client):
            context.load_cert_chain(str(self.cert), str(self.key))
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = (
            client.wrap_bio(to_client, to_server),
            server.wrap_bio(to_server, to_client, server_side=True),
        )
        try:
            for _ in range(4):  # TLS 1.3 needs three flights
                for end in ends:
                    with suppress(ssl.SSLWantReadError):
                        end.do_handshake()
            certificate = ends[1].getpeercert() or {}
        except ssl.SSLCertVerificationError as error:
            return error.verify_message, ""
        except ssl.SSLError as error:
            return str(error.reason), ""
        return "", str(certificate.get("notAfter", "?"))


def _first_byte(secure: ssl.SSLSocket) -> bytes | None:
    """What a server says first (RFC 9113, 3.4: one that takes us speaks); empty: it hung up; None: it is silent."""
    with secure:
        try:
            return secure.recv(1)
        except TimeoutError:
            return None
        except OSError:
            return b""
