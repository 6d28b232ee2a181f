"""Which engine to ask, as whom: the options of every client command, and the channel they open."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.option_groups import OptionGroup

if TYPE_CHECKING:
    import grpc

DEFAULT_LISTEN = "127.0.0.1:7070"
DEV_TENANT = "dev"
SYSTEM_ROOTS = "system"
CALL_TIMEOUT_S = 60.0
BULK_TIMEOUT_S = 600.0
MAX_REPLY_BYTES = 256 * 1024 * 1024
"""The placement of a million single-GPU nodes is some 20 MB; grpc's default of 4 MiB would refuse it."""
MAX_METADATA_BYTES = 1024 * 1024

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_REPLY_BYTES),
    # The explanation of a refusal travels in the trailing metadata; the default limit is 8 KiB.
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    # An engine is reached directly: a proxy of the environment neither knows loopback nor speaks plain HTTP/2.
    ("grpc.enable_http_proxy", 0),
)

_PLAIN = re.compile(r"[ -~]*")
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Connection:
    """An engine's address and the caller's credential. With a token, the engine takes the tenant from it.

    InvalidInput for what metadata, which are plain ASCII, cannot carry.
    """

    target: str = DEFAULT_LISTEN
    tenant: str = DEV_TENANT
    token: str | None = None
    tls_ca: str | None = None
    """File with the certificates that sign the engine's; `system` for those the machine trusts; None: no TLS."""

    def __post_init__(self) -> None:
        """Never repeats a token."""
        from engine.domain.errors import InvalidInput, Violation

        said = (("--tenant", self.tenant), ("--token, or WALRAS_TOKEN", self.token or ""))
        violations = [
            Violation(option, "must be printable ASCII") for option, text in said if not _PLAIN.fullmatch(text)
        ]
        if violations:
            raise InvalidInput(violations)

    @property
    def metadata(self) -> Metadata:
        """What every call carries."""
        if self.token is not None:
            return (("authorization", f"Bearer {self.token}"),)
        return (("x-walras-tenant", self.tenant),)

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """A channel that is closed in the end. Nothing is sent before the first call."""
        import grpc

        with self._opened(grpc) as channel:
            yield channel

    def _opened(self, grpc: Any) -> Any:
        if self.tls_ca is None:
            self._keep_token_private()
            return grpc.insecure_channel(self.target, options=CHANNEL_OPTIONS)
        roots = None if self.tls_ca == SYSTEM_ROOTS else Path(self.tls_ca).read_bytes()
        return grpc.secure_channel(self.target, grpc.ssl_channel_credentials(roots), options=CHANNEL_OPTIONS)

    def _keep_token_private(self) -> None:
        """A token goes in clear to this machine only."""
        from engine.domain.errors import InvalidInput, Violation
        from engine.trust.key_source import is_loopback

        if self.token is not None and not is_loopback(self.target.rpartition(":")[0]):
            raise InvalidInput([Violation("--token", "would travel unencrypted; name --tls-ca")])


def _option(text: str, **more: Any) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=text, rich_help_panel="Engine", **more)
    return option


connects = OptionGroup(
    parameter="connection",
    options={
        "target": (Annotated[str, _option("The engine to ask.", metavar="HOST:PORT")], DEFAULT_LISTEN),
        "tenant": (Annotated[str, _option("Who asks, of an engine in dev mode.")], DEV_TENANT),
        "token": (
            Annotated[str | None, _option("Proves who asks; better by WALRAS_TOKEN.", envvar="WALRAS_TOKEN")],
            None,
        ),
        "tls_ca": (
            Annotated[
                str | None,
                _option(
                    "Use TLS; who signs the engine's certificate.", metavar="FILE|system", envvar="WALRAS_TLS_CA"
                ),
            ],
            None,
        ),
    },
    build=lambda given: Connection(**given),
)
