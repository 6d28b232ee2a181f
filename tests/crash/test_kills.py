"""Law 4 by force: 20 random kills here, 500 by `make crash`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.kills import run
from tests.crash.nursery import Nursery
from tests.full_size import size

KILLS = size(10, 50)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_kill_9_at_random_moments(
    kind: str, servers: Nursery, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Law 4: after every kill everything acknowledged is there, and replay and snapshot give the same state."""
    directories = (tmp_path / f"data-{number}" for number in range(KILLS))
    new_place = (lambda: next(directories)) if kind == "sqlite" else request.getfixturevalue("postgres").new_url
    tally = run(KILLS, 7, servers, new_place, tmp_path / "log")
    assert tally.kills == KILLS
    assert tally.snapshots > 0 and tally.unheard > 0, "a blind test"
