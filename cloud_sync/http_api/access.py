"""Routes about who may connect and who may ask: enrolment, the audit, and the caller itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from cloud_sync.auth.roles import Role
from cloud_sync.catalog.access import IdentityRow
from cloud_sync.catalog.audit_rows import AuditRow
from cloud_sync.http_api.access_models import (
    AuditList,
    AuditModel,
    CallerModel,
    Enrolment,
    EnrolmentList,
    GatewayName,
    Reason,
)
from cloud_sync.http_api.roles import Who, allow
from cloud_sync.http_api.services import Services
from cloud_sync.query.parameters import bounded_page_size
from cloud_sync.query.tokens import pack_token, question_id, unpack_token

PAGE_SIZE_MAX = 1_000

Gateway = Annotated[str, Path(max_length=80)]


def access_routes(services: Services) -> APIRouter:
    """`/v1/me`, `/v1/enrolments`, `/v1/gateways/{gateway}/revoke` and `/v1/audit`."""
    router = APIRouter(prefix="/v1", tags=["access"])
    access, audit, run = services.catalog.access, services.catalog.audit, services.workers.run

    @router.get("/me", summary="Who asks")
    @allow(Role.READONLY)
    async def me(who: Who) -> CallerModel:
        """The caller's own token or session."""
        return CallerModel.model_validate(
            {
                "kind": who.kind,
                "id": who.id,
                "name": who.name,
                "role": who.role.word,
                "expires_ms": who.expires_us // 1000,
            }
        )

    @router.get("/enrolments", summary="Gateways that joined, wait, left or were revoked")
    @allow(Role.OPERATOR)
    async def enrolments() -> EnrolmentList:
        """By id. `code` is what a waiting device shows on its own screen: compare both before you approve."""
        rows = await run(access.identities)
        return EnrolmentList(enrolments=[_enrolment(row) for row in rows])

    @router.post("/enrolments/{code}/approve", summary="Let a waiting device join")
    @allow(Role.OPERATOR)
    async def approve(code: Annotated[str, Path(max_length=80)], who: Who) -> GatewayName:
        """The one device that shows this code. It asks again every few seconds."""
        return GatewayName(gateway=await run(access.approve, code, who.actor))

    @router.post("/gateways/{gateway}/revoke", summary="Refuse a gateway from now on")
    @allow(Role.OPERATOR)
    async def revoke(gateway: Gateway, told: Reason, who: Who) -> GatewayName:
        """Also one that waits for approval. Its readings stay; open streams end within two seconds."""
        await run(access.revoke, gateway, told.reason, who.actor)
        return GatewayName(gateway=gateway)

    @router.get("/audit", summary="Who changed what")
    @allow(Role.ADMIN)
    async def changes(
        page_size: Annotated[int | None, Query(description="Rows per page; more than 1000 means 1000.")] = None,
        page_token: Annotated[str, Query(description="`next_page_token` of the page before.")] = "",
    ) -> AuditList:
        """Newest first. Each row's `hash` covers it and the hash before it."""
        size = bounded_page_size(page_size, 100, PAGE_SIZE_MAX)
        asked = question_id("audit")
        before = int(unpack_token("page_token", page_token, asked, int)[0]) if page_token else None
        rows = await run(audit.rows, size, before)
        more = len(rows) == size and rows[-1].id > 1
        following = pack_token(asked, rows[-1].id) if more else ""
        return AuditList(changes=[_model(row) for row in rows], next_page_token=following)

    return router


def _enrolment(row: IdentityRow) -> Enrolment:
    return Enrolment.model_validate(
        {
            **{name: getattr(row, name) for name in ("gateway", "state", "code", "labels", "reason")},
            "since_ms": row.since_us // 1000,
            "certificate_ends_ms": row.not_after_us // 1000 or None,
        }
    )


def _model(row: AuditRow) -> AuditModel:
    return AuditModel(
        id=row.id,
        at_ms=row.at_us // 1000,
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        detail=row.detail,
        hash=row.hash.hex(),
    )
