"""Options of identity and TLS: what does not fit together is refused at the start, all of it at once (law 9)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from engine.domain.errors import InvalidInput
from engine.service.options import ServerOptions, read_config
from tests.service.access_world import AccessWorld
from tests.service.credentials import Bearer, auth_options
from tests.service.loopback import refused
from tests.trust.issuer import Issuer, bad_tokens

AUTH = {"auth_issuer": "i", "auth_audience": "a"}


def violated(**options: Any) -> set[str]:
    with pytest.raises(InvalidInput) as caught:
        ServerOptions(**options)
    return {each.field for each in caught.value.violations}


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"auth_jwks": "https://issuer.test/jwks"}, {"auth_issuer", "auth_audience"}),
        ({"auth_jwks": "http://issuer.test/jwks", **AUTH}, {"auth_jwks"}),
        ({"auth_jwks": "ftp://127.0.0.1/jwks", **AUTH}, {"auth_jwks"}),
        ({"auth_jwks": "/nowhere/jwks.json", **AUTH}, {"auth_jwks"}),
        ({"auth_jwks": "https://issuer.test/jwks", **AUTH, "dev": True}, {"dev"}),
        ({"auth_jwks": "https://issuer.test/jwks", **AUTH, "listen": "0.0.0.0:7070"}, {"listen"}),
        ({"dev": True, "listen": "0.0.0.0:7070"}, {"listen"}),
        ({"tls_cert": Path("/nowhere/c.pem")}, {"tls_cert"}),
        ({"tls_client_ca": Path("/nowhere/ca.pem")}, {"tls_client_ca"}),
        ({"node_listen": "127.0.0.1:0"}, {"node_listen"}),
        ({"node_listen": "nonsense"}, {"node_listen"}),
    ],
)
def test_what_does_not_fit_together(options: dict[str, Any], fields: set[str]) -> None:
    """Law 8: no combination that would believe everybody, or send tokens in clear, starts."""
    assert violated(**options) == fields


def test_a_jwks_without_a_usable_key_is_refused(tmp_path: Path) -> None:
    """Law 8: a file with a shared secret in it is no way to verify anybody."""
    jwks = tmp_path / "jwks.json"
    jwks.write_text('{"keys": [{"kty": "oct", "k": "MTIzNDU", "kid": "s"}]}', encoding="utf-8")
    assert violated(auth_jwks=str(jwks), **AUTH) == {"auth_jwks"}


def test_a_config_file_says_the_same(tmp_path: Path) -> None:
    """All of it can stand in the file of --config."""
    auth = auth_options(Issuer(), tmp_path)
    text = "\n".join(f'{name} = "{value}"' for name, value in auth.items())
    file = tmp_path / "walras.toml"
    file.write_text(f'{text}\nauth_revoked = "revoked"\n[quotas]\ncalls_per_s = 7.5\n', encoding="utf-8")
    options = ServerOptions(**read_config(file))
    assert options.quotas is not None and options.quotas.calls_per_s == 7.5
    assert (options.auth_jwks, options.auth_revoked) == (auth["auth_jwks"], Path("revoked"))
    file.write_text("[quotas]\ncalls_per_s = 0\nnonsense = 1\n", encoding="utf-8")
    with pytest.raises(InvalidInput):
        read_config(file)


def test_no_log_and_no_answer_holds_a_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Law 8: whatever credentials come, good or bad, no log line and no status repeats one."""
    world = AccessWorld(tmp_path)
    try:
        with caplog.at_level(logging.DEBUG):
            tokens = {"good": world.issuer.token("tenant", "alice"), **bad_tokens(world.issuer, "tenant", "alice")}
            for kind, token in tokens.items():
                if len(token) > 20:
                    answer = refused(Bearer(world.channel, token).lease, "leases/l-9")
                    parts = [part for part in (token, *token.split(".")) if len(part) > 20]
                    assert not any(part in repr(answer) for part in parts), kind
                    assert token not in caplog.text
    finally:
        world.close()
