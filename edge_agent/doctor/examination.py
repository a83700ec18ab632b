"""All checks in one order. What a check may not look at is skipped with the reason; nothing ends the examination."""

from __future__ import annotations

import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_agent.config.load import load
from edge_agent.config.model import Config
from edge_agent.doctor import agent, buffer, buses, certificate, clock, cloud, models, state, unit
from edge_agent.doctor.account import PACKAGED_FILE, Account, account_of
from edge_agent.doctor.finding import SUDO, Finding, Result, all_skipped, failed, ok, skipped
from edge_agent.errors import ConfigInvalid
from wire.clock import Clock

CONFIG_IDS = ("config.valid",)
BY_CONFIG = (agent.IDS, state.IDS, buses.IDS, cloud.IDS, certificate.IDS, buffer.IDS, models.IDS)
IDS = (*CONFIG_IDS, *clock.IDS, *unit.IDS, *(each for group in BY_CONFIG for each in group))


@dataclass(frozen=True, slots=True)
class Examination:
    """All findings, in order, and whose rights were looked at (empty when the configuration says nothing)."""

    findings: tuple[Finding, ...]
    account: str

    @property
    def counts(self) -> dict[str, int]:
        """How many of each result."""
        found = Counter(finding.result for finding in self.findings)
        return {result.value: found[result] for result in Result}

    @property
    def result(self) -> Result:
        """The worst: failed, warning or ok."""
        found = {finding.result for finding in self.findings}
        return next((worst for worst in (Result.FAILED, Result.WARNING) if worst in found), Result.OK)


def examine(file: Path, user: str, time: Clock) -> Examination:
    """Look at everything, change nothing. Raises KeyError when `user` is named and there is none."""
    try:
        config = load(file)
    except ConfigInvalid as error:
        if user:
            Account.named(user)
        found = [_invalid(error), *_guarded(clock.IDS, lambda: clock.check_clock(time))]
        found += _guarded(unit.IDS, unit.check_unit)
        found += [each for ids in BY_CONFIG for each in all_skipped(ids, "the configuration is not valid")]
        return Examination(_with_file(found, file), "")
    told = agent.ask_agent(config.runtime_dir)
    account = account_of(user, file, config.state_dir, told.control)
    found = [ok("config.valid", f"{config.file} is good; sensors: {len(config.sensors)}, version {config.version}")]
    for ids, check in _checks(config, account, told, time):
        found += _guarded(ids, check)
    return Examination(_with_file(found, file), account.name)


def _checks(
    config: Config, account: Account, told: agent.Agent, time: Clock
) -> Iterable[tuple[Sequence[str], Callable[[], Iterable[Finding]]]]:
    by_unit = config.file == PACKAGED_FILE and shutil.which("systemctl") is not None
    start = "sudo systemctl start edge-agent" if by_unit else "edge-agent run"
    return (
        (agent.IDS, lambda: agent.check_agent(told, start)),
        (state.IDS, lambda: state.check_state(config, account, by_unit)),
        (clock.IDS, lambda: clock.check_clock(time)),
        (buses.IDS, lambda: buses.check_buses(config, account)),
        (cloud.IDS, lambda: cloud.check_cloud(config)),
        (certificate.IDS, lambda: certificate.check_certificate(config, account, time)),
        (buffer.IDS, lambda: buffer.check_buffer(config, told)),
        (models.IDS, lambda: models.check_models(config, time)),
        (unit.IDS, unit.check_unit),
    )


def _guarded(ids: Sequence[str], check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings, and for those that are missing why: this user may not look, or the machine refuses."""
    given: set[str] = set()
    try:
        for finding in check():
            given.add(finding.id)
            yield finding
    except PermissionError as error:
        left = [each for each in ids if each not in given]
        yield from all_skipped(left, f"this user may not look at {error.filename}", SUDO)
    except OSError as error:
        first, *left = [each for each in ids if each not in given] or ids[-1:]
        yield failed(first, f"{error.filename or 'the machine'}: {error.strerror or error}", "journalctl -k -n 50")
        yield from (skipped(each, "the check before it could not end") for each in left)


def _invalid(error: ConfigInvalid) -> Finding:
    count = len(error.problems)
    more = f" (and {count - 1} more)" if count > 1 else ""
    return failed("config.valid", f"{error.problems[0]}{more}", "edge-agent config check")


def _with_file(findings: Iterable[Finding], file: Path) -> tuple[Finding, ...]:
    """Commands of ours name the configuration, where it is not the usual one; those of models take none."""
    if file.absolute() == PACKAGED_FILE:
        return tuple(findings)
    named = f" -c {shlex.quote(str(file))}"
    return tuple(replace(each, fix=each.fix + named) if _takes_file(each.fix) else each for each in findings)


def _takes_file(fix: str) -> bool:
    ours = fix.removeprefix("sudo ")
    return ours.startswith("edge-agent ") and not ours.startswith(("edge-agent model ", "edge-agent driver "))
