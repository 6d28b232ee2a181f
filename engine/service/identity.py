"""Who is calling. Identity comes from the call's credential, never from a field of the request.

A bearer token in `authorization` or, at a listener that demands one, a node's client certificate. A token that
does not hold is never replaced by a certificate. Development mode takes the tenant from the metadata
`x-walras-tenant`; it listens on loopback only. With neither, every call is refused: default deny.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar

from engine.domain.cluster_request import text_problem
from engine.domain.errors import PermissionDenied, Unauthenticated
from engine.service.options import ServerOptions
from engine.trust.certificates import CertificateReader
from engine.trust.key_ring import KeyRing
from engine.trust.principal import Principal, Role
from engine.trust.revocation import Revocations
from engine.trust.tokens import TokenRules, TokenVerifier

DEV_TENANT_METADATA = "x-walras-tenant"
TOKEN_METADATA = "authorization"
_BEARER = "bearer "
_principal: ContextVar[Principal] = ContextVar("principal")
_DEV_ROLES = frozenset({Role.TENANT, Role.OPERATOR})

Metadata = Iterable[tuple[str, str | bytes]]
Handshake = Mapping[str, Iterable[bytes]]
"""What TLS knows of the peer, as gRPC tells it."""
NO_HANDSHAKE: Handshake = {}


class Identity:
    """How an engine knows its callers, as its options say."""

    def __init__(self, options: ServerOptions, keys: KeyRing | None = None) -> None:
        """`keys`: those of `auth_jwks`, if not the usual ones."""
        self._dev = options.dev
        revoked = Revocations(options.auth_revoked, time.monotonic)
        self._certificates = CertificateReader(revoked, time.time)
        self._keys, self._tokens = keys, None
        if options.auth_jwks is not None:
            rules = TokenRules(options.auth_issuer, options.auth_audience, options.auth_claim_prefix)
            self._keys = self._keys or KeyRing(options.auth_jwks, time.monotonic)
            self._tokens = TokenVerifier(rules, self._keys, revoked)

    async def identify(self, metadata: Metadata, handshake: Handshake) -> Principal:
        """The caller; Unauthenticated if there is no proof of one."""
        if (known := self.remembered(metadata, handshake)) is not None:
            return known
        token = _bearer(metadata)
        if token is None and self._tokens is not None:
            raise Unauthenticated("metadata authorization must be: Bearer TOKEN")
        if token is None or self._tokens is None:
            raise Unauthenticated("this engine has no way to verify that credential; see --auth-jwks and --dev")
        return await self._tokens.verify(token)

    def remembered(self, metadata: Metadata, handshake: Handshake = NO_HANDSHAKE) -> Principal | None:
        """The caller, if that is known without verifying a token; Unauthenticated if it no longer holds."""
        if self._dev:
            return _believed(metadata)
        if (token := _bearer(metadata)) is not None:
            return None if self._tokens is None else self._tokens.remembered(token)
        for pem in handshake.get("x509_pem_cert", ()):  # TLS has verified it
            return self._certificates.read(pem)
        return None

    async def keep_fresh(self) -> None:
        """Renew the keys until cancelled."""
        if self._keys is not None:
            await self._keys.keep_fresh()


def enter(principal: Principal | str) -> None:
    """Make this the caller of the call that the current task handles; a text is a tenant that is believed."""
    _principal.set(_trusted(principal) if isinstance(principal, str) else principal)


def caller() -> Principal:
    """The caller of the call that the current task handles."""
    return _principal.get()


def calling_tenant() -> str:
    """The tenant of the call that the current task handles."""
    principal = _principal.get()
    if not principal.has(Role.TENANT):
        raise PermissionDenied("only a tenant's credential permits this call")
    return principal.name


def _believed(metadata: Metadata) -> Principal:
    """Whoever the caller says."""
    for name, value in metadata:
        if name == DEV_TENANT_METADATA:
            if problem := text_problem(value):
                raise Unauthenticated(f"metadata {DEV_TENANT_METADATA} {problem}")
            return _trusted(str(value))
    raise Unauthenticated(f"metadata {DEV_TENANT_METADATA} is missing")


def _trusted(tenant_id: str) -> Principal:
    return Principal(_DEV_ROLES, tenant_id, "dev", float("inf"))


def _bearer(metadata: Metadata) -> str | None:
    """The token, None if there is none; two are one too many."""
    found = [value for name, value in metadata if name == TOKEN_METADATA]
    if not found:
        return None
    (value, *more) = found
    if more or not isinstance(value, str) or not value.lower().startswith(_BEARER):
        raise Unauthenticated("metadata authorization must be: Bearer TOKEN")
    return value[len(_BEARER) :].strip()
