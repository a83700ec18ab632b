"""Which CA a cloud shows, asked without trusting it and without telling it anything.

One TLS handshake: the enrolment port shows the CA's certificate after its own. The caller compares it with the hash in
its token and trusts nothing else of what it saw.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
from typing import Any

from edge_agent.errors import CredentialsRejected, LinkDown
from wire.join import JoinToken, join_address

TIMEOUT_S = 10.0
CHAIN_MAX = 10


def trusted_ca(token: JoinToken, host: str, port: int) -> bytes:
    """The CA's certificate, PEM, if it is the token's.

    Raises LinkDown when nobody answers, CredentialsRejected when somebody else does.
    """
    place = join_address(host, port)
    chain = _chain(host, port)
    for der in chain:
        if hashlib.sha256(der).digest() == token.ca_sha256:
            return ssl.DER_cert_to_PEM_cert(der).encode()
    shown = hashlib.sha256(chain[-1]).hexdigest()[:16] if chain else "none"
    raise CredentialsRejected(
        f"{place} is not the cloud of this token: the token is for CA {token.ca_sha256.hex()[:16]}..., there it is "
        f"{shown}... Nothing was sent. Is it another cloud's token or address, or does somebody listen in between? "
        f"Try: a token that `cloud-sync token create` made on {host}"
    )


def _chain(host: str, port: int) -> list[bytes]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    place = join_address(host, port)
    try:
        plain = socket.create_connection((host, port), TIMEOUT_S)
    except socket.gaierror as error:
        raise LinkDown(f"{host}: no such name ({error.strerror}). Try: getent hosts {host}") from error
    except OSError as error:
        raise LinkDown(
            f"{place} does not answer: {error.strerror or error}. Is cloud-sync running there, and its enrolment port "
            "open in the firewall?"
        ) from error
    with plain:
        try:
            with context.wrap_socket(plain, server_hostname=host) as secure:
                return _unverified(secure)[:CHAIN_MAX]
        except OSError as error:
            raise LinkDown(f"{place} speaks no TLS: {error}. Is it the enrolment port (8444 unless told)?") from error


def _unverified(secure: Any) -> list[bytes]:
    """What the peer showed, DER: public from Python 3.13 on, before that a method of the object beneath."""
    public = getattr(secure, "get_unverified_chain", None)
    if public is not None:
        return list(public())
    return [certificate.public_bytes(2) for certificate in secure._sslobj.get_unverified_chain() or ()]  # 2: DER
