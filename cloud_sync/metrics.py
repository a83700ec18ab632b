"""What the write path counts. Names and labels are stable; `docs/operating/cloud.md` lists them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """Counters of one service in `registry`."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        r = self.registry
        self.messages = Counter("tidegate_messages", "Messages by what became of them", ["outcome"], registry=r)
        self.readings = Counter("tidegate_readings", "Cells (values and gaps) made durable", registry=r)
        self.bytes = Counter("tidegate_message_bytes", "Bytes of messages made durable", registry=r)
        self.packs = Counter("tidegate_packs", "Packs committed", registry=r)
        self.pack_failures = Counter("tidegate_pack_failures", "Packs given up, by reason", ["reason"], registry=r)
        self.commit_seconds = Histogram(
            "tidegate_pack_commit_seconds",
            "From the first message's arrival to its pack's commit",
            buckets=(0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10),
            registry=r,
        )
        self.refused = Counter("tidegate_refused", "Messages refused for good, by code", ["code"], registry=r)
        self.streams = Gauge("tidegate_streams", "Open streams", registry=r)
        self.streams_ended = Counter("tidegate_streams_ended", "Streams by how they ended", ["reason"], registry=r)
        self.enrolments = Counter("tidegate_enrolments", "Enrolment calls by outcome", ["outcome"], registry=r)
        self.tls_refused = Counter(
            "tidegate_tls_refused", "Handshakes that TLS refused, by reason", ["reason"], registry=r
        )
        self.acks = Counter("tidegate_acks", "Acknowledgements sent", registry=r)
        self.commands_withheld = Counter(
            "tidegate_commands_withheld", "Commands not sent: two machines use the gateway's certificate", registry=r
        )
        self.tombstones = Counter("tidegate_tombstones", "Tombstones recorded", registry=r)
        self.orphans = Counter("tidegate_orphans_swept", "Objects deleted that no catalog row names", registry=r)
