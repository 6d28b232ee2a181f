"""What goes over the simulated network: a call, and its reply."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.market.commands import Command
from engine.market.events import Key

UNKNOWN = {"UNAVAILABLE", "OVERLOADED", "NOT_LEADER", "TIMEOUT"}
"""After these a caller does not know what became of its call, or is to try again."""


class Call(msgspec.Struct):
    """`command` None: a read of `what` about `subject`. `acked_version`: what callers had been shown before.
    `items`: of a batch."""

    number: int
    tenant: str
    what: str
    command: Command | None = None
    subject: str = ""
    is_foreign: bool = False
    acked_version: int = 0
    nodes: tuple[str, ...] = ()
    items: tuple[Call, ...] = ()

    @property
    def key(self) -> Key | None:
        return getattr(self.command, "key", None)

    def __str__(self) -> str:
        return f"call {self.number}, {self.what} {self.subject} by {self.tenant}"


class Reply(msgspec.Struct, frozen=True):
    """`version`: of the state that it shows; `firm`: what of its subject never changes."""

    version: int
    at_us: int
    subject: str = ""
    owner: str = ""
    firm: tuple[Any, ...] | None = None
    ends_us: int = 0
    balance: int | None = None
    listed: tuple[str, ...] | None = None
    error: str = ""
    items: tuple[Reply, ...] = ()
