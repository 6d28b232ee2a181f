"""Tokens prove who calls, or nothing (law 8)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from engine.domain.errors import Unauthenticated
from engine.trust import tokens
from engine.trust.key_ring import KeyRing, KeyTimes, keys_of
from engine.trust.key_source import KeysUnreadable
from engine.trust.principal import Principal, Role
from engine.trust.revocation import Revocations
from engine.trust.tokens import TokenRules, TokenVerifier
from tests.trust.issuer import AUDIENCE, ISSUER, Issuer, bad_tokens, jwk, rsa_key


class Bench:
    """An issuer and a verifier whose clock moves when told; sleeping moves it."""

    def __init__(self, revoked: Path | None = None) -> None:
        self.now_s, self.fetched = 1_700_000_000.0, 0
        self.issuer = Issuer(clock_s=lambda: self.now_s)
        self.fail = False
        self.keys = KeyRing("jwks", self.clock_s, KeyTimes(60, 2, 900), self._read, self._sleep)
        self.verifier = TokenVerifier(
            TokenRules(ISSUER, AUDIENCE), self.keys, Revocations(revoked, self.clock_s), self.clock_s
        )

    def clock_s(self) -> float:
        return self.now_s

    def _read(self, source: str) -> bytes:
        self.fetched += 1
        if self.fail:
            raise KeysUnreadable("down")
        return self.issuer.jwks()

    async def _sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)

    def verify(self, token: str) -> Principal:
        return asyncio.run(self.verifier.verify(token))

    def refused(self, token: str) -> str:
        with pytest.raises(Unauthenticated) as caught:
            self.verify(token)
        return caught.value.message


KINDS = list(bad_tokens(Issuer(), "tenant", "alice"))


@pytest.mark.parametrize("role", ["tenant", "supplier", "operator", "node"])
def test_an_honest_token_names_its_bearer(role: str) -> None:
    """Law 8: role and name come from the verified claims."""
    bench = Bench()
    principal = bench.verify(bench.issuer.token(role, "n1"))
    assert (principal.roles, principal.name) == (frozenset({Role(role)}), "n1")
    assert principal.account == ("n1" if role == "tenant" else f"{role}:n1")


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_token_proves_nothing(kind: str) -> None:
    """Law 8: each kind of bad credential is refused, in words that do not repeat it."""
    bench = Bench()
    token = bad_tokens(bench.issuer, "tenant", "alice")[kind]
    said = bench.refused(token)
    assert "alice" not in said
    assert len(token) < 10 or token not in said


def test_the_cache_ends_with_the_token() -> None:
    """Law 8: a remembered token is refused once it has expired; verifying is not repeated before."""
    bench = Bench()
    token = bench.issuer.token()
    bench.verify(token)
    assert bench.verifier.remembered(token) is not None
    bench.now_s += 3_599
    bench.verify(token)
    bench.now_s += 1 + tokens.LEEWAY_S
    assert "expired" in bench.refused(token)


def test_planted_cache_that_ignores_exp(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted bug, a cache that forgets to look at exp, would be found by the test above."""
    monkeypatch.setattr(TokenVerifier, "_standing", lambda self, token, verified: verified.principal)
    with pytest.raises(pytest.fail.Exception):
        test_the_cache_ends_with_the_token()


