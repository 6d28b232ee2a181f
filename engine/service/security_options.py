"""What the options of identity and TLS must be to fit together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine.domain.errors import InvalidInput, Violation
from engine.trust.key_ring import keys_of
from engine.trust.key_source import KeysUnreadable, check_source, is_loopback, is_url, read_source

if TYPE_CHECKING:
    from engine.service.options import ServerOptions


def security_violations(options: ServerOptions) -> Iterator[Violation]:
    """What is wrong with who is believed and over which wire."""
    yield from _auth_violations(options)
    yield from _tls_violations(options)
    if options.dev and (options.auth_jwks or options.tls_cert):
        yield Violation("dev", "believes every caller; it cannot be combined with --auth-jwks or --tls-cert")
    if options.auth_jwks and not options.tls_cert and not _on_loopback(options.listen):
        yield Violation("listen", "tokens beyond loopback need --tls-cert and --tls-key")


def _auth_violations(options: ServerOptions) -> Iterator[Violation]:
    if options.auth_jwks is None:
        return
    for name in ("auth_issuer", "auth_audience"):
        if not getattr(options, name):
            yield Violation(name, "is required with auth_jwks")
    try:
        check_source(options.auth_jwks)
        if not is_url(options.auth_jwks):
            keys_of(read_source(options.auth_jwks))
    except InvalidInput as error:
        yield from error.violations
    except KeysUnreadable as error:
        yield Violation("auth_jwks", str(error))


def _tls_violations(options: ServerOptions) -> Iterator[Violation]:
    if (options.tls_cert is None) != (options.tls_key is None):
        yield Violation("tls_cert", "tls_cert and tls_key go together")
    if options.tls_client_ca is not None and options.tls_cert is None:
        yield Violation("tls_client_ca", "needs tls_cert and tls_key")
    if options.node_listen is not None:
        if options.tls_client_ca is None:
            yield Violation("node_listen", "needs tls_client_ca: nodes prove who they are by certificate")
        host, _, port = options.node_listen.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65_535:
            yield Violation("node_listen", f"must be HOST:PORT, got {options.node_listen!r}")
    for name in ("tls_cert", "tls_key", "tls_client_ca"):
        path: Path | None = getattr(options, name)
        if path is not None and not path.is_file():
            yield Violation(name, f"{path} is no file")


def _on_loopback(listen: str) -> bool:
    return is_loopback(listen.rpartition(":")[0])
