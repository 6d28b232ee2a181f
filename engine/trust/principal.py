"""Who is calling, as a verified credential says it. Nothing else ever names a caller."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from engine.domain.errors import Unauthenticated

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@|+=-]{0,127}")
"""What a credential may call somebody. No slash and no colon: those separate a role from a name."""


class Role(Enum):
    """What a credential is for. One credential has one role; only development mode gives two."""

    TENANT = "tenant"
    SUPPLIER = "supplier"
    OPERATOR = "operator"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. `name`: the tenant, supplier, operator or node id. `credential_id`: of the proof, never the proof.

    `expires_at_s`: seconds since the epoch after which the credential proves nothing.
    """

    roles: frozenset[Role]
    name: str
    credential_id: str
    expires_at_s: float

    @property
    def account(self) -> str:
        """The name that quotas, idempotency keys and the audit log go by; a tenant's is its id."""
        if Role.TENANT in self.roles:
            return self.name
        (role,) = self.roles
        return f"{role.value}:{self.name}"

    def has(self, *roles: Role) -> bool:
        """Whether it has any of the roles."""
        return not self.roles.isdisjoint(roles)


def principal_of(claims: Mapping[str, Any], prefix: str, credential_id: str) -> Principal:
    """The caller that verified claims name: `{prefix}role` and, by that role, its name.

    It stands in `{prefix}tenant`, `{prefix}supplier` or `{prefix}node`, an operator's in `sub`. Unauthenticated if
    the claims name nobody.
    """
    known = {role.value: role for role in Role}
    said = claims.get(f"{prefix}role")
    role = known.get(said) if isinstance(said, str) else None
    if role is None:
        raise Unauthenticated(f"claim {prefix}role must be one of {', '.join(known)}")
    claim = "sub" if role is Role.OPERATOR else prefix + role.value
    name = claims.get(claim)
    if not is_name(name):
        raise Unauthenticated(f"claim {claim} must name the {role.value}")
    return Principal(frozenset({role}), str(name), credential_id, float(claims["exp"]))


def is_name(value: object) -> bool:
    """Whether a credential may call somebody so."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None