def test_planted_algorithm_that_is_not_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted bug, believing the algorithm that the token names, lets an HMAC with the public key in."""
    honest = jwt.decode

    def believing(token: str, key: Any, algorithms: Any, **more: Any) -> Any:
        if jwt.get_unverified_header(token)["alg"] == "HS256":
            return json.loads(jwt.utils.base64url_decode(token.split(".")[1]))
        return honest(token, key, algorithms, **more)

    monkeypatch.setattr(tokens, "ALGORITHMS", ("ES256", "RS256", "HS256"))
    monkeypatch.setattr(jwt, "decode", believing)
    with pytest.raises(pytest.fail.Exception):
        test_a_bad_token_proves_nothing("HS256 with the public key as its secret")


@pytest.mark.parametrize("entry", ["jti", "kid"])
def test_a_revoked_credential_stops_at_once(tmp_path: Path, entry: str) -> None:
    """Law 8: a token or its key on the list proves nothing any more, remembered or not; others go on."""
    listed = tmp_path / "revoked"
    listed.write_text("# nobody yet\n", encoding="utf-8")
    bench = Bench(listed)
    token = bench.issuer.token(jti="stolen")
    bench.issuer.rotate("second")
    other = bench.issuer.token()
    bench.verify(token)
    listed.write_text("stolen # bob's laptop\n" if entry == "jti" else "kid:first\n", encoding="utf-8")
    bench.now_s += 2
    assert "revoked" in bench.refused(token)
    assert "revoked" in bench.refused(token)
    bench.verify(other)
    listed.unlink()
    bench.now_s += 2
    assert "revoked" in bench.refused(token)


def test_a_new_key_is_fetched_when_a_token_names_it() -> None:
    """Rotation drops nobody: the first token of a new key is verified, whenever the last fetch was."""
    bench = Bench()
    for number in range(5):
        bench.issuer.rotate(f"key{number}", rs256=number % 2 == 1)
        bench.verify(bench.issuer.token())
    assert bench.fetched == 5


def test_a_key_that_is_unlisted_overlaps() -> None:
    """Rotation drops nobody: tokens of a key that is no longer listed hold for the overlap, then no longer."""
    bench = Bench()
    old = bench.issuer.token(exp=bench.now_s + 7_200)
    bench.verify(old)
    bench.issuer.rotate("second", unlist="first")
    bench.verify(bench.issuer.token())
    bench.now_s += 899
    bench.verify(old)
    bench.now_s += 2
    bench.refused(old)


def test_an_issuer_that_is_down_changes_nothing() -> None:
    """Known keys stay in force while the issuer cannot be asked."""
    bench = Bench()
    bench.verify(bench.issuer.token())
    bench.fail = True
    bench.refused(bad_tokens(bench.issuer, "tenant", "x")["a key that nobody lists"])
    bench.verify(bench.issuer.token())


def test_a_flood_of_invented_keys_is_one_fetch() -> None:
    """Law 9: unknown key ids cost the issuer one question per `refetch_s`, however many tokens name them."""
    bench = Bench()
    stranger = bad_tokens(bench.issuer, "tenant", "alice")["a key that nobody lists"]

    async def flood() -> list[Any]:
        calls = [bench.verifier.verify(stranger) for _ in range(1_500)]
        return await asyncio.gather(*calls, bench.verifier.verify(bench.issuer.token()), return_exceptions=True)

    answers = asyncio.run(flood())
    assert all(isinstance(each, Unauthenticated) for each in answers[:-1])
    assert bench.fetched == 1


@pytest.mark.parametrize(
    "raw",
    [
        {"kty": "oct", "k": "MTIzNDU", "kid": "s"},
        jwk(ec.generate_private_key(ec.SECP384R1()), "s"),
        jwk(rsa_key(1_024), "s"),
        {**jwk(rsa_key(2_048), "s"), "use": "enc"},
        {**jwk(rsa_key(2_048), "s"), "alg": "HS256"},
        {key: value for key, value in jwk(rsa_key(2_048), "s").items() if key != "kid"},
        {"kty": "EC", "kid": "s"},
    ],
    ids=["secret", "P-384", "RSA 1024", "for encryption", "for HMAC", "no kid", "broken"],
)
def test_unfit_keys_are_left_out(raw: dict[str, Any]) -> None:
    """Law 8: secrets, small keys and keys for other ends verify nothing."""
    good = jwk(rsa_key(2_048), "good")
    assert set(keys_of(json.dumps({"keys": [raw, good]}).encode())) == {"good"}
    with pytest.raises(KeysUnreadable):
        keys_of(json.dumps({"keys": [raw]}).encode())


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": [1]}', b"\xff"])
def test_documents_that_are_no_keys(document: bytes) -> None:
    with pytest.raises(KeysUnreadable):
        keys_of(document)


def test_who_comes_during_a_fetch_waits_for_the_next() -> None:
    """Rotation drops nobody: a key published after a fetch began is seen by the fetch that follows it."""
    bench = Bench()
    rotated: list[str] = []
    read: Callable[[str], bytes] = bench._read

    def slow(source: str) -> bytes:
        document = read(source)
        if not rotated:
            bench.issuer.rotate("second")
            rotated.append(bench.issuer.token())
        return document

    bench.keys._read = slow

    async def run() -> None:
        first: Awaitable[Any] = asyncio.ensure_future(bench.verifier.verify(bench.issuer.token()))
        while not rotated:
            await asyncio.sleep(0.001)
        await asyncio.gather(first, bench.verifier.verify(rotated[0]))

    asyncio.run(run())
