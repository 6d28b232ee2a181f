"""Clients with tokens and certificates, and an engine as a process of its own that knows them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from tests.service.loopback import CHANNEL_OPTIONS, Client
from tests.trust.issuer import AUDIENCE, ISSUER, Issuer


class Bearer(Client):
    """A caller with a token; the claims it makes beside it count for nothing."""

    def __init__(self, channel: grpc.Channel, token: str | None, **claims: str) -> None:
        super().__init__(channel, None)
        self.token, self.claims = token, claims

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        own = () if self.token is None else (("authorization", f"Bearer {self.token}"),)
        return (*own, *self.claims.items())


def secure_channel(target: str, root: Path, client: tuple[Path, Path] | None = None) -> grpc.Channel:
    """A TLS channel that trusts `root`, with the (chain, key) of a client."""
    chain, key = (path.read_bytes() for path in client) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(root.read_bytes(), key, chain)
    return grpc.secure_channel(target, credentials, options=CHANNEL_OPTIONS)


@contextmanager
def engine_process(folder: Path, *arguments: str) -> Iterator[str]:
    """HOST:PORT of `walras serve` in a process of its own, which is ended in the end."""
    command = [sys.executable, "-m", "engine.cli", "serve", "--listen", "127.0.0.1:0"]
    command += ["--data-dir", str(folder / "data"), *arguments]
    with (folder / "engine.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening "), (folder / "engine.log").read_text(encoding="utf-8")
        yield line.removeprefix("listening ").strip()
        process.terminate()
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def auth_arguments(jwks: str) -> list[str]:
    """What makes an engine believe the tests' issuer."""
    return ["--auth-jwks", jwks, "--auth-issuer", ISSUER, "--auth-audience", AUDIENCE]


def auth_options(issuer: Issuer, folder: Path) -> dict[str, Any]:
    """The same for an engine in this process; its keys are a file."""
    jwks = str(issuer.write(folder / "jwks.json"))
    return {"auth_jwks": jwks, "auth_issuer": ISSUER, "auth_audience": AUDIENCE}
