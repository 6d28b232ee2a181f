"""From calls to the audit log: every change that was asked for, and every credential that was refused."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import grpc

from engine.trust.audit_log import Act, AuditLog
from engine.trust.permissions import METHODS
from engine.trust.principal import Principal

REFUSED_CREDENTIALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
OBJECT_FIELDS = ("name", "quote", "lease")
OBJECT_LENGTH_MAX = 160


class Acts:
    """What turns calls into lines of the log."""

    def __init__(self, audit_log: AuditLog, now_us: Callable[[], int]) -> None:
        self._log, self._now_us = audit_log, now_us

    def begin(self, method: str, peer: str) -> PendingAct:
        """A call that has just come."""
        pending = PendingAct(self, method, host_of(peer))
        _under_way.set(pending)
        return pending

    def note(self, pending: PendingAct, about: str, code: grpc.StatusCode) -> None:
        """Write a call down, if it was to change something or its credential was refused."""
        permission = METHODS.get(pending.method)
        changes = permission is not None and permission.mutates and code is not grpc.StatusCode.RESOURCE_EXHAUSTED
        if not changes and code not in REFUSED_CREDENTIALS:
            return
        who = pending.principal
        account, credential = (who.account, who.credential_id) if who is not None else ("", "")
        self._log.note(
            Act(
                self._now_us(),
                account,
                credential,
                pending.host,
                pending.method,
                about[:OBJECT_LENGTH_MAX],
                code.name,
            )
        )


@dataclass(slots=True)
class PendingAct:
    """A call until its outcome is known."""

    acts: Acts
    method: str
    host: str
    principal: Principal | None = None

    def done(self, request: Any, reply: Any) -> None:
        """It was served."""
        self.acts.note(self, object_of(reply) or object_of(request), grpc.StatusCode.OK)

    def failed(self, request: Any, code: grpc.StatusCode) -> None:
        """It was not."""
        self.acts.note(self, object_of(request), code)


_under_way: ContextVar[PendingAct] = ContextVar("act_under_way")


def note_part(about: str) -> None:
    """Write down what a message of a stream changed; the call of this task goes on."""
    pending = _under_way.get()
    pending.acts.note(pending, about, grpc.StatusCode.OK)


def object_of(message: Any) -> str:
    """The name of what a message is about, empty if it names nothing."""
    for name in OBJECT_FIELDS:
        value = getattr(message, name, "")
        if isinstance(value, str) and value:
            return value
    return ""


def host_of(peer: str) -> str:
    """The host of a gRPC peer: `ipv4:127.0.0.1:4711`, `ipv6:%5B::1%5D:4711`."""
    return peer.rpartition(":")[0] or peer
