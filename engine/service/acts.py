"""From calls to the audit log: every change that was asked for, and every credential that was refused."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from engine.domain.errors import Unavailable
from engine.journal.lock import ProcessLock
from engine.trust.audit_log import FILE_NAME, Act, AuditLog
from engine.trust.permissions import METHODS
from engine.trust.principal import Principal

REFUSED_CREDENTIALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
OBJECT_FIELDS = ("name", "quote", "lease")
OBJECT_LENGTH_MAX = 160


class Acts:
    """What turns calls into lines of the log. No other engine appends meanwhile: that would break the chain."""

    def __init__(self, folder: Path, clock_s: Callable[[], float], now_us: Callable[[], int]) -> None:
        """`folder`: of the log, made if absent. `clock_s` is monotonic. Unavailable if another engine has the log,
        OSError if the file cannot be had."""
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock_of(folder / FILE_NAME)
        try:
            self._log, self._now_us = AuditLog(folder, clock_s), now_us
        except BaseException:
            self._lock.release()
            raise

    def sync(self) -> None:
        """Make everything durable. Blocks."""
        self._log.sync()

    def close(self) -> None:
        """Sync, and let other engines have the log. Can be called again."""
        self._log.close()
        self._lock.release()

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


def _lock_of(file: Path) -> ProcessLock:
    try:
        return ProcessLock(file.with_name(file.name + ".lock"))
    except Unavailable as held:
        told = f"{held.message} and writes {file}; give this one a data_dir of its own, in its config file"
        raise Unavailable(told) from None


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
