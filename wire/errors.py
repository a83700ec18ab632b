"""Errors of the wire package, named by what the caller does next.

WireError
├── SegmentCorrupt       set aside: these bytes are no segment; count them, keep the stream's other data
├── UnsupportedFormat    refuse: a newer version, kind or codec than this end knows
├── MergeRefused         keep apart: these atoms may not stand in one message
└── ProtocolViolation    drop the stream: the peer broke the sync protocol
"""


class WireError(Exception):
    """Root of the package's errors."""


class SegmentCorrupt(WireError):
    """The bytes are not a segment this version can trust. Nothing of them was used."""


class UnsupportedFormat(WireError):
    """The bytes are of a version, kind or codec that this end does not know."""


class MergeRefused(WireError):
    """Atoms that differ in epoch, class, kind or anchor, or are too many, may not share a message."""


class ProtocolViolation(WireError):
    """The peer sent a frame that the protocol does not allow here. Drop the stream, keep the data."""
