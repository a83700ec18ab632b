"""What is trusted, and how it changes: the client workflow of the TUF specification (1.0.34, section 5), without IO.

Numbers in comments are that section's. Parsing and signatures are python-tuf's metadata API; the order of checks, the
bounds and the time are ours. Nothing is taken over unless every check of its step passed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

from securesystemslib.signer import Key
from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError, SerializationError

from edge_agent.ota.errors import MetadataRejected

SIGNED_AT = "x-tidegate-signed-at"  # in timestamp.json: when it was signed, ISO 8601 in UTC
DIRECTOR = "x-tidegate-director"  # in root.json: key id → public key, hex
Content = TypeVar("Content", Root, Timestamp, Snapshot, Targets)


class Trust:
    """Root, timestamp, snapshot and targets that were verified so far in one refresh.

    `wall` is the machine's time; a timestamp that was trusted before and says when it was signed is a floor to it, so
    that a clock set back revives nothing that expired. The floor goes when the timestamp keys are rotated.
    """

    def __init__(self, root: bytes, wall: datetime) -> None:
        """Start from a root that is trusted because it was installed with the agent, or verified before (5.2).

        Raises:
            MetadataRejected: it is damaged, or not signed by its own keys.
        """
        self.root, payload = _parse(Root, "root", root)
        _verify(self.root, "root", *payload)
        self.now = wall
        self.timestamp: Timestamp | None = None
        self.snapshot: Snapshot | None = None
        self._targets: dict[tuple[str, str], Targets] = {}  # (delegator, role) → what that delegator's keys signed

    @property
    def director_keys(self) -> dict[str, bytes]:
        """Ed25519 public keys by key id; a field of our own in the root, nothing where it is not as it should be."""
        told = self.root.unrecognized_fields.get(DIRECTOR, {})
        try:
            return {str(keyid): bytes.fromhex(public) for keyid, public in told.items()}
        except (AttributeError, TypeError, ValueError):
            return {}

    def add_root(self, data: bytes) -> None:
        """The next root: signed by the old keys and its own, one version on (5.3.4, 5.3.5). It may have expired."""
        root, payload = _parse(Root, "root", data)
        _verify(self.root, "root", *payload)
        if root.version != self.root.version + 1:
            raise MetadataRejected(f"root {root.version} where {self.root.version + 1} is due", "rollback")
        _verify(root, "root", *payload)
        self.root = root

    def recall_timestamp(self, data: bytes) -> None:
        """The timestamp of an earlier refresh, as the bound below new ones; it may have expired.

        One that today's keys did not sign is refused: keys were rotated, to recover from a fast-forward (5.3.11).
        """
        self.timestamp = self._signed_by_root(Timestamp, "timestamp", data)
        self.now = max(self.now, _signed_at(self.timestamp))

    def check_root(self) -> None:
        """Raises MetadataRejected when the last root of the chain has expired (5.3.10)."""
        self._check_expiry("root", self.root)

    def add_timestamp(self, data: bytes) -> bool:
        """The repository's timestamp (5.4). False: it is the version that is trusted already, which is kept."""
        new = self._signed_by_root(Timestamp, "timestamp", data)
        old = self.timestamp
        if old is not None:
            if new.version == old.version:
                self._check_expiry("timestamp", old)
                return False
            if new.version < old.version or new.snapshot_meta.version < old.snapshot_meta.version:
                raise MetadataRejected(
                    f"timestamp {new.version} (snapshot {new.snapshot_meta.version}) after timestamp {old.version} "
                    f"(snapshot {old.snapshot_meta.version})",
                    "rollback",
                )
        self._check_expiry("timestamp", new)
        self.timestamp = new
        self.now = max(self.now, _signed_at(new))
        return True

    def recall_snapshot(self, data: bytes) -> bool:
        """The snapshot of an earlier refresh. True: it is the one that the timestamp names, no other is needed."""
        assert self.timestamp is not None
        self.snapshot = self._signed_by_root(Snapshot, "snapshot", data)
        try:
            self._check_snapshot(self.snapshot)
            _check_meta("snapshot", self.timestamp.snapshot_meta, data)
        except MetadataRejected:
            return False
        return True

    def add_snapshot(self, data: bytes) -> None:
        """The snapshot that the timestamp names (5.5): no role may vanish or go back."""
        assert self.timestamp is not None
        _check_meta("snapshot", self.timestamp.snapshot_meta, data)
        new = self._signed_by_root(Snapshot, "snapshot", data)
        for name, meta in (self.snapshot.meta if self.snapshot else {}).items():
            if name not in new.meta:
                raise MetadataRejected(f"snapshot {new.version} lacks {name}", "rollback")
            if new.meta[name].version < meta.version:
                raise MetadataRejected(
                    f"snapshot {new.version} has {name} at {new.meta[name].version}, it was {meta.version}", "rollback"
                )
        self._check_snapshot(new)
        self.snapshot = new

    def meta_of(self, role: str) -> MetaFile:
        """What the snapshot says of a targets role. Raises MetadataRejected when it says nothing."""
        assert self.snapshot is not None
        meta = self.snapshot.meta.get(f"{role}.json")
        if meta is None:
            raise MetadataRejected(f"{role} is delegated to, the snapshot does not name it", "mismatch")
        return meta

    def add_targets(self, data: bytes, role: str, delegator: str) -> Targets:
        """A targets role (5.6): as the snapshot names it, signed by the keys of its delegator."""
        meta = self.meta_of(role)
        _check_meta(role, meta, data)
        new, payload = _parse(Targets, role, data)
        _verify(self.root if delegator == "root" else self._delegator(delegator), role, *payload)
        if new.version != meta.version:
            raise MetadataRejected(f"{role} {new.version} where the snapshot names {meta.version}", "mismatch")
        self._check_expiry(role, new)
        self._targets[delegator, role] = new
        return new

    def targets(self, role: str, delegator: str) -> Targets | None:
        """A role that was added under this delegator."""
        return self._targets.get((delegator, role))

    def _delegator(self, role: str) -> Targets:
        return next(targets for (_, name), targets in self._targets.items() if name == role)

    def _signed_by_root(self, kind: type[Content], role: str, data: bytes) -> Content:
        content, payload = _parse(kind, role, data)
        _verify(self.root, role, *payload)
        return content

    def _check_snapshot(self, snapshot: Snapshot) -> None:
        assert self.timestamp is not None
        due = self.timestamp.snapshot_meta.version
        if snapshot.version != due:
            raise MetadataRejected(f"snapshot {snapshot.version} where the timestamp names {due}", "mismatch")
        self._check_expiry("snapshot", snapshot)

    def _check_expiry(self, role: str, content: Signed) -> None:
        if content.expires <= self.now:
            moment = "%Y-%m-%d %H:%M"
            expired = f"{role} {content.version} expired at {content.expires:{moment}} UTC"
            raise MetadataRejected(f"{expired}; it is {self.now:{moment}}", "expired")


