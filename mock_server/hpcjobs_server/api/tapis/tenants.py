"""The one tenant and the one site of this service, as far as clients look for their address there."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs_server.api.tapis.envelope import TapisProblem, envelope
from hpcjobs_server.context import context_of

SITE = "local"

router = APIRouter(prefix="/v3", include_in_schema=False)


@router.get("/tenants")
async def list_tenants(request: Request) -> Response:
    """List the one tenant."""
    return envelope([_tenant(request)], "TENANTS_RETRIEVED Tenants retrieved.")


@router.get("/tenants/{tenant_id}")
async def get_tenant(request: Request, tenant_id: str) -> Response:
    """Look at it."""
    tenant = _tenant(request)
    if tenant_id != tenant["tenant_id"]:
        detail = f"there is no tenant {tenant_id!r}; there is {tenant['tenant_id']}"
        raise TapisProblem(404, "TENANTS_NOT_FOUND", detail)
    return envelope(tenant, "TENANTS_RETRIEVED Tenant retrieved.")


@router.get("/sites")
async def list_sites(request: Request) -> Response:
    """List the one site."""
    site = {
        "site_id": SITE,
        "primary": True,
        "base_url": _base(request),
        "tenant_base_url_template": _base(request),
        "site_admin_tenant_id": context_of(request).settings.tapis_tenant,
        "services": ["jobs", "authenticator", "tenants"],
    }
    return envelope([site], "SITES_RETRIEVED Sites retrieved.")


def _tenant(request: Request) -> dict[str, Any]:
    base = _base(request)
    return {
        "tenant_id": context_of(request).settings.tapis_tenant,
        "site_id": SITE,
        "base_url": base,
        "status": "active",
        "description": "A reference server of hpcjobs",
        "owner": "hpcjobs",
        "admin_user": "hpcjobs",
        "token_service": f"{base}/v3/tokens",
        "authenticator": f"{base}/v3/oauth2",
        "security_kernel": f"{base}/v3/security",
        # nothing is signed: a token is looked up
        "public_key": "none",
    }


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")
