"""The three files that make this gateway who it is, and why a TLS handshake with them failed."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_agent.errors import CredentialsRejected

PROBE_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """Paths of PEM files: the CA of the cloud, this gateway's certificate and its key."""

    ca: Path
    cert: Path
    key: Path

    def read(self) -> tuple[bytes, bytes, bytes]:
        """CA, certificate and key, as they are now (renewal replaces the files).

        Raises CredentialsRejected when one cannot be read or is no such thing: gRPC 1.85 dies on an empty key.
        """
        found = []
        for path in (self.ca, self.cert, self.key):
            try:
                found.append(path.read_bytes())
            except OSError as error:
                raise CredentialsRejected(
                    f"{path}: {error.strerror}. Try: edge-agent join with a token of cloud-sync token create"
                ) from error
        self._context()
        return found[0], found[1], found[2]

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=str(self.ca))
        except (ssl.SSLError, OSError) as error:
            raise CredentialsRejected(f"{self.ca} holds no CA certificate: {error}") from error
        try:
            context.load_cert_chain(str(self.cert), str(self.key), password="")
        except (ssl.SSLError, OSError, ValueError) as error:
            raise CredentialsRejected(
                f"{self.cert} and {self.key} are no certificate and its key: {error}. "
                f"Try: cloud-sync cert show {self.cert}"
            ) from error
        return context

    def refusal(self, host: str, port: int, server_name: str) -> str | None:
        """Why TLS with these files fails at host:port; None when it does not, or when nobody answers there.

        gRPC tells of a failed handshake only as an unavailable peer; one handshake of our own finds the reason.
        With TLS 1.3 a server refuses a client's certificate after the handshake, by closing.
        """
        context = self._context()
        context.set_alpn_protocols(["h2"])
        try:
            plain = socket.create_connection((host, port), PROBE_S_MAX)
        except OSError:
            return None
        with plain:
            try:
                secure = context.wrap_socket(plain, server_hostname=server_name or host)
            except ssl.SSLCertVerificationError as error:
                return (
                    f"the cloud's certificate is refused: {error.verify_message}. "
                    f"Is {self.ca} the CA of {host}, and is [cloud] server_name right?"
                )
            except OSError as error:
                if "ALERT" not in (getattr(error, "reason", None) or ""):
                    return None  # cut or silent in the handshake: the link, not the certificate
                answer: bytes | None = b""
            else:
                answer = _first_byte(secure)
        if answer != b"":
            return None
        return f"the cloud refuses {self.cert}; {self.own_doubt()}. Try: edge-agent renew"

    def own_doubt(self) -> str:
        """What a server that trusts the CA finds wrong with the certificate; its end date when it finds nothing.

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
            return f"checked here against {self.ca}: {error.verify_message}"
        except ssl.SSLError as error:
            return f"checked here against {self.ca}: {error.reason}"
        return (
            f"checked here against {self.ca} it is valid until {certificate.get('notAfter', '?')}; is this clock right?"
        )


def _first_byte(secure: ssl.SSLSocket) -> bytes | None:
    """What a server says first (RFC 9113, 3.4: one that takes us speaks); empty: it hung up; None: it is silent."""
    with secure:
        try:
            return secure.recv(1)
        except TimeoutError:
            return None
        except OSError:
            return b""
