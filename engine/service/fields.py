"""Reading the small fields that many methods share: names, pages, keys."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message

from engine.domain.cluster_request import text_problem
from engine.domain.errors import InvalidInput, Violation
from engine.market.events import Key

Value = TypeVar("Value")
PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX = 100, 1_000


class Checks:
    """Runs several checks of one call and raises all their violations together."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def read(self, check: Callable[..., Value], *arguments: Any) -> Value | None:
        """What the check returns; None, and its violations noted, if it finds any."""
        try:
            return check(*arguments)
        except InvalidInput as error:
            self._violations.extend(error.violations)
            return None

    async def read_in_thread(self, check: Callable[..., Value], *arguments: Any) -> Value | None:
        """The same, for a check that would hold up the event loop."""
        try:
            return await asyncio.to_thread(check, *arguments)
        except InvalidInput as error:
            self._violations.extend(error.violations)
            return None

    def wrong(self, field: str, description: str) -> None:
        """Note a violation that no check raised."""
        self._violations.append(Violation(field, description))

    def done(self) -> None:
        """Raise InvalidInput if any check found something."""
        if self._violations:
            raise InvalidInput(self._violations)


def resource_id(name: str, collection: str, field: str = "name") -> str:
    """The id in `collection/{id}`."""
    prefix, _, identifier = name.partition("/")
    if prefix != collection or text_problem(identifier):
        raise InvalidInput([Violation(field, f"must be {collection}/{{id}}, got {name[:60]!r}")])
    return identifier


def bounded(value: int, field: str, low: int, high: int) -> int:
    """A whole number within limits."""
    if not low <= value <= high:
        raise InvalidInput([Violation(field, f"must be between {low:,} and {high:,}, got {value}")])
    return int(value)


def page_size(requested: int) -> int:
    """The size of a page: 100 if not given, at most 1,000."""
    if requested < 0:
        raise InvalidInput([Violation("page_size", f"must not be negative, got {requested}")])
    return min(requested or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def page_token(last: str) -> str:
    """An opaque token for the page after the item `last`."""
    return base64.urlsafe_b64encode(last.encode()).decode()


def page_start(token: str) -> str:
    """The item that the page before ended with; empty for the first page."""
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidInput([Violation("page_token", "is not a token of this engine")]) from None


def first_row(token: str) -> int:
    """The row that a page begins with."""
    text = page_start(token) or "0"
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise InvalidInput([Violation("page_token", "is not a token of this engine")])
    return int(text)


def idempotency_key(tenant_id: str, method: str, request: Any) -> Key | None:
    """The call's key with a hash of its body, None if the caller gave none."""
    if not request.idempotency_key:
        return None
    body = type(request)()
    body.CopyFrom(request)
    body.ClearField("idempotency_key")
    return key_of(tenant_id, method, request.idempotency_key, body_hash(body))


def key_of(tenant_id: str, method: str, key: str, hashed_body: bytes) -> Key:
    """A checked idempotency key."""
    if problem := text_problem(key):
        raise InvalidInput([Violation("idempotency_key", problem)])
    return Key(tenant_id, method, key, hashed_body)


def body_hash(body: Message) -> bytes:
    """SHA-256 of a message's canonical bytes."""
    return hashlib.sha256(body.SerializeToString(deterministic=True)).digest()
