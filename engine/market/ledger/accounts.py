"""Names of accounts. Nothing is ever below zero but what stands for the world outside, which never is above."""

from __future__ import annotations

NETWORK_FEE, BURN, MAKE_WHOLE = "network-fee", "burn", "make-whole"
TENANTS, SUPPLIERS, ESCROWS = "tenants/", "suppliers/", "escrows/"
OUTSIDE, DEV_CREDITS = "outside/", "dev-credits/"
"""Prefixes; the last two are the world outside. A dev credit is play money."""


def tenant(tenant_id: str) -> str:
    """What a tenant can spend."""
    return TENANTS + tenant_id


def supplier(supplier_id: str) -> str:
    """What a supplier has earned."""
    return SUPPLIERS + supplier_id


def escrow(lease_id: str) -> str:
    """What is set aside for a lease and not yet earned."""
    return ESCROWS + lease_id


def outside(tenant_id: str) -> str:
    """What a tenant has deposited and not withdrawn, as a negative number."""
    return OUTSIDE + tenant_id


def dev_credit(tenant_id: str) -> str:
    """What a tenant was given in development mode, as a negative number."""
    return DEV_CREDITS + tenant_id


def is_outside(account: str) -> bool:
    """Whether the account stands for the world outside."""
    return account.startswith((OUTSIDE, DEV_CREDITS))


def has_statement(account: str) -> bool:
    """Whether the lines of the account are kept."""
    return account.startswith((TENANTS, SUPPLIERS))
