"""The shapes of JSON answers, as OpenAPI shows them. Times of records are epoch milliseconds (`*_ms`)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

HEX_ID = "16 hexadecimal digits"
Number = float | Literal["NaN", "Infinity", "-Infinity"] | None


class Counts(BaseModel):
    """taken = stored + tombstoned + pending, in Seq numbers: one per cell, a value or a gap with its reason."""

    taken: int = Field(description="Seq numbers the gateway has given out, as far as it has told.")
    stored: int = Field(description="Durable here.")
    tombstoned: int = Field(description="Given up by the gateway, with a reason.")
    pending: int = Field(description="Still on the gateway, or on the way.")


class Account(Counts):
    """A ledger in sum."""

    gap: int = Field(description="Of the pending: what the gateway's latest Hello neither offers nor gives up.")
    losses_without_seq: int = Field(
        description="Readings lost before they got a Seq (power cuts, full rings); estimated."
    )
    cloned: bool = Field(description="Two machines use the gateway's certificate.")


class Gateway(Account):
    """One gateway and where its readings are."""

    id: str
    state: Literal["online", "offline"] = Field(description="offline: nothing heard for longer than `offline_after_s`.")
    first_seen_ms: int
    last_seen_ms: int
    offline_after_s: int
    agent_version: str
    config_version: str
    machine: str = Field(description="Hash of the machine id, hexadecimal: tells clones apart.")


class GatewayList(BaseModel):
    """One page of gateways, by id."""

    gateways: list[Gateway]
    next_page_token: str = Field(description="Empty on the last page.")
    total_size: int


class Definition(BaseModel):
    """One version of a series' meaning: value = (raw * num + off) / den."""

    id: str = Field(description=HEX_ID)
    value_type: Literal["int", "float32", "float64"]
    num: int
    den: int
    off: int
    low: float | None = Field(description="Plausible range, in the unit.")
    high: float | None
    rate_max: float | None = Field(description="Largest plausible change, unit per second.")
    calibration: int


class Series(BaseModel):
    """A series of a gateway. A series whose unit changed stands once for each unit."""

    name: str = Field(description="sensor/channel: what /v1/query takes.")
    sensor: str
    channel: str
    unit: str = Field(description="SenML unit (RFC 8428), such as Cel, Pa, %RH.")
    device_class: str
    definitions: list[Definition]


class SeriesList(BaseModel):
    """One page of series, by name."""

    series: list[Series]
    next_page_token: str
    total_size: int


class LatestReading(BaseModel):
    """The newest reading of a series. Fields are null when the last day it was heard of holds none."""

    name: str
    unit: str
    time_ms: int | None = Field(description="When the newest cell, a value or a gap, was taken.")
    gap: str | None = Field(description="Why the newest cell holds no value; null when it does.")
    quality: int = Field(
        description="Bits: 1 range, 2 stuck, 4 rate, 8 stale, 16 uncalibrated, 32 clock, 64 substituted."
    )
    value: Number = Field(description="The newest value.")
    value_time_ms: int | None


class LatestList(BaseModel):
    """The newest reading of every series."""

    latest: list[LatestReading]


class GatewayLatest(LatestList):
    """The newest readings of one gateway."""

    gateway: str


class FleetLatest(BaseModel):
    """The newest reading of every series of these gateways, by id."""

    gateways: list[GatewayLatest]
    next_page_token: str = Field(description="Empty on the last page.")


class AlarmModel(BaseModel):
    """One alarm: what it said when its score was largest. Values are in `unit`."""

    gateway: str
    id: str = Field(description=HEX_ID)
    epoch: str = Field(description=HEX_ID)
    series: str = Field(description="sensor/channel; of a model over several, the one that deviates most.")
    rule: str = Field(description="The model or rule that raised it.")
    state: Literal["active", "cleared"]
    severity: str = Field(description="info, warning or critical.")
    onset_ms: int = Field(description="When it began.")
    changed_ms: int = Field(description="When it was raised, grew or was cleared last.")
    cleared_ms: int | None = Field(description="null while it lasts.")
    score: Number = Field(description="The model's; of a rule, how far the value is out.")
    threshold: Number
    value: Number = Field(description="null when the sensor was silent.")
    expected: Number = Field(description="The nearest value known as normal; null when the rule has none.")
    low: Number = Field(description="Lower end of what was expected; null: open.")
    high: Number
    unit: str
    cause: str = Field(description="One line for people.")
    clock_unsure: bool = Field(description="The gateway's clock was not synchronised: times may be off.")


