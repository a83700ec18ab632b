"""What a check found. Ids are stable; docs/operating/doctor.md lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

SUDO = "sudo edge-agent doctor"


class Result(StrEnum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"  # it works, and will not for long or not as well as it could
    FAILED = "failed"
    SKIPPED = "skipped"  # it could not be told; the text says why


@dataclass(frozen=True, slots=True)
class Finding:
    """`text` is one sentence; `fix` is one command, empty where there is nothing to do.

    `subject` tells findings of one id apart: a bus, a model.
    """

    id: str
    result: Result
    text: str
    fix: str = ""
    subject: str = ""


def ok(check: str, text: str, subject: str = "") -> Finding:
    """All is well."""
    return Finding(check, Result.OK, text, "", subject)


def warning(check: str, text: str, fix: str, subject: str = "") -> Finding:
    """Not yet a fault."""
    return Finding(check, Result.WARNING, text, fix, subject)


def failed(check: str, text: str, fix: str, subject: str = "") -> Finding:
    """A fault."""
    return Finding(check, Result.FAILED, text, fix, subject)


def skipped(check: str, why: str, fix: str = "", subject: str = "") -> Finding:
    """Not looked at."""
    return Finding(check, Result.SKIPPED, why, fix, subject)


def all_skipped(checks: Sequence[str], why: str, fix: str = "") -> list[Finding]:
    """The same reason for many."""
    return [skipped(check, why, fix) for check in checks]
