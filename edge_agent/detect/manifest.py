"""What a model declares: `model.json`, mirrored in the graph's metadata. Explained in `docs/formats/model.md`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

NAME = Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
SHA256 = Meta(pattern=r"^[0-9a-f]{64}$")
Positive = Annotated[float, Meta(gt=0, lt=1e12)]
Words = Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(min_length=1, max_length=64)]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every object in the file."""


class Interval(Part, frozen=True):
    """Seconds between rows that the model was made for."""

    nominal: Positive
    min: Positive
    max: Positive


class Window(Part, frozen=True):
    """T rows of C channels per run, and how many rows further the next run begins."""

    rows: Annotated[int, Meta(ge=1, le=4096)]
    stride: Annotated[int, Meta(ge=1, le=4096)]
    channels: Annotated[int, Meta(ge=1, le=256)]


class Bins(Part, frozen=True):
    """Rows are put together into bins, so many of them to a calibration; 0 = each row is a bin.

    A bin keeps its lowest or highest value, whichever lies further from a moving mean (of weight `mean_rate` a row).
    """

    per_calibration: Annotated[int, Meta(ge=0, le=100_000)]
    mean_rate: Annotated[float, Meta(gt=0, le=1)]


class Calibration(Part, frozen=True):
    """Rows that are only learnt from."""

    rows: Annotated[int, Meta(ge=1, le=1_000_000)]


class Param(Part, frozen=True):
    """A per-device number: `scale` times its source.

    calibration_bins: bins (or rows) of the calibration. resolution: the channel's, in units of its scale; 0 when it
    is not known. constant: 1.
    """

    name: Annotated[str, Meta(pattern=r"^param_[a-z0-9_]{1,48}$")]
    source: Literal["calibration_bins", "resolution", "constant"]
    scale: float


class State(Part, frozen=True):
    """A state tensor: what a new one is filled with, and whether it is saved."""

    name: Annotated[str, Meta(pattern=r"^state_[a-z0-9_]{1,48}$")]
    init: float
    persist: bool


class Threshold(Part, frozen=True):
    """From which score on a channel alarms.

    `hysteresis` times the threshold is where it ends; after a score, only a larger one speaks for
    `hold_off_ticks` runs.
    """

    default: Positive
    min: Positive
    max: Positive
    hysteresis: Annotated[float, Meta(gt=0, le=1)]
    hold_off_ticks: Annotated[int, Meta(ge=0, le=4096)]


class Budget(Part, frozen=True):
    """What the model may cost against its predecessor and in memory."""

    p99_ratio: Positive
    rss_kb: Annotated[int, Meta(ge=1, le=1 << 20)]
    state_bytes: Annotated[int, Meta(ge=0, le=1 << 20)]  # per row


class Build(Part, frozen=True):
    """How the file was made."""

    script: str
    seed: int
    commit: str = ""


class Manifest(Part, frozen=True):
    """Everything a model says of itself."""

    contract: Literal[1]
    name: Annotated[str, NAME]
    version: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    task: Literal["novelty", "state", "residual"]
    sensor_kinds: Words  # Home Assistant's device classes, "*" = any
    units: Words  # SenML, "*" = any
    sample_interval_s: Interval
    window: Window
    bins: Bins
    norm: Literal["none", "first", "calibration"]
    calibration: Calibration
    params: Annotated[list[Param], Meta(max_length=16)]
    state: Annotated[list[State], Meta(max_length=16)]
    max_gap_s: Positive
    threshold: Threshold
    budget: Budget
    golden_sha256: Annotated[str, SHA256]
    data: str
    license: str
    build: Build
    model_sha256: Annotated[str, SHA256]  # only beside the graph, never in it

    @property
    def title(self) -> str:
        """`name/version`."""
        return f"{self.name}/{self.version}"
