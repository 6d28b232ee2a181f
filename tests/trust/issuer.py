"""An issuer written for the tests: keys, tokens honest and forged, certificates, and a JWKS server on loopback."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import ipaddress
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://issuer.test", "walras"
OPTIONS = {"auth_issuer": ISSUER, "auth_audience": AUDIENCE}
HOUR_S = 3_600


@lru_cache(maxsize=8)
def rsa_key(bits: int, number: int = 0) -> rsa.RSAPrivateKey:
    """RSA keys are slow to make, so tests share them."""
    return rsa.generate_private_key(65_537, bits)


@dataclass
class Issuer:
    """Signs with the newest of its keys; `listed` are the key ids that its JWKS names."""

    clock_s: Any = time.time
    keys: dict[str, Any] = field(default_factory=dict)
    listed: list[str] = field(default_factory=list)
    newest: str = ""
    issued: int = 0

    def __post_init__(self) -> None:
        self.rotate("first")

    def rotate(self, key_id: str, *, rs256: bool = False, unlist: str | None = None) -> None:
        """A new key signs and is listed; `unlist` is no longer."""
        self.keys[key_id] = rsa_key(2_048) if rs256 else ec.generate_private_key(ec.SECP256R1())
        self.newest = key_id
        self.listed = [each for each in (*self.listed, key_id) if each != unlist]

    def jwks(self) -> bytes:
        return json.dumps({"keys": [jwk(self.keys[key_id], key_id) for key_id in self.listed]}).encode()

    def write(self, path: Path) -> Path:
        path.write_bytes(self.jwks())
        return path

    def claims(self, role: str, name: str, **changes: Any) -> dict[str, Any]:
        now_s, self.issued = int(self.clock_s()), self.issued + 1
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": name,
            "iat": now_s,
            "exp": now_s + HOUR_S,
            "jti": f"t{self.issued}",
            "walras_role": role,
        }
        if role != "operator":
            claims[f"walras_{role}"] = name
        claims |= changes
        return {key: value for key, value in claims.items() if value is not None}

    def token(self, role: str = "tenant", name: str = "alice", *, key_id: str = "", **changes: Any) -> str:
        """An honest token; `changes` to its claims, None removes one."""
        key_id = key_id or self.newest
        return sign(self.claims(role, name, **changes), self.keys[key_id], key_id)


def jwk(key: Any, key_id: str) -> dict[str, Any]:
    algorithm: Any = ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else RSAAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": key_id, "use": "sig"}


def sign(claims: dict[str, Any], key: Any, key_id: str) -> str:
    algorithm = "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "RS256"
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": key_id})


def forged(claims: dict[str, Any], header: dict[str, Any], secret: bytes | None) -> str:
    """A token put together by hand: with an HMAC of `secret`, or without any signature."""
    signed = b".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
    signature = b"" if secret is None else hmac.new(secret, signed, hashlib.sha256).digest()
    return (signed + b"." + _base64(signature)).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def bad_tokens(issuer: Issuer, role: str, name: str) -> dict[str, str]:
    """Every kind of credential that proves nothing, by what is wrong with it. All claim to be `name`."""
    now_s, claims, key_id = int(issuer.clock_s()), issuer.claims(role, name), issuer.newest
    public = issuer.keys[key_id].public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    honest = issuer.token(role, name)
    head, body, signature = honest.split(".")
    return {
        "expired": issuer.token(role, name, iat=now_s - 7_200, exp=now_s - 3_600),
        "expired, and only just": issuer.token(role, name, iat=now_s - 7_200, exp=now_s - 10),
        "not valid yet": issuer.token(role, name, nbf=now_s + 600),
        "issued in the future": issuer.token(role, name, iat=now_s + 600, exp=now_s + 1_200),
        "lives for ever": issuer.token(role, name, exp=now_s + 10 * 365 * 86_400),
        "wrong audience": issuer.token(role, name, aud="somebody-else"),
        "wrong issuer": issuer.token(role, name, iss="https://evil.test"),
        **{
            f"no {claim}": issuer.token(role, name, **{claim: None})
            for claim in ("exp", "iat", "sub", "aud", "iss")
        },
        "no role": issuer.token(role, name, walras_role=None),
        "unknown role": issuer.token(role, name, walras_role="root"),
        "a list of roles": issuer.token(role, name, walras_role=["operator", role]),
        "nobody": issuer.token(role, name, **{"sub": "", f"walras_{role}": None}),
        "a name with a colon": issuer.token(
            role, name, **{"sub": "operator:x", f"walras_{role}": "supplier:bolt"}
        ),
        "times are text": issuer.token(role, name, exp=str(now_s + 600)),
        "alg none": forged(claims, {"alg": "none", "typ": "JWT", "kid": key_id}, None),
        "alg None": forged(claims, {"alg": "None", "kid": key_id}, None),
        "HS256 with the public key as its secret": forged(claims, {"alg": "HS256", "kid": key_id}, pem),
        "HS256 with a 5-byte key": forged(claims, {"alg": "HS256", "kid": key_id}, b"12345"),
        "ES256 on its head, HMAC below": forged(claims, {"alg": "ES256", "kid": key_id}, pem),
        "RS256 for a key of ES256": jwt.encode(claims, rsa_key(2_048), algorithm="RS256", headers={"kid": key_id}),
        "another key under a known id": sign(claims, ec.generate_private_key(ec.SECP256R1()), key_id),
        "a key that nobody lists": sign(claims, ec.generate_private_key(ec.SECP256R1()), "stranger"),
        "a key of its own in the header": jwt.encode(
            claims,
            rsa_key(2_048),
            algorithm="RS256",
            headers={"kid": "own", "jwk": jwk(rsa_key(2_048), "own"), "jku": "http://127.0.0.1:1/"},
        ),
        "no kid": jwt.encode(claims, issuer.keys[key_id], algorithm="ES256"),
        "signature cut off": f"{head}.{body}.",
        "signature of another token": f"{head}.{_base64(json.dumps(claims).encode()).decode()}.{signature}",
        "garbage": "x.y.z",
        "empty": "",
        "endless": "a" * 9_000,
    }


class JwksServer:
    """A JWKS endpoint written for these tests, on loopback; `document` is what it answers, None: 500."""

    def __init__(self, document: bytes) -> None:
        self.document: bytes | None = document
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                self.send_response(200 if outer.document is not None else 500)
                self.end_headers()
                self.wfile.write(outer.document or b"")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"

    @contextmanager
    def running(self) -> Iterator[JwksServer]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class Authority:
    """A certificate authority written for the tests: a root and an intermediate that signs."""

    def __init__(self, name: str = "test") -> None:
        self._root_key, self._key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self._root_name, self._name = (_name(f"{name} {level}") for level in ("root", "intermediate"))
        self.root = self._signed(self._root_name, self._root_key.public_key(), self._root_name, self._root_key)
        self.intermediate = self._signed(self._name, self._key.public_key(), self._root_name, self._root_key)

    def _signed(self, subject: Any, public: Any, signer: Any, key: Any) -> x509.Certificate:
        return (
            _builder(subject, public, signer, days=1)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )

    def issue(self, folder: Path, name: str, *uris: str, days: float = 1) -> tuple[Path, Path]:
        """(chain, key) files of a leaf for loopback with these URI names."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            *(x509.UniformResourceIdentifier(uri) for uri in uris),
        ]
        leaf = (
            _builder(_name(name), key.public_key(), self._name, days=days)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        chain, key_file = folder / f"{name}.pem", folder / f"{name}.key"
        chain.write_bytes(pem(leaf) + pem(self.intermediate))
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return chain, key_file

    def write(self, path: Path) -> Path:
        """The root, for those who are to trust it."""
        path.write_bytes(pem(self.root))
        return path


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])


def _builder(subject: Any, public: Any, signer: Any, *, days: float) -> Any:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=days))
    )
