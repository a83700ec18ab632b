"""The catalog's tables, for SQLite and PostgreSQL alike. Integers are signed 64-bit; times are microseconds.

A `Seq` range is half-open. What is dated by the gateway's boot clock says `boot`; all other times are the database's.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 7

STORED = 0  # coverage.state; stored wins over tombstoned
TOMBSTONED = 1
ROLLED_UP = 2  # tombstoned, and a roll-up stands for it

metadata = MetaData()

_ROW_ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only an INTEGER PRIMARY KEY

# One row. Locked by whoever takes numbers, so that message ids grow in the order of commits.
meta = Table(
    "meta",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=False),
    Column("schema_version", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("pack_id_next", BigInteger, nullable=False),
    Column("message_id_next", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)

gateway = Table(
    "gateway",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("first_seen_us", BigInteger, nullable=False),
    Column("last_seen_us", BigInteger, nullable=False),
    Column("agent_version", Text, nullable=False, server_default=""),
    Column("config_version", Text, nullable=False, server_default=""),
    Column("machine", LargeBinary, nullable=False, server_default=""),
    Column("models", Text, nullable=False, server_default="{}"),  # JSON: family → release that runs
)

# The offset in force stands in the row, so that a query dates stamps by one join; `boot_offset` keeps the history.
epoch = Table(
    "epoch",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("gateway", String(63), ForeignKey("gateway.id"), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("next_seq", BigInteger, nullable=False, server_default="0"),
    Column("predecessor", BigInteger, nullable=False, server_default="0"),
    Column("predecessor_next_seq", BigInteger),  # where that one ended; null: unknown
    Column("fragments", BigInteger, nullable=False, server_default="0"),  # rows in coverage
    Column("stored", BigInteger, nullable=False, server_default="0"),  # Seq in coverage, by state
    Column("tombstoned", BigInteger, nullable=False, server_default="0"),
    Column("unnumbered", BigInteger, nullable=False, server_default="0"),  # losses that never got a Seq
    Column("span_max_us", BigInteger, nullable=False, server_default="0"),  # longest message
    Column("offset_version", BigInteger, nullable=False, server_default="0"),  # 0: no anchor yet
    Column("offset_us", BigInteger, nullable=False, server_default="0"),
    Column("anchor_boot_us", BigInteger, nullable=False, server_default="0"),
    Column("synchronised", Boolean, nullable=False, server_default="0"),
    Column("uncertainty_us", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("gateway", "epoch"),
)

boot_offset = Table(
    "boot_offset",
    metadata,
    Column("epoch_id", BigInteger, ForeignKey("epoch.id"), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("offset_us", BigInteger, nullable=False),
    Column("anchor_boot_us", BigInteger, nullable=False),
    Column("synchronised", Boolean, nullable=False),
    Column("uncertainty_us", BigInteger, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("epoch_id", "version"),
)

# Per epoch disjoint ranges; neighbours of one state are one row.
coverage = Table(
    "coverage",
    metadata,
    Column("epoch_id", BigInteger, ForeignKey("epoch.id"), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    Column("state", BigInteger, nullable=False),
    PrimaryKeyConstraint("epoch_id", "first"),
    sqlite_with_rowid=False,
)

pack = Table(
    "pack",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=False),
    Column("key", Text, nullable=False, unique=True),
    Column("size", BigInteger, nullable=False),
    Column("messages", BigInteger, nullable=False),
    Column("committed_us", BigInteger, nullable=False),
)

message = Table(
    "message",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=False),
    Column("epoch_id", BigInteger, ForeignKey("epoch.id"), nullable=False),
    Column("pack_id", BigInteger, ForeignKey("pack.id"), nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),  # Seq
    Column("cells", BigInteger, nullable=False),
    Column("priority", BigInteger, nullable=False),
    Column("kind", BigInteger, nullable=False),
    Column("boot_min_us", BigInteger, nullable=False),
    Column("boot_max_us", BigInteger, nullable=False),
)

# Which messages hold a series set, and when: the index behind every query by time.
message_set = Table(
    "message_set",
    metadata,
    Column("epoch_id", BigInteger, nullable=False),
    Column("set_id", BigInteger, nullable=False),
    Column("boot_max_us", BigInteger, nullable=False),
    Column("message_id", BigInteger, ForeignKey("message.id"), nullable=False),
    PrimaryKeyConstraint("epoch_id", "set_id", "boot_max_us", "message_id"),
    sqlite_with_rowid=False,
)

series_set = Table(
    "series_set",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("definition", Text, nullable=False),  # JSON, `cloud_sync.catalog.definitions`
)

gateway_series_set = Table(
    "gateway_series_set",
    metadata,
    Column("gateway", String(63), ForeignKey("gateway.id"), nullable=False),
    Column("set_id", BigInteger, ForeignKey("series_set.id"), nullable=False),
    PrimaryKeyConstraint("gateway", "set_id"),
    sqlite_with_rowid=False,
)

tombstone = Table(
    "tombstone",
    metadata,
    Column("epoch_id", BigInteger, ForeignKey("epoch.id"), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    Column("reason", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("span_first_us", BigInteger, nullable=False),  # boot
    Column("span_last_us", BigInteger, nullable=False),  # boot
    PrimaryKeyConstraint("epoch_id", "first", "end", "reason"),
    sqlite_with_rowid=False,
)

# Machines that have shown this gateway's certificate; `epoch_id` is the epoch that the latest Hello called current.
machine = Table(
    "machine",
    metadata,
    Column("gateway", String(63), ForeignKey("gateway.id"), nullable=False),
    Column("machine", LargeBinary, nullable=False),
    Column("epoch_id", BigInteger, ForeignKey("epoch.id"), nullable=False),
    Column("first_seen_us", BigInteger, nullable=False),
    Column("last_seen_us", BigInteger, nullable=False),
    Column("retired", Boolean, nullable=False, server_default="0"),  # by people: it will not come back
    PrimaryKeyConstraint("gateway", "machine"),
    sqlite_with_rowid=False,
)

# What a machine's latest Hello answers for: Seq that it holds, that it is about to give up, that it will give.
claim = Table(
    "claim",
    metadata,
    Column("gateway", String(63), ForeignKey("gateway.id"), nullable=False),
    Column("machine", LargeBinary, nullable=False),
    Column("epoch_id", BigInteger, ForeignKey("epoch.id"), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    PrimaryKeyConstraint("gateway", "machine", "epoch_id", "first"),
    sqlite_with_rowid=False,
)

# Seq that no machine's latest Hello answered for. What coverage has of them since is no gap any more: readers subtract.
gap = Table(
    "gap",
    metadata,
    Column("epoch_id", BigInteger, ForeignKey("epoch.id"), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("epoch_id", "first"),
    sqlite_with_rowid=False,
)

# Each change of an alarm once: raised, grown, cleared.
alarm = Table(
    "alarm",
    metadata,
    Column("gateway", String(63), ForeignKey("gateway.id"), nullable=False),
    Column("alarm_id", BigInteger, nullable=False),
    Column("phase", BigInteger, nullable=False),
    Column("stamp_us", BigInteger, nullable=False),  # boot
    Column("epoch_id", BigInteger, ForeignKey("epoch.id"), nullable=False),
    Column("series", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("severity", BigInteger, nullable=False),
    Column("onset_us", BigInteger, nullable=False),  # boot
    Column("score", Double, nullable=False),
    Column("threshold", Double, nullable=False),
    Column("value", Double),
    Column("expected", Double),
    Column("low", Double),
    Column("high", Double),
    Column("unit", Text, nullable=False),
    PrimaryKeyConstraint("gateway", "alarm_id", "phase", "stamp_us"),
    sqlite_with_rowid=False,
)

# Which of them last. A row may outlive its alarm (two streams of one gateway at once): readers look for the end too.
active_alarm = Table(
    "active_alarm",
    metadata,
    Column("gateway", String(63), ForeignKey("gateway.id"), nullable=False),
    Column("alarm_id", BigInteger, nullable=False),
    PrimaryKeyConstraint("gateway", "alarm_id"),
    sqlite_with_rowid=False,
)

# What `token create` made. The secret is random, so its SHA-256 is enough.
join_token = Table(
    "join_token",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("secret_sha256", LargeBinary, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("uses_max", BigInteger, nullable=False),
    Column("uses", BigInteger, nullable=False, server_default="0"),
    Column("gateway", String(63), nullable=False, server_default=""),  # the only id it is good for; "": any free one
    Column("approved", Boolean, nullable=False),  # whoever has the token joins; else somebody looks at each
    Column("labels", Text, nullable=False),  # JSON object
    Column("config", Text, nullable=False),  # TOML
    Column("revoked_us", BigInteger, nullable=False, server_default="0"),
)

# Who asked with a token, one row per key.
join_request = Table(
    "join_request",
    metadata,
    Column("token_id", String(16), ForeignKey("join_token.id"), nullable=False),
    Column("key_sha256", LargeBinary, nullable=False),
    Column("code", String(16), nullable=False),
    Column("gateway", String(63), nullable=False),
    Column("machine", LargeBinary, nullable=False),
    Column("agent_version", Text, nullable=False),
    Column("state", BigInteger, nullable=False),  # `cloud_sync.catalog.access.RequestState`
    Column("requested_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("token_id", "key_sha256"),
)

# The certificate that a gateway has, and the one before it until the new one was used.
identity = Table(
    "identity",
    metadata,
    Column("gateway", String(63), primary_key=True),
    Column("revoked_us", BigInteger, nullable=False, server_default="0"),
    Column("reason", Text, nullable=False, server_default=""),
    Column("key_sha256", LargeBinary, nullable=False, server_default=""),
    Column("serial", String(40), nullable=False, server_default=""),  # hex
    Column("serial_before", String(40), nullable=False, server_default=""),
    Column("certificate", Text, nullable=False, server_default=""),  # PEM
    Column("not_after_us", BigInteger, nullable=False, server_default="0"),
    Column("labels", Text, nullable=False, server_default="{}"),
    Column("config", Text, nullable=False, server_default=""),
    Column("changed_us", BigInteger, nullable=False),
)

# What people and programs show over HTTP: API tokens, one-time links, and sessions that either opened.
credential = Table(
    "credential",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("kind", String(12), nullable=False),  # `cloud_sync.auth.credentials.Kind`
    Column("secret_sha256", LargeBinary, nullable=False),
    Column("role", BigInteger, nullable=False),  # `cloud_sync.auth.roles.Role`
    Column("name", Text, nullable=False),
    Column("parent", String(16), nullable=False, server_default=""),  # the token that a session ends with
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger, nullable=False, server_default="0"),  # revoked, used, logged out
    Column("seen_us", BigInteger, nullable=False, server_default="0"),  # to the hour
)

# Receivers that are told what happens. The secret signs, so it is kept as it is.
webhook = Table(
    "webhook",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("events", Text, nullable=False),  # of `cloud_sync.catalog.webhooks.EVENTS`, with commas
    Column("silent_after_s", BigInteger, nullable=False),
    Column("allow_private", Boolean, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("due_us", BigInteger, nullable=False, server_default="0"),  # before that nothing is tried
    Column("failures", BigInteger, nullable=False, server_default="0"),  # in a row
    Column("dropped", BigInteger, nullable=False, server_default="0"),
    Column("taken_us", BigInteger, nullable=False, server_default="0"),
    Column("error", Text, nullable=False, server_default=""),
)

# What waits for a receiver, in the order of `id`.
webhook_delivery = Table(
    "webhook_delivery",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=False),
    Column("webhook_id", String(16), ForeignKey("webhook.id"), nullable=False),
    Column("event_id", String(40), nullable=False),
    Column("body", Text, nullable=False),
    Column("queued_us", BigInteger, nullable=False),
    UniqueConstraint("webhook_id", "event_id"),
)

# Silences and gaps that a receiver was told of and that last.
webhook_told = Table(
    "webhook_told",
    metadata,
    Column("webhook_id", String(16), ForeignKey("webhook.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("subject", String(63), nullable=False),
    Column("since_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("webhook_id", "kind", "subject"),
)

# Only ever added to; `hash` covers the row and the hash before it.
audit = Table(
    "audit",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

# What people want each gateway to run, and how often that has changed.
assignment = Table(
    "assignment",
    metadata,
    Column("gateway", String(63), nullable=False),
    Column("family", String(64), nullable=False),
    Column("release_counter", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("from_us", BigInteger, nullable=False),  # when it may be installed; 0: no such bound
    Column("until_us", BigInteger, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("gateway", "family"),
    sqlite_with_rowid=False,
)
assignment_counter = Table(
    "assignment_counter",
    metadata,
    Column("gateway", String(63), primary_key=True),
    Column("counter", BigInteger, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Steps of updates as gateways told them; the newest of each gateway are kept.
update_report = Table(
    "update_report",
    metadata,
    Column("gateway", String(63), nullable=False),
    Column("id", BigInteger, nullable=False),
    Column("received_us", BigInteger, nullable=False),  # unique within a gateway: their order
    Column("at_us", BigInteger, nullable=False),  # the gateway's clock
    Column("family", Text, nullable=False),
    Column("release", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("text", Text, nullable=False),
    PrimaryKeyConstraint("gateway", "id"),
    sqlite_with_rowid=False,
)

Index("assignment_by_change", assignment_counter.c.changed_us)
Index("report_by_time", update_report.c.gateway, update_report.c.received_us)
Index("webhook_delivery_by_hook", webhook_delivery.c.webhook_id, webhook_delivery.c.id)
Index("identity_by_change", identity.c.changed_us)
Index("alarm_by_onset", alarm.c.epoch_id, alarm.c.onset_us)
Index("message_by_pack", message.c.pack_id)
