"""Making a join token from what `cloud-sync token create` was told."""

from __future__ import annotations

import ipaddress
import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from cloud_sync.auth.ca import read_certificate
from cloud_sync.catalog.join_tokens import TokenTerms
from cloud_sync.data_folder import DataFolder
from cloud_sync.errors import ConfigInvalid, QueryInvalid
from cloud_sync.query.parameters import parse_duration
from wire.clock import US_PER_S
from wire.join import CONFIG_BYTES_MAX, ENROL_PORT, JoinToken, check_gateway_id, join_address, split_address

TTL_S_MAX = 365 * 86_400
_LABEL = re.compile(r"([A-Za-z][A-Za-z0-9_.-]{0,62})=([^\x00-\x1f]{0,200})")
LABELS_MAX = 32


def terms_of(
    *, uses: int, ttl: str, gateway: str, approve: bool, labels: Sequence[str], config: Path | None
) -> TokenTerms:
    """Checked. Raises ConfigInvalid, naming the option."""
    try:
        ttl_s = parse_duration("--ttl", ttl) // US_PER_S
    except QueryInvalid as error:
        raise ConfigInvalid(str(error)) from error
    if not 1 <= ttl_s <= TTL_S_MAX:
        raise ConfigInvalid(f"--ttl {ttl} is outside 1s to 365d")
    if gateway:
        if uses != 1:
            raise ConfigInvalid(f"--uses {uses} with --gateway: one id is one device. Try: without --uses")
        try:
            check_gateway_id(gateway)
        except ValueError as error:
            raise ConfigInvalid(f"--gateway: {error}") from error
    if len(labels) > LABELS_MAX:
        raise ConfigInvalid(f"--label is given {len(labels)} times, at most {LABELS_MAX}")
    pairs = {}
    for label in labels:
        match = _LABEL.fullmatch(label)
        if match is None:
            raise ConfigInvalid(f"--label {label[:80]!r} is not NAME=VALUE. Try: --label site=oslo")
        pairs[match[1]] = match[2]
    return TokenTerms(ttl_s, uses, gateway, not approve, pairs, "" if config is None else _config(config))


def make_token(folder: DataFolder, address: str | None) -> JoinToken:
    """A fresh token for the CA of this folder, with the address at which devices reach the service.

    Raises ConfigInvalid.
    """
    try:
        ca = x509.load_pem_x509_certificate(folder.pki.ca.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"{folder.pki.ca} cannot be read: {error}") from error
    port = _running_port(folder)
    try:
        host, port = split_address(address, port) if address else (_first_name(folder), port)
    except ValueError as error:
        raise ConfigInvalid(f"--address: {error}") from error
    return JoinToken.new(ca.public_bytes(serialization.Encoding.DER), join_address(host, port))


def _first_name(folder: DataFolder) -> str:
    """Of the server's certificate: `init` puts the names it was given first."""
    for name in read_certificate(folder.pki.server).names:
        try:
            if ipaddress.ip_address(name).is_loopback:
                continue
        except ValueError:
            if name == "localhost":
                continue
        return name
    return "localhost"


def _running_port(folder: DataFolder) -> int:
    """The enrolment port of the service that runs on this folder, else the usual one."""
    try:
        addresses = json.loads(folder.addresses.read_text(encoding="utf-8"))
        return int(addresses["enrol"].rpartition(":")[2])
    except (OSError, ValueError, KeyError):
        return ENROL_PORT


def _config(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"--config {path}: {error}. Try: edge-agent config check -c {path}") from error
    if len(text.encode()) > CONFIG_BYTES_MAX:
        raise ConfigInvalid(f"--config {path}: over {CONFIG_BYTES_MAX} bytes, more than a join can carry")
    return text
