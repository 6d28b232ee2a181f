"""Errors between processes: workers raise them, and who asked must see all of it."""

from __future__ import annotations

import pickle

import pytest

from engine.domain.errors import InvalidInput, NotLeader, Overloaded, Refused, Violation, WalrasError
from engine.journal.errors import CorruptJournal


@pytest.mark.parametrize(
    "error",
    [
        InvalidInput([Violation("fleet row 3", "is odd"), Violation("rtt", "is absent")]),
        Refused("NO_CAPACITY", "nothing is left", nodes="3"),
        Overloaded("too much", 0.25),
        NotLeader("ask another", "host:1"),
        CorruptJournal(7, "its hash differs"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_arrives_whole(error: WalrasError) -> None:
    """Law: class, message and everything it carries survive pickling."""
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error) and str(arrived) == str(error)
    assert arrived.args == error.args and vars(arrived) == vars(error)
