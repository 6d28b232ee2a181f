"""Options of `walras serve` about who is believed and over which wire."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from engine.cli.option_groups import OptionGroup


def _option(text: str, metavar: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=text, metavar=metavar, rich_help_panel="Security")
    return option


def _path(text: str) -> tuple[Any, Any]:
    return Annotated[Path | None, _option(text, "FILE")], None


def _text(text: str, metavar: str) -> tuple[Any, Any]:
    return Annotated[str | None, _option(text, metavar)], None


secures = OptionGroup(
    parameter="security",
    options={
        "auth_jwks": _text("The issuer's public keys; tokens are verified against them.", "FILE|URL"),
        "auth_issuer": _text("The iss that tokens must have.", "ISS"),
        "auth_audience": _text("The aud that tokens must have.", "AUD"),
        "auth_claim_prefix": _text("Before role and tenant in claims; walras_ if not given.", "TEXT"),
        "auth_revoked": _path("Tokens, keys and certificates taken back; read again when it changes."),
        "tls_cert": _path("Certificate chain of the engine, PEM; read again when it changes."),
        "tls_key": _path("Its private key, PEM."),
        "tls_client_ca": _path("Who signs the certificates of nodes, PEM."),
        "node_listen": _text("A second listener, for nodes, that demands their certificate.", "HOST:PORT"),
    },
    build=lambda given: given,
)
