"""An engine of its own process, over real TLS, with tokens and nodes by certificate (law 8)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.service.credentials import Bearer, auth_arguments, engine_process, secure_channel
from tests.service.ledgers import Account
from tests.service.loopback import refused, small_fleet
from tests.service.test_incident import Rotating
from tests.trust.issuer import AUDIENCE, ISSUER, Authority, Issuer, JwksServer

Status = grpc.StatusCode


@dataclass
class Secure:
    """A running engine with its issuer, its authority and its two addresses."""

    folder: Path
    issuer: Issuer
    authority: Authority
    target: str
    node_target: str

    @property
    def root(self) -> Path:
        return self.folder / "root.pem"

    def bearer(self, role: str, name: str, **changes: Any) -> Bearer:
        return Bearer(secure_channel(self.target, self.root), self.issuer.token(role, name, **changes))

    def node(self, chain_and_key: tuple[Path, Path] | None) -> Bearer:
        return Bearer(secure_channel(self.node_target, self.root, chain_and_key), None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder, issuer, authority = tmp_path_factory.mktemp("secure"), Issuer(), Authority()
    authority.write(folder / "root.pem")
    chain, key = authority.issue(folder, "engine")
    node_target = f"127.0.0.1:{free_port()}"
    (folder / "revoked").touch()
    tls = ["--tls-cert", str(chain), "--tls-key", str(key), "--tls-client-ca", str(folder / "root.pem")]
    nodes = ["--node-listen", node_target, "--auth-revoked", str(folder / "revoked")]
    with (
        JwksServer(issuer.jwks()).running() as jwks,
        engine_process(folder, *auth_arguments(jwks.url), *tls, *nodes) as target,
    ):
        engine = Secure(folder, issuer, authority, target, node_target)
        engine.bearer("operator", "root").load(small_fleet())
        yield engine


def test_a_tenant_deploys_over_tls(secure: Secure) -> None:
    """Law 8: with a token over a verified chain a tenant deploys, under the name in its token, once an operator
    has taken its money in."""
    client, operator = secure.bearer("tenant", "alice"), Account(secure.bearer("operator", "root"))
    assert refused(client.deploy, gpu_models=["L40S"]).reason == "INSUFFICIENT_FUNDS"
    operator.deposit(10**9, account="tenants/alice")
    lease = client.deploy(gpu_models=["L40S"])
    assert Account(client).balance().balance_micro_usd == 10**9 - lease.price.total_micro_usd
    assert client.lease(lease.name).tenant_id == "alice"
    assert refused(secure.bearer("tenant", "bob").lease, lease.name).code is Status.NOT_FOUND
    client.release(lease.name)


def test_nothing_is_served_in_plain_text_or_to_a_foreign_root(secure: Secure, tmp_path: Path) -> None:
    """Without TLS, or trusting another authority, no call gets through."""
    token = secure.issuer.token()
    foreign = Authority("foreign").write(tmp_path / "foreign.pem")
    for channel in (grpc.insecure_channel(secure.target), secure_channel(secure.target, foreign)):
        with channel:
            assert refused(Bearer(channel, token).leases).code is Status.UNAVAILABLE


def test_a_node_is_its_certificate(secure: Secure) -> None:
    """Law 8: a node proves itself by mutual TLS, and reaches only itself."""
    node = secure.node(secure.authority.issue(secure.folder, "n1", "spiffe://walras.test/node/h1"))
    assert node.set_state("nodes/h1", "DRAINING").state == "DRAINING"
    assert node.node("nodes/h1").node_id == "h1"
    for name in ("nodes/h2", "nodes/none"):
        assert refused(node.set_state, name, "DOWN").code is Status.NOT_FOUND
    assert refused(node.deploy).code is Status.PERMISSION_DENIED
    secure.bearer("operator", "root").set_state("nodes/h1", "READY")


@pytest.mark.parametrize("uris", [(), ("spiffe://walras.test/tenant/alice",), ("spiffe://a/node/h1",) * 2])
def test_certificates_that_name_no_node(secure: Secure, uris: tuple[str, ...]) -> None:
    """Law 8: a certificate of the right authority that names none, or two, is nobody."""
    node = secure.node(secure.authority.issue(secure.folder, "odd", *uris))
    assert refused(node.set_state, "nodes/h1", "DOWN").code is Status.UNAUTHENTICATED


def test_certificates_of_strangers_get_no_connection(secure: Secure, tmp_path: Path) -> None:
    """Law 8: no certificate, another authority's, and an expired one are refused in the handshake."""
    uri = "spiffe://walras.test/node/h1"
    stranger = Authority("stranger").issue(tmp_path, "n", uri)
    expired = secure.authority.issue(tmp_path, "late", uri, days=-1)
    for presented in (None, stranger, expired):
        assert refused(secure.node(presented).set_state, "nodes/h1", "DOWN").code is Status.UNAVAILABLE


def test_the_engines_certificate_is_renewed_without_a_restart(secure: Secure, tmp_path: Path) -> None:
    """New files serve new connections, open ones go on; files that do not fit together change nothing."""
    chain, key = secure.folder / "engine.pem", secure.folder / "engine.key"
    kept, open_before = (chain.read_bytes(), key.read_bytes()), secure.bearer("tenant", "alice")
    open_before.leases()
    renewed = Authority("renewed")
    root = renewed.write(tmp_path / "renewed.pem")
    new_chain, new_key = renewed.issue(tmp_path, "engine")
    try:
        key.write_bytes(new_key.read_bytes())  # half of the pair: the old one stays in use
        secure.bearer("tenant", "alice").leases()
        chain.write_bytes(new_chain.read_bytes())
        with secure_channel(secure.target, root) as channel:
            assert not Bearer(channel, secure.issuer.token()).leases().leases
        open_before.leases()
    finally:
        chain.write_bytes(kept[0])
        key.write_bytes(kept[1])
    secure.bearer("tenant", "alice").leases()


def test_the_command_line_speaks_tls(secure: Secure) -> None:
    """`walras` in a third process, with WALRAS_TOKEN and WALRAS_TLS_CA."""
    environment = {
        **os.environ,
        "WALRAS_TOKEN": secure.issuer.token("tenant", "carol"),
        "WALRAS_TLS_CA": str(secure.root),
    }
    command = [
        sys.executable,
        "-m",
        "engine.cli",
        "quote",
        "--target",
        secure.target,
        "--gpu-count",
        "1",
        "--json",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout)["total_micro_usd"] > 0


def test_tokens_of_the_walras_command(tmp_path: Path) -> None:
    """`walras token keys` and `issue`, and an engine that reads their file; keys rotate and drop no token."""
    from engine.cli.main import main
    from engine.trust.issuing import issue
    from engine.trust.principal import Role

    keys = tmp_path / "keys"
    assert main(["token", "keys", "--keys", str(keys)]) == 0
    old = issue(keys, Role.OPERATOR, "root", ISSUER, AUDIENCE, 600, "walras_")
    assert (keys / "key.pem").stat().st_mode & 0o777 == 0o600
    jwks = str(keys / "jwks.json")
    engine = Rotating(tmp_path / "data", dev=False, auth_jwks=jwks, auth_issuer=ISSUER, auth_audience=AUDIENCE)
    try:
        assert Bearer(engine.channel, old).stats().nodes == 0
        assert main(["token", "keys", "--keys", str(keys)]) == 0
        new = issue(keys, Role.TENANT, "alice", ISSUER, AUDIENCE, 600, "walras_")
        assert not Bearer(engine.channel, new).leases().leases
        assert Bearer(engine.channel, old).stats().nodes == 0
    finally:
        engine.close()
