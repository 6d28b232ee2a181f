"""What goes wrong, as a line for people and an exit code for scripts. Never a traceback.

The one place that maps errors of this process (WalrasError) and of calls (grpc.RpcError).
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.cli.exit_codes import ExitCode
from engine.cli.screen import remarks

if TYPE_CHECKING:
    import grpc
    from walras.v1 import cluster_service_pb2

    from engine.domain.errors import WalrasError

EXIT_BY_STATUS = {
    "OK": ExitCode.DONE,
    "CANCELLED": ExitCode.ENGINE_FAILED,
    "UNKNOWN": ExitCode.ENGINE_FAILED,
    "INVALID_ARGUMENT": ExitCode.BAD_INPUT,
    "DEADLINE_EXCEEDED": ExitCode.ENGINE_FAILED,
    "NOT_FOUND": ExitCode.NO,
    "ALREADY_EXISTS": ExitCode.BAD_INPUT,
    "PERMISSION_DENIED": ExitCode.NO,
    "RESOURCE_EXHAUSTED": ExitCode.ENGINE_FAILED,
    "FAILED_PRECONDITION": ExitCode.NO,
    "ABORTED": ExitCode.ENGINE_FAILED,
    "OUT_OF_RANGE": ExitCode.BAD_INPUT,
    "UNIMPLEMENTED": ExitCode.ENGINE_FAILED,
    "INTERNAL": ExitCode.ENGINE_FAILED,
    "UNAVAILABLE": ExitCode.ENGINE_FAILED,
    "DATA_LOSS": ExitCode.ENGINE_FAILED,
    "UNAUTHENTICATED": ExitCode.NO,
}
"""Every gRPC status by name; ALREADY_EXISTS is an idempotency key that came back with another body."""

REMEDIES = {
    "UNAVAILABLE": "is an engine running there? start one with `walras serve`, or name it with --target",
    "DEADLINE_EXCEEDED": "the engine did not answer in time; the outcome of a change is unknown until it is "
    "repeated with the same idempotency key",
    "RESOURCE_EXHAUSTED": "try again later",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What to say and how to exit."""

    exit_code: ExitCode
    lines: tuple[str, ...]
    explanation: cluster_service_pb2.Explanation | None = None
    """Of a refusal: shown as tables below the lines."""


def report(error: Exception) -> ExitCode:
    """Say on stderr what went wrong; the exit code to leave with."""
    failure = failure_of(error)
    console = remarks()
    for line in failure.lines:
        console.print(line, soft_wrap=True)
    if failure.explanation is not None:
        from engine.cli.explanation_view import show_reasons

        show_reasons(console, failure.explanation)
    if os.environ.get("WALRAS_DEBUG"):
        console.print("".join(traceback.format_exception(error)), soft_wrap=True)
    return failure.exit_code


def failure_of(error: Exception) -> Failure:
    """The failure an error means."""
    import grpc

    from engine.domain.errors import WalrasError

    if isinstance(error, grpc.RpcError):
        return _call_failure(error)
    if isinstance(error, WalrasError):
        return _own_failure(error)
    if isinstance(error, OSError) and error.filename is not None:
        return Failure(ExitCode.BAD_INPUT, (f"{error.filename}: {error.strerror or error}",))
    said = str(error).partition("\n")[0]
    line = f"walras failed: {type(error).__name__}: {said} (WALRAS_DEBUG=1 shows where)"
    return Failure(ExitCode.ENGINE_FAILED, (line,))


def leader_named_by(error: Exception) -> str:
    """HOST:PORT of the engine to ask instead, if a follower refused a call with it; else empty."""
    import grpc

    return _StatusDetails.of(error).leader if isinstance(error, grpc.RpcError) else ""


def _own_failure(error: WalrasError) -> Failure:
    from engine.domain.errors import InvalidInput, NotFound, PermissionDenied, QuoteUnusable, Refused

    if isinstance(error, InvalidInput):
        return _bad_input((violation.field, violation.description) for violation in error.violations)
    is_no = isinstance(error, Refused | NotFound | PermissionDenied | QuoteUnusable)
    return Failure(ExitCode.NO if is_no else ExitCode.ENGINE_FAILED, (f"{error.reason}: {error.message}",))


def _bad_input(violations: Iterable[tuple[str, str]]) -> Failure:
    lines = tuple(f"{field}: {description}" for field, description in violations)
    return Failure(ExitCode.BAD_INPUT, ("bad input, nothing was changed:", *(f"  {line}" for line in lines)))


def _call_failure(error: grpc.RpcError) -> Failure:
    code = error.code().name if hasattr(error, "code") else "UNKNOWN"
    said = (error.details() if hasattr(error, "details") else None) or str(error)
    details = _StatusDetails.of(error)
    if details.violations:
        return _bad_input(details.violations)
    exit_code = EXIT_BY_STATUS.get(code, ExitCode.ENGINE_FAILED)
    if exit_code is ExitCode.ENGINE_FAILED:
        return Failure(exit_code, tuple(_engine_failure(code, said, details)))
    verb = "refused" if exit_code is ExitCode.NO else "bad input"
    return Failure(exit_code, (f"{verb}: {details.reason or code}: {said}",), details.explanation)


def _engine_failure(code: str, said: str, details: _StatusDetails) -> Iterable[str]:
    yield f"the engine failed: {details.reason or code}: {said}"
    if details.retry_after_s is not None:
        yield f"it asks to be tried again after {details.retry_after_s:g} s"
    elif code in REMEDIES and not details.reason:
        yield REMEDIES[code]


@dataclass(slots=True)
class _StatusDetails:
    """The google.rpc details of a failed call, as far as they came."""

    reason: str = ""
    leader: str = ""
    violations: tuple[tuple[str, str], ...] = ()
    retry_after_s: float | None = None
    explanation: cluster_service_pb2.Explanation | None = None

    @classmethod
    def of(cls, error: Any) -> _StatusDetails:
        from grpc_status import rpc_status

        found = cls()
        try:
            status = rpc_status.from_call(error)  # type: ignore[no-untyped-call]
        except (ValueError, AttributeError):
            # A call without metadata, or details that contradict its status: what the status says must do.
            status = None
        for detail in status.details if status is not None else ():
            found._read(detail)
        return found

    def _read(self, detail: Any) -> None:
        from google.rpc import error_details_pb2
        from walras.v1 import cluster_service_pb2

        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry, explanation = error_details_pb2.RetryInfo(), cluster_service_pb2.Explanation()
        if detail.Unpack(info):
            self.reason, self.leader = info.reason, info.metadata.get("leader", "")
        elif detail.Unpack(bad):
            self.violations = tuple((each.field, each.description) for each in bad.field_violations)
        elif detail.Unpack(retry):
            self.retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
        elif detail.Unpack(explanation):
            self.explanation = explanation
