"""What the agent is told, one frozen struct per part. Times are seconds, sizes bytes, paths absolute."""

from __future__ import annotations

from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edge_agent.asking import RUNTIME_DIR
from edge_agent.config.zone import zone_of
from edge_agent.sync.window import LASTS_S_MAX, Window, parse_window
from hardware.driver import Channel, Driver
from wire.reading import Priority

if TYPE_CHECKING:
    from edge_agent.config.detect import AlarmSection, ModelPlan
    from edge_agent.config.mqtt import MqttSection
    from edge_agent.enrol.identity import Identity


def duration(low: float, high: float) -> Meta:
    """A duration between two bounds, in seconds."""
    return Meta(ge=low, le=high, extra={"kind": "duration"})


def _size(low: int, high: int) -> Meta:
    return Meta(ge=low, le=high, extra={"kind": "size"})


PATH = Meta(min_length=1, extra={"kind": "path"})
INTERFACE = Meta(
    pattern=r"^[A-Za-z0-9._@*?-]{1,32}$", extra={"rule": "an interface such as wwan0, or a pattern such as wwan*"}
)
NAME = Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", extra={"rule": "1 to 63 letters, digits, '.', '_' or '-'"})
PORT = Meta(pattern=r"^/.+$", extra={"rule": "a path such as /dev/ttyUSB0 or /dev/serial/by-id/..."})
DEVICE = Meta(pattern=r"^(/dev/i2c-\d+|unix:.+)$", extra={"rule": "/dev/i2c-N or unix:PATH"})

Interval = Annotated[float, duration(0.01, 86400)]


class Section(msgspec.Struct, frozen=True):
    """Base of every table of the file."""


class AgentSection(Section, frozen=True):
    """[agent]: who this gateway is and where it keeps what."""

    name: Annotated[str, NAME] = ""  # empty: the host name
    interval: Interval = 10.0  # of sensors that name none
    state_dir: Annotated[str, PATH] = "/var/lib/edge-agent"
    runtime_dir: Annotated[str, PATH] = RUNTIME_DIR
    labels: dict[str, str] = {}
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    timezone: str = ""  # of sync windows and data plans; empty: the machine's

    def __post_init__(self) -> None:
        self.zone  # noqa: B018 - a name that is none is found here

    @property
    def zone(self) -> tzinfo:
        """The zone of this gateway's local time. Raises ValueError."""
        return zone_of(self.timezone)


class WindowSection(Section, frozen=True):
    """[[cloud.window]]: readings go only while one is open."""

    start: str  # the five fields of crontab(5), local time
    lasts: Annotated[float, duration(60, LASTS_S_MAX)]

    def __post_init__(self) -> None:
        self.window  # noqa: B018 - a start that is none is found here

    @property
    def window(self) -> Window:
        """What `start` and `lasts` mean. Raises ValueError."""
        return parse_window(self.start, self.lasts)


class PlanSection(Section, frozen=True):
    """[[cloud.plan]]: what an interface may carry. 0: no limit."""

    interface: Annotated[str, INTERFACE] = "*"
    daily: Annotated[int, _size(0, 1 << 50)] = 0
    monthly: Annotated[int, _size(0, 1 << 50)] = 0
    month_begins: Annotated[int, Meta(ge=1, le=31)] = 1
    reserve: Annotated[float, Meta(ge=0, le=0.9)] = 0.1  # share of each limit that only alarms may use

    def __post_init__(self) -> None:
        if not self.daily and not self.monthly:
            raise ValueError('a plan needs "daily", "monthly" or both, as in daily = "5 MB"')


class CloudSection(Section, frozen=True):
    """[cloud]: where readings go. What it leaves out is of the cloud that this gateway has joined."""

    url: Annotated[str, Meta(pattern=r"^https://[^/\s]+$", extra={"rule": "https://HOST:PORT"})] = ""
    ca: Annotated[str, PATH] = ""
    cert: Annotated[str, PATH] = ""
    key: Annotated[str, PATH] = ""
    server_name: str = ""  # the name in the server's certificate, where it is not the host
    batch: Annotated[float, duration(0, 3600)] = 60.0  # how long readings are merged before they go
    backoff_min: Annotated[float, duration(0.05, 60)] = 0.5
    backoff_max: Annotated[float, duration(0.1, 3600)] = 60.0
    drain: Annotated[float, duration(0, 60)] = 5.0  # how long a clean stop may wait for the last acks
    rate_max: Annotated[int, _size(0, 1 << 40)] = 0  # bytes per second of readings; 0: no cap
    window: tuple[WindowSection, ...] = ()  # none: always open
    alarms_wait: bool = False  # alarms keep to the windows too
    plan: tuple[PlanSection, ...] = ()

    @property
    def address(self) -> str:
        """host:port of the url; 8443 where it names no port."""
        host = self.url.removeprefix("https://")
        return host if host.rpartition(":")[2].isdigit() else f"{host}:8443"


