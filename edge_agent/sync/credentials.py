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
        """CA, certificate and key, as they are now (renewal replaces the files). Raises CredentialsRejected."""
        found = []
        for path in (self.ca, self.cert, self.key):
            try:
                found.append(path.read_bytes())
            except OSError as error:
                raise CredentialsRejected(
                    f"{path}: {error.strerror}. Try: cloud-sync cert issue, and copy its files here"
                ) from error
        return found[0], found[1], found[2]

    def refusal(self, host: str, port: int, server_name: str) -> str | None:
        """Why TLS with these files fails at host:port; None when it does not, or when nobody answers there.

        gRPC tells of a failed handshake only as an unavailable peer; one handshake of our own finds the reason.
        A server of TLS 1.3 refuses a client's certificate after the handshake, so one read is tried as well.
        """
        try:
            context = ssl.create_default_context(cafile=str(self.ca))
            context.load_cert_chain(str(self.cert), str(self.key))
        except (ssl.SSLError, OSError) as error:
            return f"{self.cert} and {self.key} do not load: {error}. Try: cloud-sync cert show {self.cert}"
        context.set_alpn_protocols(["h2"])
        try:
            with (
                socket.create_connection((host, port), PROBE_S_MAX) as plain,
                context.wrap_socket(plain, server_hostname=server_name or host) as secure,
            ):
                secure.settimeout(1.0)
                secure.recv(1)
        except ssl.SSLCertVerificationError as error:
            return (
                f"the cloud's certificate is refused: {error.verify_message}. "
                f"Is {self.ca} the CA of {host}, and is [cloud] server_name right?"
            )
        except ssl.SSLError as error:
            if error.reason and "ALERT" in error.reason:
                return (
                    f"the cloud refuses {self.cert}: {error.reason.lower().replace('_', ' ')}; {self.own_doubt()}. "
                    "Try: cloud-sync cert issue"
                )
        except OSError:
            return None
        return None

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