class AlarmList(BaseModel):
    """One page of alarms, newest onset first."""

    alarms: list[AlarmModel]
    next_page_token: str = Field(description="Empty on the last page; a page may be short before that.")


class LossRecord(BaseModel):
    """A range of Seq numbers that was given up, or a loss that never got any (first equals end: an estimate)."""

    first: int
    end: int
    count: int
    reason: str


class GapRecord(BaseModel):
    """A range of Seq numbers that is nowhere: not here, and neither offered nor given up by the latest Hello."""

    first: int
    end: int
    count: int
    since_ms: int = Field(description="When it was noticed.")


class MachineModel(BaseModel):
    """A machine that has shown the gateway's certificate."""

    machine: str = Field(description="Hash of its id, hexadecimal.")
    epoch: str = Field(description="What its latest Hello called the current epoch.")
    first_seen_ms: int
    last_seen_ms: int
    retired: bool = Field(description="People said that it will not come back.")


class Epoch(Counts):
    """One boot of the gateway's outbox."""

    epoch: str = Field(description=HEX_ID)
    predecessor: str | None = Field(description="The epoch before; null for the first.")
    predecessor_next_seq: int | None = Field(description="Where that one ended; null: unknown.")
    end: Literal["open", "known", "unknown"] = Field(
        description="unknown: after `taken` the gateway may have given out more, of which no record tells."
    )
    gap: int
    gaps: list[GapRecord]
    losses_without_seq: int = Field(
        description="Readings lost before they got a Seq (power cuts, full rings); estimated."
    )
    tombstones: list[LossRecord]
    offset_us: int | None = Field(
        description="Added to boot-relative stamps to date them; null before the first message."
    )
    synchronised: bool | None = Field(description="Whether a time source had set the gateway's clock.")
    uncertainty_us: int | None
    offset_version: int = Field(description="Counts corrections of the offset.")


class FleetAccount(Account):
    """One gateway of the fleet's ledger."""

    gateway: str
    lost: int = Field(description="Given up, lost before they had a number, or in a gap.")


class FleetLedger(BaseModel):
    """One page of the fleet's ledger, by gateway."""

    gateways: list[FleetAccount]
    next_page_token: str = Field(description="Empty on the last page.")
    total_size: int


class Ledger(FleetAccount):
    """Where every reading of a gateway is, in sum and by epoch, oldest first."""

    machines: list[MachineModel]
    by_reason: dict[str, int] = Field(description="Tombstoned and lost readings by reason.")
    epochs: list[Epoch]


class Gap(BaseModel):
    """A failed read: known, counted, with its reason."""

    time: int
    reason: str


class RollupRecord(BaseModel):
    """A row that is no reading: what the gateway kept of a minute, from `time` on, when its disk was full."""

    time: int
    count: int = Field(description="How many values; the row's value is their mean.")
    min: Number
    max: Number


class RowSeries(BaseModel):
    """Readings of one series in columns, by time; a null value is a gap, and `rollups` names those that are means."""

    name: str
    unit: str
    times: list[int]
    values: list[Number]
    quality: list[int]
    rollups: list[RollupRecord]
    gaps: list[Gap]


class RowAnswerModel(BaseModel):
    """Readings as taken."""

    gateway: str
    start: int
    end: int
    time_unit: Literal["ms", "us"]
    series: list[RowSeries]
    next_page_token: str = Field(description="Empty on the last page; otherwise repeat the query with page_token.")
    cursor: str = Field(description="Pass as `after` to get only what was stored later.")
    notices: list[str]


class BucketSeries(BaseModel):
    """Buckets of one series in columns, by time; empty buckets are left out."""

    name: str
    unit: str
    times: list[int] = Field(description="Start of each bucket.")
    min: list[float | None]
    max: list[float | None]
    mean: list[float | None]
    count: list[int]
    gaps: list[int]
    gap_reasons: dict[str, int]


class BucketAnswerModel(BaseModel):
    """Downsampled readings."""

    gateway: str
    start: int
    end: int
    step_us: int
    time_unit: Literal["ms", "us"]
    series: list[BucketSeries]
    cursor: str
    notices: list[str]


class Health(BaseModel):
    """The process runs."""

    status: Literal["ok"]


class Ready(BaseModel):
    """The service can answer."""

    status: Literal["ready"]
    generation: str = Field(description=HEX_ID)
