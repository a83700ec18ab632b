"""What the agent is made of, as the configuration says: each function makes one part; None where none is wanted."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.config.model import CloudSection, Config
from edge_agent.detection import Detection, is_wanted
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.recorder import Recorder
from edge_agent.sync.credentials import Credentials
from edge_agent.sync.data_plan import Plan
from edge_agent.sync.policy import PolicyOptions, SyncPolicy
from edge_agent.version import VERSION
from wire.clock import NS_PER_S, Clock, boot_id
from wire.series import SeriesSet, content_id
from wire.sync.gateway import Identity, SyncOptions

if TYPE_CHECKING:
    from edge_agent.enrol.renewal import Renewal
    from edge_agent.mqtt.brokers import Brokers
    from edge_agent.ota.updates import UpdateService
    from edge_agent.sources.line import BusLine
    from edge_agent.sync.grpc_transport import SyncClient


def outbox_options(config: Config) -> OutboxOptions:
    """[buffer] as the recorder wants it."""
    interval_s = config.buffer.commit_interval
    defaults = OutboxOptions()
    return OutboxOptions(
        commit_interval_s=interval_s,
        alarm_interval_s=min(defaults.alarm_interval_s, interval_s),
        journal_bytes=config.buffer.journal_size,
        bytes_max=config.buffer.max_size,
        thins=config.buffer.thin,
        floor_bytes=config.buffer.min_free,
        history_bytes=config.buffer.history_size,
        history_age_s=config.buffer.history_age,
    )


def credentials_of(cloud: CloudSection) -> Credentials:
    """The three files, checked to be there. Raises CredentialsRejected with the fix."""
    credentials = Credentials(Path(cloud.ca), Path(cloud.cert), Path(cloud.key))
    credentials.read()
    return credentials


def make_brokers(config: Config, lines: Sequence[BusLine], recorder: Recorder, clock: Clock) -> Brokers | None:
    """The brokers, where there is an [mqtt] table. Raises CredentialsRejected."""
    if not config.brokers:
        return None
    from edge_agent.mqtt.brokers import Brokers

    sensors = [sensor for line in lines for sensor in line.sensors]
    brokers = Brokers(config, sensors, recorder.take, recorder.has_room, clock)
    for link in brokers.links:
        for inlet in link.inlets:
            recorder.register(inlet.set, inlet.priority)
    return brokers


def sets_of(lines: Sequence[BusLine], brokers: Brokers | None) -> list[tuple[SeriesSet, float | None]]:
    """Every series set, with the seconds between its ticks; None for those that come as they like."""
    sets: list[tuple[SeriesSet, float | None]] = [
        (group.set, group.period_ns / NS_PER_S) for line in lines for group in line.groups
    ]
    if brokers is not None:
        sets += [(inlet.set, None) for link in brokers.links for inlet in link.inlets]
    return sets


def make_detection(
    config: Config, lines: Sequence[BusLine], brokers: Brokers | None, recorder: Recorder, clock: Clock
) -> Detection | None:
    """What looks for alarms, where the configuration asks for any; brokers are told of them."""
    if not is_wanted(config):
        return None
    from edge_agent.ota.probation import Probation
    from edge_agent.ota.slots import Slots

    sets = sets_of(lines, brokers)
    tell = brokers.alarm if brokers is not None else lambda alarm: None
    probation = Probation(Slots(config.state_dir, clock), clock)
    return Detection(config, sets, recorder, content_id(boot_id().encode()), tell, probation)


def policy_options(cloud: CloudSection) -> PolicyOptions:
    """Windows and plans of [cloud] as the policy wants them."""
    plans = (Plan(plan.interface, plan.daily, plan.monthly, plan.month_begins, plan.reserve) for plan in cloud.plan)
    return PolicyOptions(tuple(section.window for section in cloud.window), cloud.alarms_wait, tuple(plans))


def make_updates(
    config: Config, clock: Clock, installed: Callable[[], None], lines: Sequence[BusLine], brokers: Brokers | None
) -> UpdateService | None:
    """Who installs what the cloud assigns: where there is a cloud, and a model that could be replaced."""
    if config.cloud is None or not config.models:
        return None
    from edge_agent.ota.live import live_of
    from edge_agent.ota.updates import UpdateService

    live = live_of(config, sets_of(lines, brokers))
    return UpdateService(config.state_dir, Path(config.cloud.cert), clock, installed, live)


def make_sync(
    config: Config, recorder: Recorder, clock: Clock, machine: str, updates: UpdateService | None
) -> SyncClient | None:
    """The syncer, where there is a [cloud] table."""
    if config.cloud is None:
        return None
    from edge_agent.enrol.trust import TrustFile
    from edge_agent.sync.grpc_transport import SyncClient

    cloud = config.cloud
    identity = Identity(
        machine=hashlib.sha256(machine.encode()).digest()[:16],
        agent_version=VERSION,
        config_version=config.version,
    )
    options = SyncOptions(
        batch_s=cloud.batch,
        backoff_base_s=cloud.backoff_min,
        backoff_max_s=cloud.backoff_max,
        rate_max=cloud.rate_max,
    )
    view = recorder.view()
    zone = config.agent.zone
    return SyncClient(
        view,
        identity,
        options,
        credentials_of(cloud),
        address=cloud.address,
        server_name=cloud.server_name,
        policy=SyncPolicy(policy_options(cloud), clock, zone, boot_id(), view.keep, view.kept),
        clock=clock,
        rng=random.Random(),
        updates=updates,
        trust=TrustFile(Path(cloud.ca)) if config.is_by_identity else None,
    )


def make_renewal(config: Config, sync: SyncClient | None) -> Renewal | None:
    """What keeps a joined identity fresh; certificates that people put here are theirs to renew."""
    if sync is None or not config.is_by_identity:
        return None
    from edge_agent.enrol.renewal import Renewal

    return Renewal(config.state_dir, config.file, sync, random.Random())
