"""A plain issuer for development and small installations: a folder with a private key and the public JWKS.

Making keys again rotates: the new key signs from now on, the JWKS goes on listing the old ones.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm

from engine.domain.errors import InvalidInput, Violation
from engine.trust.principal import Role, is_name
from engine.trust.tokens import LIFETIME_S_MAX

PRIVATE_KEY, JWKS = "key.pem", "jwks.json"
KEYS_LISTED_MAX = 5


def make_keys(folder: Path) -> str:
    """Make a signing key in the folder and list its public half first; the new key's id."""
    folder.mkdir(parents=True, exist_ok=True)
    key, key_id = generate_private_key(SECP256R1()), secrets.token_hex(8)
    listed = [public_jwk(key, key_id), *_listed(folder / JWKS)][:KEYS_LISTED_MAX]
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    _replace(folder / JWKS, json.dumps({"keys": listed}, indent=1) + "\n", 0o644)
    _replace(folder / PRIVATE_KEY, f"kid: {key_id}\n{pem}", 0o600)
    return key_id


def public_jwk(key: EllipticCurvePrivateKey, key_id: str) -> dict[str, Any]:
    """What a JWKS lists of a key."""
    return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": key_id, "alg": "ES256", "use": "sig"}


def issue(folder: Path, role: Role, name: str, issuer: str, audience: str, ttl_s: int, claim_prefix: str) -> str:
    """A token that says who its bearer is, signed with the folder's key; InvalidInput lists what is wrong."""
    found = []
    if not is_name(name):
        found.append(Violation("--name", f"cannot name a {role.value}: letters, digits and ._@|+=- only"))
    if not 1 <= ttl_s <= LIFETIME_S_MAX:
        found.append(Violation("--ttl", f"must be between 1 and {LIFETIME_S_MAX} seconds"))
    if found:
        raise InvalidInput(found)
    key_id, key = _signing_key(folder / PRIVATE_KEY)
    now_s = int(time.time())
    claims: dict[str, Any] = {"iss": issuer, "aud": audience, "sub": name, "iat": now_s, "exp": now_s + ttl_s}
    claims |= {"jti": secrets.token_hex(12), f"{claim_prefix}role": role.value}
    if role is not Role.OPERATOR:
        claims[claim_prefix + role.value] = name
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": key_id})


def _signing_key(path: Path) -> tuple[str, EllipticCurvePrivateKey]:
    try:
        first, _, pem = path.read_text(encoding="utf-8").partition("\n")
        key = load_pem_private_key(pem.encode(), None)
    except (OSError, ValueError):
        raise InvalidInput([Violation(str(path), "is no key; make one with walras token keys")]) from None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise InvalidInput([Violation(str(path), "is no EC key")])
    return first.removeprefix("kid: "), key


def _listed(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8"))["keys"]) if path.exists() else []


def _replace(path: Path, text: str, mode: int) -> None:
    """Write a file whole or not at all, readable only by whom `mode` says from its first byte on."""
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)
