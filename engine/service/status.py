"""From the error tree to gRPC statuses with `google.rpc` details (AIP-193). Total, by test.

Details travel in the trailing metadata, which receivers limit to 8 KiB by default; long lists are cut to fit and
say by how much.
"""

from __future__ import annotations

from urllib.parse import quote

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from engine.domain.errors import (
    AuditFailed,
    IdempotencyConflict,
    InsufficientFunds,
    InvalidInput,
    NotFound,
    NotLeader,
    OutOfRange,
    Overloaded,
    PermissionDenied,
    QuoteUnusable,
    Refused,
    Unauthenticated,
    Unavailable,
    Violation,
    WalrasError,
)
from engine.journal import CorruptJournal

DOMAIN = "walras"
DETAILS_METADATA = "grpc-status-details-bin"
VIOLATIONS_BYTES_MAX = 4_000
MESSAGE_BYTES_MAX = 1_000
TEXT_BYTES_MAX = 300

CODES: dict[type[WalrasError], grpc.StatusCode] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    NotFound: grpc.StatusCode.NOT_FOUND,
    IdempotencyConflict: grpc.StatusCode.ALREADY_EXISTS,
    Refused: grpc.StatusCode.FAILED_PRECONDITION,
    InsufficientFunds: grpc.StatusCode.FAILED_PRECONDITION,
    QuoteUnusable: grpc.StatusCode.FAILED_PRECONDITION,
    OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    NotLeader: grpc.StatusCode.UNAVAILABLE,
    AuditFailed: grpc.StatusCode.INTERNAL,
    CorruptJournal: grpc.StatusCode.DATA_LOSS,
}


def status_of(error: WalrasError, *extra: Message) -> tuple[grpc.StatusCode, str, bytes]:
    """(code, message, serialised google.rpc.Status) of an error; `extra` are further details."""
    code = CODES[type(error)]
    message = cut_message(error)
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    ]
    if isinstance(error, InvalidInput):
        details.append(listed_violations(error.violations))
    if isinstance(error, Overloaded):
        nanos = round(error.retry_after_s * 1e9)
        delay = duration_pb2.Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    details.extend(extra)
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return code, message, status.SerializeToString()


def listed_violations(violations: tuple[Violation, ...]) -> error_details_pb2.BadRequest:
    """The violations, as many as fit into VIOLATIONS_BYTES_MAX, and how many more there are."""
    listed = error_details_pb2.BadRequest()
    for index, violation in enumerate(violations):
        field = _cut(violation.field, TEXT_BYTES_MAX)
        description = _cut(violation.description, TEXT_BYTES_MAX)
        if listed.ByteSize() + len((field + description).encode()) > VIOLATIONS_BYTES_MAX:
            rest = len(violations) - index
            listed.field_violations.add(field="...", description=f"and {rest} more violations")
            break
        listed.field_violations.add(field=field, description=description)
    return listed


def cut_message(error: WalrasError) -> str:
    """The error's sentence, in at most MESSAGE_BYTES_MAX."""
    return _cut(error.message, MESSAGE_BYTES_MAX)


def _cut(text: str, bytes_max: int) -> str:
    """The text, shortened so that it is sent in at most so many bytes (gRPC percent-encodes what is not ASCII)."""
    if len(quote(text, safe=_PLAIN)) <= bytes_max:
        return text
    while len(quote(text, safe=_PLAIN)) > bytes_max - 3:
        text = text[: len(text) * 7 // 8]
    return text + "..."


_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
