"""Watching leases and orders: every change of a tenant's own since a version, until it is time to end.

A watch reads the bounded history that all share (`market.changes`) at its own pace, so a slow reader costs
nobody anything: when the history has left it behind it is dropped. Changes of one object that wait together are
told once, as the last of them. A message leaves once what it shows is durable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any, TypeVar

from engine.domain.errors import InvalidInput, OutOfRange, Overloaded, Violation
from engine.market.changes import Change
from engine.market.state import MarketState
from engine.service.engine import Engine

WATCH_SHARE = 0.9
"""Of the longest call, after which a watch ends by itself."""
WATCHES_MAX, RETRY_AFTER_S = 1_000, 5.0
LOOKED_AT_MAX, TOLD_MAX = 10_000, 100
"""In one go: changes looked through, and messages made."""
Message = TypeVar("Message")
MessageOf = Callable[[MarketState, int, str | None], Message]
"""(state, version, id of the object or None) → a message; without an object where it is gone, or for None."""


class Watches:
    """All watches of an engine, bounded in number and time. They wake when something of their tenant changed."""

    def __init__(self, engine: Engine, longest_s: float) -> None:
        self._engine, self._longest_s = engine, WATCH_SHARE * longest_s
        self._bells: dict[str, asyncio.Event] = {}
        self._open, self._rung, self._closed = 0, engine.state.version, False
        engine.listeners.append(self._ring)

    async def run(
        self,
        wanted: tuple[str, str],
        after_version: int | None,
        remaining_s: float | None,
        message_of: MessageOf[Message],
    ) -> AsyncGenerator[Message, None]:
        """The messages of one watch of (tenant, LEASE or ORDER), first and last the version alone.

        OutOfRange if history does not reach back to `after_version`, Overloaded if there are too many watches or
        this one is too slow. `remaining_s`: of the caller's deadline.
        """
        if self._open >= WATCHES_MAX:
            raise Overloaded(f"{WATCHES_MAX:,} watches are open already", RETRY_AFTER_S)
        ends_s = time.monotonic() + min(self._longest_s, WATCH_SHARE * (remaining_s or self._longest_s))
        seen = await self._engine.read(lambda state: _begin(state, after_version))
        self._open += 1
        try:
            yield message_of(self._engine.state, seen, None)
            while not self._closed:
                bell = self._bells.setdefault(wanted[0], asyncio.Event())
                found, seen = _next(self._engine.state, seen, wanted)
                if found:
                    for message in await self._engine.read(partial(_told, found, message_of)):
                        yield message
                elif seen < self._engine.state.version:
                    await asyncio.sleep(0)
                elif not await _rings(bell, ends_s):
                    break
            last = await self._engine.read(partial(_reached, seen, wanted))
            yield message_of(self._engine.state, last, None)
        finally:
            self._open -= 1

    def close(self) -> None:
        """End all watches."""
        self._closed = True
        self._wake(list(self._bells))

    def _ring(self) -> None:
        state = self._engine.state
        if self._bells:
            since = max(self._rung, state.changes.complete_from)
            self._wake([change.tenant_id for change in state.changes.after(since, LOOKED_AT_MAX)])
        self._rung = state.version

    def _wake(self, tenants: list[str]) -> None:
        for tenant in tenants:
            bell = self._bells.pop(tenant, None)
            if bell is not None:
                bell.set()


def watched_from(request: Any) -> int | None:
    """The version that a watch begins after; None for now."""
    if not request.HasField("after_version"):
        return None
    if request.after_version < 0:
        raise InvalidInput([Violation("after_version", f"must not be negative, got {request.after_version}")])
    return int(request.after_version)


def _begin(state: MarketState, after_version: int | None) -> int:
    if after_version is None:
        return state.version
    if not state.changes.complete_from <= after_version <= state.version:
        raise OutOfRange(
            f"changes are kept from version {state.changes.complete_from} to {state.version}; list again",
            oldest_version=str(state.changes.complete_from),
        )
    return after_version


def _next(state: MarketState, seen: int, wanted: tuple[str, str]) -> tuple[list[Change], int]:
    """The next own changes after a version, the last of each object, and the version they reach."""
    if seen < state.changes.complete_from:
        raise Overloaded("the reader of this watch is too slow; list again", RETRY_AFTER_S)
    looked_at, own = state.changes.after(seen, LOOKED_AT_MAX), dict[str, Change]()
    for change in looked_at:
        if (change.tenant_id, change.kind) == wanted:
            own.pop(change.subject, None)
            own[change.subject] = change
            if len(own) >= TOLD_MAX:
                return list(own.values()), change.version
    reached = looked_at[-1].version if len(looked_at) == LOOKED_AT_MAX else state.version
    return list(own.values()), reached


def _reached(seen: int, wanted: tuple[str, str], state: MarketState) -> int:
    """The last version before the next own change, so that a resumed watch need not look through the others'."""
    if seen < state.changes.complete_from:
        return seen
    own, version = _next(state, seen, wanted)
    return seen if own else version


def _told(changes: list[Change], message_of: MessageOf[Message], state: MarketState) -> list[Message]:
    return [message_of(state, change.version, change.subject) for change in changes]


async def _rings(bell: asyncio.Event, ends_s: float) -> bool:
    """Whether a bell rings before the end."""
    try:
        await asyncio.wait_for(bell.wait(), max(0.0, ends_s - time.monotonic()))
    except TimeoutError:
        return False
    return True
