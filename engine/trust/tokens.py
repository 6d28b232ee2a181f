"""Verifying bearer tokens (JWT). By default PyJWT takes a token without `exp`, of any issuer, signed by a 5-byte
secret; here algorithms are pinned by the key, five claims are required, and a verified token is remembered by its
hash until it expires: verifying costs some 0.3 ms, remembering a microsecond.

What is remembered is checked anew at each call against time, the revocation list and the keys still honoured.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt

from engine.domain.errors import Unauthenticated
from engine.trust.key_ring import ALGORITHMS, KeyRing
from engine.trust.principal import Principal, principal_of
from engine.trust.revocation import Revocations

REQUIRED = ["exp", "iat", "sub", "aud", "iss"]
LEEWAY_S = 5
LIFETIME_S_MAX = 24 * 3_600
"""A token that lives longer is refused: what cannot be taken back must end soon."""
TOKEN_BYTES_MAX = 8_192
REMEMBERED_MAX = 100_000


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must say. `claim_prefix`: before `role`, `tenant`, `supplier` and `node`."""

    issuer: str
    audience: str
    claim_prefix: str = "walras_"


@dataclass(frozen=True, slots=True)
class _Verified:
    principal: Principal
    key_id: str


class TokenVerifier:
    """Tokens to principals. `clock_s`: seconds since the epoch."""

    def __init__(
        self,
        rules: TokenRules,
        keys: KeyRing,
        revoked: Revocations,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._rules, self._keys, self._revoked, self._clock_s = rules, keys, revoked, clock_s
        self._remembered: OrderedDict[bytes, _Verified] = OrderedDict()

    def remembered(self, token: str) -> Principal | None:
        """The principal of a token verified before, None if it was not; Unauthenticated if it stands no longer."""
        verified = self._remembered.get(_hash(token))
        return None if verified is None else self._standing(token, verified)

    async def verify(self, token: str) -> Principal:
        """The principal that a token proves; Unauthenticated, without its text, if it proves none."""
        if (principal := self.remembered(token)) is not None:
            return principal
        verified = await self._verified(token)
        principal = self._standing(token, verified)
        self._remembered[_hash(token)] = verified
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        return principal

    def _standing(self, token: str, verified: _Verified) -> Principal:
        principal = verified.principal
        problem = ""
        if self._clock_s() >= principal.expires_at_s + LEEWAY_S:
            problem = "the token has expired"
        elif principal.credential_id in self._revoked or f"kid:{verified.key_id}" in self._revoked:
            problem = "the token was revoked"
        elif self._keys.known(verified.key_id) is None:
            problem = "the token's key is no longer honoured"
        if problem:
            self._remembered.pop(_hash(token), None)
            raise Unauthenticated(problem)
        return principal

    async def _verified(self, token: str) -> _Verified:
        if len(token) > TOKEN_BYTES_MAX:
            raise Unauthenticated("the token is too long")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise Unauthenticated("the credential is no token") from None
        if header.get("alg") not in ALGORITHMS:
            raise Unauthenticated(f"tokens must be signed with {' or '.join(ALGORITHMS)}")
        key = await self._keys.find(header["kid"]) if isinstance(header.get("kid"), str) else None
        if key is None:
            raise Unauthenticated("the token is signed with a key that the issuer does not list")
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=self._rules.audience,
                issuer=self._rules.issuer,
                leeway=LEEWAY_S,
                options={"require": REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated(_told(error)) from None
        self._check_times(claims)
        return _Verified(principal_of(claims, self._rules.claim_prefix, credential_id(token, claims)), key.key_id)

    def _check_times(self, claims: dict[str, Any]) -> None:
        """PyJWT asks the system's clock; ours is injected."""
        now_s = self._clock_s()
        times = [claims[name] for name in ("iat", "exp")] + [claims.get("nbf", 0)]
        if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in times):
            raise Unauthenticated("the token's times are no numbers")
        issued_s, expires_s, not_before_s = times
        if not now_s < expires_s + LEEWAY_S:
            raise Unauthenticated("the token has expired")
        if not (issued_s <= now_s + LEEWAY_S and not_before_s <= now_s + LEEWAY_S):
            raise Unauthenticated("the token is not valid yet")
        if not expires_s - issued_s <= LIFETIME_S_MAX:
            raise Unauthenticated(f"the token lives longer than {LIFETIME_S_MAX // 3_600} hours")


def credential_id(token: str, claims: dict[str, Any]) -> str:
    """What the audit log and the revocation list call a token: its `jti`, else a part of its hash."""
    named = claims.get("jti")
    if isinstance(named, str) and 1 <= len(named) <= 128 and named.isprintable():
        return named
    return "sha256:" + _hash(token).hex()[:32]


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


_TOLD: dict[type[jwt.PyJWTError], str] = {
    jwt.InvalidAudienceError: "the token is for another audience",
    jwt.InvalidIssuerError: "the token is of another issuer",
    jwt.MissingRequiredClaimError: f"the token must have {', '.join(REQUIRED)}",
    jwt.InvalidSignatureError: "the token's signature does not hold",
}


def _told(error: jwt.PyJWTError) -> str:
    """What is said of a token that is refused; never what is in it."""
    return _TOLD.get(type(error), "the token cannot be verified")
