"""Who is calling. Identity comes from the call's credential, never from a field of the request.

Development mode takes the tenant from the metadata `x-walras-tenant`; it listens on loopback only. Without it
no credential can be verified yet, so every call is refused: default deny.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar

from engine.domain.cluster_request import text_problem
from engine.domain.errors import Unauthenticated

DEV_TENANT_METADATA = "x-walras-tenant"
_tenant: ContextVar[str] = ContextVar("tenant")


def identify(metadata: Iterable[tuple[str, str | bytes]], *, dev: bool) -> str:
    """The calling tenant; Unauthenticated if there is no proof of one."""
    if not dev:
        raise Unauthenticated("this engine has no way to verify credentials; start it with --dev on loopback")
    for name, value in metadata:
        if name == DEV_TENANT_METADATA:
            if problem := text_problem(value):
                raise Unauthenticated(f"metadata {DEV_TENANT_METADATA} {problem}")
            return str(value)
    raise Unauthenticated(f"metadata {DEV_TENANT_METADATA} is missing")


def enter(tenant_id: str) -> None:
    """Make this the tenant of the call that the current task handles."""
    _tenant.set(tenant_id)


def calling_tenant() -> str:
    """The tenant of the call that the current task handles."""
    return _tenant.get()
