"""The issuer's public keys: kept, renewed in time, and honoured for a while after they are taken back.

Rotation must drop nobody. A token that names a new key waits until the keys are fetched (once for all who wait,
not more often than `refetch_s`); a key that the issuer no longer lists is honoured for `overlap_s` more, because
tokens that it signed are still in honest hands. A stolen key is not waited for: its id is put on the revocation
list.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from engine.trust.key_source import KeysUnreadable, read_source

log = logging.getLogger("walras.trust")
ALGORITHMS = ("ES256", "RS256")
"""Pinned: what a key is for is decided here by its type, never by what a token says of itself."""
RSA_BITS_MIN = 2048
KEYS_MAX = 100
WAITING_MAX = 1_000


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key and the one algorithm it may be used with."""

    key_id: str
    algorithm: str
    key: EllipticCurvePublicKey | RSAPublicKey


@dataclass(frozen=True, slots=True)
class KeyTimes:
    """Seconds: between scheduled fetches, between fetches that unknown key ids cause, of overlap."""

    refresh_s: float = 60.0
    refetch_s: float = 2.0
    overlap_s: float = 900.0


class KeyRing:
    """All keys by id. `clock_s` is monotonic; `read` blocks and runs in a thread."""

    def __init__(
        self,
        source: str,
        clock_s: Callable[[], float],
        times: KeyTimes | None = None,
        read: Callable[[str], bytes] = read_source,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._source, self._clock_s, self._read, self._sleep = source, clock_s, read, sleep
        self._times = times or KeyTimes()
        self._keys: dict[str, PublicKey] = {}
        self._retired_at_s: dict[str, float] = {}
        self._fetched_at_s = float("-inf")
        self._coming: asyncio.Task[None] | None = None
        self._waiting = 0

    def known(self, key_id: str) -> PublicKey | None:
        """The key, if it is honoured now."""
        retired_at_s = self._retired_at_s.get(key_id)
        if retired_at_s is not None and self._clock_s() > retired_at_s + self._times.overlap_s:
            self._keys.pop(key_id, None)
            del self._retired_at_s[key_id]
        return self._keys.get(key_id)

    async def find(self, key_id: str) -> PublicKey | None:
        """The key; for one that is not known the caller waits for a fetch that begins after now.

        Beyond WAITING_MAX callers nobody waits: floods of invented key ids must not pile up.
        """
        if self.known(key_id) is None and self._waiting < WAITING_MAX:
            self._waiting += 1
            try:
                await self.refresh()
            finally:
                self._waiting -= 1
        return self.known(key_id)

    async def refresh(self) -> None:
        """Fetch the keys as soon as that is allowed again, once for all who wait. Failing, what is known stays."""
        if self._coming is None:
            self._coming = asyncio.create_task(self._fetch_in_time())
        await asyncio.shield(self._coming)

    async def keep_fresh(self) -> None:
        """Fetch again and again until cancelled."""
        while True:
            await self.refresh()
            await self._sleep(self._times.refresh_s)

    async def _fetch_in_time(self) -> None:
        await self._sleep(max(0.0, self._fetched_at_s + self._times.refetch_s - self._clock_s()))
        self._coming = None  # who comes from now on may know of newer keys than this fetch will see
        await self._fetch()

    async def _fetch(self) -> None:
        self._fetched_at_s = self._clock_s()
        try:
            self._take(keys_of(await asyncio.to_thread(self._read, self._source)))
        except KeysUnreadable as error:
            log.warning("the issuer's keys could not be renewed, those known stay: %s", error)

    def _take(self, listed: dict[str, PublicKey]) -> None:
        now_s = self._clock_s()
        for key_id in self._keys.keys() - listed.keys():
            self._retired_at_s.setdefault(key_id, now_s)
        for key_id in listed:
            self._retired_at_s.pop(key_id, None)
        self._keys.update(listed)


def keys_of(document: bytes) -> dict[str, PublicKey]:
    """The usable keys of a JWKS document by id; others (secrets, small or unknown ones) are left out.

    KeysUnreadable if no usable key is left: an issuer that has none has been misread.
    """
    try:
        raw = json.loads(document)["keys"]
        listed = [_public_key(each) for each in raw[:KEYS_MAX]]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise KeysUnreadable("the document is no JWKS") from None
    found = {key.key_id: key for key in listed if key is not None}
    if not found:
        raise KeysUnreadable(f"the document holds no key for {' or '.join(ALGORITHMS)} with a kid")
    return found


def _public_key(raw: dict[str, Any]) -> PublicKey | None:
    key_id = raw.get("kid")
    if not isinstance(key_id, str) or raw.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK(raw, algorithm={"EC": "ES256", "RSA": "RS256"}[raw["kty"]]).key
    except (jwt.PyJWTError, KeyError, ValueError, TypeError):
        return None
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        algorithm = "ES256"
    elif isinstance(key, RSAPublicKey) and key.key_size >= RSA_BITS_MIN:
        algorithm = "RS256"
    else:
        return None
    return PublicKey(key_id, algorithm, key) if raw.get("alg", algorithm) == algorithm else None
