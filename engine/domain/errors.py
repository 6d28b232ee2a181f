"""The one tree of errors. `engine.service.status` maps every leaf to a gRPC status (total, by test).

WalrasError
├── InvalidInput          the caller's fault; lists every violation
├── Unauthenticated       no verified identity
├── PermissionDenied      a verified caller whose role may not do this at all
├── NotFound              absent, or not the caller's: the two are never told apart
├── IdempotencyConflict   a key came back with a different body
├── Refused               the answer is no: typed reasons and an explanation
├── InsufficientFunds     the tenant's balance does not cover it; says how much is missing
├── QuoteUnusable         the quote expired, was used, or what it promised is gone
├── OutOfRange            a stream cannot go on from where it was told to; list again
├── Overloaded            try again after `retry_after_s`
├── Unavailable           the engine cannot promise durability now
├── NotLeader             another engine writes; nothing was done, ask that one
├── AuditFailed           a placement of our own broke a rule; nothing was changed
└── CorruptJournal        (engine.journal) what is on disk is not what was written
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with an input.

    `field` is the path a caller can find it by: `gpu_models[1]`, `fleet.parquet row 17 column gpu_free`.
    """

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}"


class WalrasError(Exception):
    """Root of the tree. `reason` is an UPPER_SNAKE code of low cardinality (AIP-193)."""

    reason = "INTERNAL"

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata

    def __reduce__(self) -> tuple[Any, ...]:
        """What is raised in another process arrives whole, whatever its class takes to be made."""
        return _made_again, (type(self), self.args, self.__dict__)


def _made_again(kind: type[WalrasError], args: tuple[object, ...], state: dict[str, object]) -> WalrasError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class InvalidInput(WalrasError):
    """Bad input; nothing was changed. Carries every violation found, never only the first."""

    reason = "INVALID_INPUT"

    def __init__(self, violations: Iterable[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(map(str, self.violations)))

    def within(self, prefix: str) -> InvalidInput:
        """The same, with fields named inside an enclosing message."""
        return InvalidInput(Violation(prefix + each.field, each.description) for each in self.violations)


class Unauthenticated(WalrasError):
    """The call carries no credential that can be verified."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(WalrasError):
    """The caller's role does not permit this call, whatever object it names."""

    reason = "PERMISSION_DENIED"


class NotFound(WalrasError):
    """No such object, or none that the caller may know of."""

    reason = "NOT_FOUND"


class IdempotencyConflict(WalrasError):
    """An idempotency key was used before with another request body."""

    reason = "IDEMPOTENCY_KEY_REUSED"


class Refused(WalrasError):
    """The request is valid and cannot be served; `reason` says which constraint is in the way."""

    def __init__(self, reason: str, message: str, **metadata: str) -> None:
        super().__init__(message, **metadata)
        self.reason = reason


class InsufficientFunds(WalrasError):
    """The tenant must deposit first; the metadata names what is needed, available and missing."""

    reason = "INSUFFICIENT_FUNDS"


class QuoteUnusable(WalrasError):
    """The quote cannot be turned into a lease any more."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class OutOfRange(WalrasError):
    """A version that the kept history does not reach; whoever follows must list again."""

    reason = "VERSION_OUT_OF_RANGE"


class Overloaded(WalrasError):
    """Too much at once; nothing was done."""

    reason = "OVERLOADED"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(WalrasError):
    """The journal cannot be written, or the engine is starting or draining."""

    reason = "UNAVAILABLE"


class NotLeader(WalrasError):
    """This engine follows another one and changes nothing. `address`: HOST:PORT of that one, empty if unknown."""

    reason = "NOT_LEADER"

    def __init__(self, message: str, address: str) -> None:
        super().__init__(message, **({"leader": address} if address else {}))
        self.address = address


class AuditFailed(WalrasError):
    """The engine's own placement did not pass the independent check: a bug, caught before it did harm."""

    reason = "AUDIT_FAILED"