def check_target(target: TargetFile, length: int, digests: dict[str, str]) -> str:
    """What is wrong with a file of `length` bytes and these digests, by algorithm; empty when it is the signed one."""
    if length != target.length:
        return f"{target.path} has {length} bytes, {target.length} are signed"
    for algorithm, digest in target.hashes.items():
        if digests[algorithm] != digest:
            return f"{target.path} has {algorithm} {digests[algorithm][:16]}…, {digest[:16]}… is signed"
    return ""


def _parse(kind: type[Content], role: str, data: bytes) -> tuple[Content, tuple[bytes, dict[str, object]]]:
    """Content, and what a signature covers with the signatures: unknown fields included."""
    try:
        metadata: Metadata[Content] = Metadata.from_bytes(data)
        payload = metadata.signed_bytes
    except (DeserializationError, SerializationError) as error:
        raise MetadataRejected(f"{role}: {error}: {error.__cause__}"[:300], "malformed") from error
    if not isinstance(metadata.signed, kind):
        raise MetadataRejected(f"{role} holds {metadata.signed.type}", "malformed")
    return metadata.signed, (payload, dict(metadata.signatures))


def _verify(delegator: Root | Targets, role: str, payload: bytes, signatures: dict[str, object]) -> None:
    """Raises MetadataRejected unless a threshold of different keys signed; one key under two ids counts once."""
    try:
        result = delegator.get_verification_result(role, payload, signatures)  # type: ignore[arg-type]
    except ValueError as error:
        raise MetadataRejected(f"{role}: {error}", "signature") from error
    signers = len({_identity(key) for key in result.signed.values()})
    if signers < result.threshold:
        raise MetadataRejected(f"{role} is signed by {signers} of {result.threshold} keys", "signature")


def _identity(key: Key) -> str:
    return str(key.keyval.get("public"))


def _check_meta(role: str, meta: MetaFile, data: bytes) -> None:
    try:
        meta.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise MetadataRejected(f"{role}: {error}", "mismatch") from error


def _signed_at(timestamp: Timestamp) -> datetime:
    """When a timestamp says it was signed; long ago when it does not say."""
    text = timestamp.unrecognized_fields.get(SIGNED_AT)
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return when if when.tzinfo else when.replace(tzinfo=UTC)