class BufferSection(Section, frozen=True):
    """[buffer]: what is kept while the cloud is away."""

    max_size: Annotated[int, _size(8_000_000, 1 << 50)] = 2_000_000_000
    min_free: Annotated[int, _size(0, 1 << 50)] = 64_000_000  # left free on the disk; at most a twentieth of it
    thin: bool = True  # before readings go, they become a roll-up per minute
    history_size: Annotated[int, _size(0, 1 << 50)] = 0  # acknowledged readings that stay; 0: none
    history_age: Annotated[float, duration(1, 3650 * 86400)] = 30 * 86400.0
    commit_interval: Annotated[float, duration(0.1, 3600)] = 5.0  # the most a power cut can cost
    journal_size: Annotated[int, _size(65_536, 1 << 30)] = 4 << 20


class I2cSection(Section, frozen=True):
    """[bus.NAME] of kind "i2c"."""

    kind: Literal["i2c"]
    device: Annotated[str, DEVICE] = ""  # empty: /dev/NAME


class SerialSection(Section, frozen=True):
    """[bus.NAME] of kind "serial"."""

    kind: Literal["serial"]
    port: Annotated[str, PORT]
    baud: Annotated[int, Meta(ge=50, le=4_000_000)] = 9600
    parity: Literal["none", "even", "odd"] = "none"
    bits: Annotated[int, Meta(ge=7, le=8)] = 8
    stop: Annotated[int, Meta(ge=1, le=2)] = 1


BusSection = I2cSection | SerialSection
BUSES: dict[str, type[BusSection]] = {"i2c": I2cSection, "serial": SerialSection}


class Median(Section, frozen=True):
    """Each value becomes the median of the last `median` ones; raw units stay."""

    median: Annotated[int, Meta(ge=3, le=99)]


class Delta(Section, frozen=True):
    """A value is taken when it moved by `delta` (in the channel's unit) or `heartbeat` passed since the last."""

    delta: Annotated[float, Meta(gt=0)]
    heartbeat: Annotated[float, duration(0, 86400 * 7)] = 0.0  # 0: never only because of time


class Throttle(Section, frozen=True):
    """At most one value is taken per `throttle`."""

    throttle: Annotated[float, duration(0.01, 86400 * 7)]


class CalibrateLinear(Section, frozen=True):
    """Pairs (measured, true) in the channel's unit; applied when values are asked for, never to raw."""

    calibrate_linear: Annotated[list[tuple[float, float]], Meta(min_length=1, max_length=64)]
    version: Annotated[int, Meta(ge=1, le=2**32 - 1)] = 1


FILTERS: dict[str, type[Section]] = {
    "median": Median,
    "delta": Delta,
    "throttle": Throttle,
    "calibrate_linear": CalibrateLinear,
}
Filter = Median | Delta | Throttle


class ChannelSection(Section, frozen=True):
    """[sensor.channel.NAME]: what people add to what the driver knows. `low`, `high`, `rate_max` in its unit."""

    filter: list[dict[str, Any]] = []
    low: float | None = None
    high: float | None = None
    rate_max: Annotated[float, Meta(gt=0)] | None = None  # unit per second
    stale: Annotated[float, duration(0.01, 86400 * 7)] | None = None  # none: three intervals
    stuck: Annotated[int, Meta(ge=2, le=1_000_000)] | None = None  # so many equal raw values in a row
    needs_calibration: bool = False
    alarm: dict[str, Any] = {}


class SensorSection(Section, frozen=True):
    """[[sensor]]: the agent's own keys; all others are the driver's options."""

    id: Annotated[str, NAME]
    driver: str
    bus: str = ""
    interval: Interval | None = None
    priority: Literal["normal", "low"] = "normal"
    timeout: Annotated[float, duration(0.05, 60)] = 2.0  # a driver call that takes longer is given up


class ChannelPlan(Section, frozen=True):
    """One channel of one sensor, ready to sample."""

    channel: Channel
    stale: float
    filters: tuple[Filter, ...] = ()
    calibration: CalibrateLinear | None = None
    low: float | None = None
    high: float | None = None
    rate_max: float | None = None
    stuck: int = 0  # 0: not watched
    needs_calibration: bool = False
    alarm: AlarmSection | None = None


class SensorPlan(Section, frozen=True):
    """One sensor, ready to open."""

    id: str
    driver_name: str
    driver: type[Driver]
    config: Any  # the driver's own Config
    bus: str  # "" for a sensor without a bus
    interval: float
    priority: Priority
    timeout: float
    channels: tuple[ChannelPlan, ...]

    @property
    def is_mqtt(self) -> bool:
        """Whether a broker brings its values, and nobody reads them."""
        return self.driver_name == "mqtt"


class Config(Section, frozen=True):
    """Everything, checked."""

    file: Path
    version: str  # hash of the files' content, for Hello
    agent: AgentSection
    cloud: CloudSection | None  # none: neither joined nor told; readings are kept
    identity: Identity | None  # what a join left
    buffer: BufferSection
    buses: dict[str, BusSection]
    brokers: dict[str, MqttSection]
    sensors: tuple[SensorPlan, ...]
    models: tuple[ModelPlan, ...]

    @property
    def is_by_identity(self) -> bool:
        """Whether the cloud is reached with the joined identity."""
        return self.identity is not None and self.cloud is not None and self.cloud.cert == str(self.identity.device)

    @property
    def state_dir(self) -> Path:
        """Where the outbox lives."""
        return Path(self.agent.state_dir)

    @property
    def runtime_dir(self) -> Path:
        """Where the journal and the control socket live (RAM)."""
        return Path(self.agent.runtime_dir)
