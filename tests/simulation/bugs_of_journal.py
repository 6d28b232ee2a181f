"""Planted bugs of replies, journal, leadership and restoring."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from unittest.mock import patch

from sqlalchemy.exc import OperationalError

from engine.journal.chain import Head
from engine.journal.durability import Durability
from engine.journal.leadership import Leadership
from engine.journal.pen import Pen
from engine.journal.schema import HEAD
from engine.journal.writer import Writer
from engine.service.engine import Engine
from tests.simulation.planting import bug, instead


@bug("early acknowledgement")
def _() -> Any:
    return patch.object(Durability, "_settled", lambda self, sequence: True)


@bug("refusal or read told before what it shows is durable")
def _() -> Any:
    async def at_once(engine: Engine) -> None:
        pass

    return patch.object(Engine, "settled", at_once)


@bug("commit that ended in an error taken for done")
def _() -> Any:
    def append(right: Any, pen: Pen, *given: Any) -> None:
        with suppress(OperationalError):
            right(pen, *given)

    return instead(Pen, "append", append)


@bug("batch committed row by row (split gang after a crash)")
def _() -> Any:
    def append(right: Any, pen: Pen, old: Head, new: Head, rows: Any) -> None:
        for row in rows:
            head = Head(row["sequence"], row["hash"])
            right(pen, old, head, [row])
            old = head

    return instead(Pen, "append", append)


@bug("batch journaled in another order than applied")
def _() -> Any:
    return instead(Writer, "submit", lambda right, self, events, at_us: right(self, list(reversed(events)), at_us))


@bug("stale leader writes (no fence)")
def _() -> Any:
    def write(right: Any, pen: Pen, *given: Any) -> None:
        with pen._engine.begin() as connection:
            pen._epoch = connection.execute(HEAD.select()).one().epoch
        right(pen, *given)

    return instead(Pen, "_write", write)


@bug("paused leader answers when it resumes (no lease)")
def _() -> Any:
    return patch.object(Leadership, "is_held", property(lambda self: True))


@bug("deposed leader keeps what never became durable")
def _() -> Any:
    def follow(right: Any, engine: Engine, journal: Any, restored: Any) -> None:
        restored.state = engine.state
        right(engine, journal, restored)

    return instead(Engine, "follow", follow)


@bug("clock that may go back")
def _() -> Any:
    def now_us(engine: Engine) -> int:
        engine._last_us = engine._clock_us()
        return engine._last_us

    return patch.object(Engine, "now_us", now_us)
