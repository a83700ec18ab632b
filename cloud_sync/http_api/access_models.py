"""The shapes of JSON answers about access. Times are epoch milliseconds."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

REASON_CHARS_MAX = 200


class CallerModel(BaseModel):
    """A token or session, as its owner sees it."""

    kind: Literal["api-token", "session"]
    id: str
    name: str
    role: Literal["readonly", "operator", "admin"]
    expires_ms: int


class Enrolment(BaseModel):
    """A gateway's standing."""

    gateway: str
    state: Literal["pending", "approved", "active", "revoked", "left"]
    code: str = Field(description="What a waiting device shows; empty for others.")
    since_ms: int
    certificate_ends_ms: int | None
    labels: dict[str, str]
    reason: str


class EnrolmentList(BaseModel):
    """By id."""

    enrolments: list[Enrolment]


class GatewayName(BaseModel):
    """The gateway that was changed."""

    gateway: str


class Reason(BaseModel):
    """Body of a revocation."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=REASON_CHARS_MAX, description="Kept with the gateway, shown in the list.")


class AuditModel(BaseModel):
    """One change."""

    id: int
    at_ms: int
    actor: str
    action: str
    subject: str
    detail: str
    hash: str = Field(description="SHA-256 over the row and the hash before it, hexadecimal.")


class AuditList(BaseModel):
    """Newest first."""

    changes: list[AuditModel]
    next_page_token: str
