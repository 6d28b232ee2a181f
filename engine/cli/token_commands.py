"""`walras token`: keys and tokens for development and small installations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

token_app = typer.Typer(no_args_is_help=True, help="Keys and tokens of a plain issuer: a folder.")

FolderOption = Annotated[Path, typer.Option("--keys", metavar="DIR", help="Where the keys are.")]
DEFAULT_KEYS = Path("walras-keys")
DEFAULT_ISSUER, DEFAULT_AUDIENCE, HOUR_S = "walras-dev", "walras", 3_600


@token_app.command()
def keys(folder: FolderOption = DEFAULT_KEYS) -> None:
    """Make a signing key; again: rotate to a new one, the old ones stay listed."""
    from engine.cli.screen import remarks
    from engine.trust.issuing import JWKS, make_keys

    key_id = make_keys(folder)
    remarks().print(f"key {key_id} signs from now on; engines read {folder / JWKS}", soft_wrap=True)


@token_app.command()
def issue(
    role: Annotated[str, typer.Argument(metavar="tenant|supplier|operator|node")],
    name: Annotated[str, typer.Argument(help="The tenant, supplier, operator or node id.")],
    folder: FolderOption = DEFAULT_KEYS,
    issuer: Annotated[str, typer.Option(help="The iss of the token.")] = DEFAULT_ISSUER,
    audience: Annotated[str, typer.Option(help="The aud of the token.")] = DEFAULT_AUDIENCE,
    ttl: Annotated[int, typer.Option(metavar="SECONDS", help="How long it is valid.")] = HOUR_S,
    claim_prefix: Annotated[str, typer.Option(help="Before role, tenant, supplier and node.")] = "walras_",
) -> None:
    """Print a token."""
    from engine.domain.errors import InvalidInput, Violation
    from engine.trust.issuing import issue as issued
    from engine.trust.principal import Role

    known = {each.value: each for each in Role}
    if role not in known:
        raise InvalidInput([Violation("role", f"must be one of {', '.join(known)}, got {role[:40]!r}")])
    typer.echo(issued(folder, known[role], name, issuer, audience, ttl, claim_prefix))
