"""Pieces of the repository's files over a gateway's own connection, as values and as bytes. Decoding is total."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from wire.errors import ProtocolViolation
from wire.v1 import updates_pb2 as pb

FETCH_METHOD = "/tidegate.wire.v1.UpdateService/Fetch"  # protos/wire/v1/updates.proto
PIECE_BYTES_MAX = 256 << 10
PATH_LENGTH_MAX = 512
OFFSET_MAX = 1 << 40


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """`length` bytes from `offset` on; `path` begins with `metadata/` or `targets/`."""

    path: str
    offset: int
    length: int

    def encode(self) -> bytes:
        """As it goes over the wire."""
        return pb.FetchRequest(path=self.path, offset=self.offset, length=self.length).SerializeToString()

    @classmethod
    def decode(cls, data: bytes) -> FetchRequest:
        """Raises ProtocolViolation."""
        found = pb.FetchRequest()
        try:
            found.ParseFromString(data)
        except DecodeError as error:
            raise ProtocolViolation(f"a request of {len(data)} bytes is not protobuf") from error
        if len(found.path) > PATH_LENGTH_MAX or found.offset > OFFSET_MAX or not 1 <= found.length <= PIECE_BYTES_MAX:
            raise ProtocolViolation(f"a piece is 1 to {PIECE_BYTES_MAX} bytes, {found.length} were asked for")
        return cls(found.path, found.offset, found.length)


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a file of `total` bytes."""

    data: bytes
    total: int


def encode_piece(piece: Piece | None) -> bytes:
    """The answer; None: no such file."""
    if piece is None:
        return pb.FetchAnswer().SerializeToString()
    return pb.FetchAnswer(found=True, data=piece.data, total=piece.total).SerializeToString()


def decode_piece(data: bytes, length: int) -> Piece | None:
    """What was answered to a request for `length` bytes. Raises ProtocolViolation."""
    found = pb.FetchAnswer()
    try:
        found.ParseFromString(data)
    except DecodeError as error:
        raise ProtocolViolation(f"an answer of {len(data)} bytes is not protobuf") from error
    if len(found.data) > length or found.total > OFFSET_MAX:
        raise ProtocolViolation(f"{len(found.data)} bytes came, {length} were asked for")
    return Piece(found.data, found.total) if found.found else None
