"""The process that installs what was assigned: `python -m edge_agent.ota.installing`, started by the agent.

TUF's model and the trial of a release take memory and time that the agent must not pay for, and may fail in ways that
it must not meet. Reads one line of JSON (`Job`), then answers to its questions (`pipe`); ends with a line `done`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from edge_agent.errors import AgentError, StateBusy
from edge_agent.ota.client import TufClient
from edge_agent.ota.errors import OtaError
from edge_agent.ota.fetch import Fetcher
from edge_agent.ota.folder import METADATA, TARGETS
from edge_agent.ota.gates import Verdict
from edge_agent.ota.installer import Installer, Outcome
from edge_agent.ota.live import Live
from edge_agent.ota.pipe import PipeFetcher, write_line
from edge_agent.ota.root import trusted_root
from edge_agent.ota.shadow import shadow_run
from edge_agent.ota.slots import Slots
from wire.assignment import AssignmentRefused, check, open_sealed
from wire.clock import NS_PER_US, Clock, SyncState, SystemClock
from wire.join import URN_PREFIX
from wire.release import Needs


class Job(msgspec.Struct, frozen=True):
    """`certificate`: PEM file that says who this gateway is. `server_time_us`: as the stream told it."""

    state_dir: str
    certificate: str
    document: bytes
    nonce: bytes
    server_time_us: int
    live: Live


class Done(msgspec.Struct, frozen=True):
    """What became of it. `reason` is of the assignment as a whole, and then there are no outcomes."""

    outcomes: list[Outcome] = []
    reason: str = ""
    text: str = ""


class NotBefore:
    """A clock whose wall time is at least what the cloud told: for gateways that have no clock of their own."""

    def __init__(self, clock: Clock, least_us: int) -> None:
        self._clock = clock
        self._least_ns = least_us * NS_PER_US
        self._since_ns = clock.boottime_ns()

    def wall_ns(self) -> int:
        """See `Clock`."""
        return max(self._clock.wall_ns(), self._least_ns + self._clock.boottime_ns() - self._since_ns)

    def boottime_ns(self) -> int:
        """See `Clock`."""
        return self._clock.boottime_ns()

    def sync_state(self) -> SyncState:
        """See `Clock`."""
        return self._clock.sync_state()

    def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        self._clock.sleep(seconds)


def install(job: Job, fetcher: Fetcher, clock: Clock) -> Done:
    """Refresh, check the assignment against the root's keys, install what differs. Raises no AgentError."""
    floor = NotBefore(clock, job.server_time_us)
    slots = Slots(Path(job.state_dir), floor)
    try:
        client = TufClient(slots.folder / "metadata", METADATA, TARGETS, fetcher, floor)
        if root := trusted_root():
            client.init(root)
        client.refresh()
        assignment = open_sealed(job.document, verifier(client.director_keys()))
        now_us = floor.wall_ns() // NS_PER_US
        mark = check(assignment, gateway_in(Path(job.certificate).read_bytes()), job.nonce, now_us, slots.mark())
        with slots.changing():
            slots.remember(mark)

        def shadow(family: str, folder: Path, needs: Needs) -> Verdict | None:
            return shadow_run(job.live, family, active_model(family, slots), folder, needs)

        installer = Installer(client, slots, shadow=shadow)
        due = [one for one in assignment.releases if one.is_due(now_us)]
        return Done([installer.install_assigned(one) for one in due])
    except AssignmentRefused as error:
        return Done(reason=error.reason, text=str(error))
    except OtaError as error:
        return Done(reason=error.reason, text=str(error))
    except StateBusy as error:
        return Done(reason="busy", text=str(error))
    except (AgentError, OSError) as error:
        return Done(reason="disk", text=str(error))


def active_model(family: str, slots: Slots) -> Path | None:
    """The folder of what runs now: the slot's, or the package's; None without either."""
    from edge_agent.detect.errors import ModelRefused
    from edge_agent.detect.library import FOLDERS, find_model

    try:
        return find_model(family, (slots.models, *FOLDERS))
    except ModelRefused:
        return None


def verifier(keys: Mapping[str, bytes]) -> Callable[[str, bytes, bytes], bool]:
    """For `open_sealed`: Ed25519 by the keys that the root names."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    def verify(keyid: str, signature: bytes, data: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(keys[keyid]).verify(signature, data)
        except (KeyError, ValueError, InvalidSignature):
            return False
        return True

    return verify


def gateway_in(certificate: bytes) -> str:
    """The id that a certificate of ours names; empty for another's."""
    from cryptography import x509

    try:
        names = x509.load_pem_x509_certificate(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except (ValueError, x509.ExtensionNotFound):
        return ""
    found = [
        uri for uri in names.value.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith(URN_PREFIX)
    ]
    return found[0].removeprefix(URN_PREFIX) if len(found) == 1 else ""


def main() -> None:
    """One job."""
    os.nice(10)
    answers, questions = sys.stdin.buffer, sys.stdout.buffer
    job = msgspec.json.decode(answers.readline(), type=Job)
    done = install(job, PipeFetcher(answers, questions), SystemClock())
    write_line(questions, {"done": msgspec.to_builtins(done)})


if __name__ == "__main__":
    main()
