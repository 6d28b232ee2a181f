"""The simulator itself: it repeats a seed byte for byte, and it finds what is planted."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from tests.simulation.bugs import BUGS
from tests.simulation.campaign import seeds_to_find
from tests.simulation.life import Life, run

QUICK = (
    "early acknowledgement",
    "missing idempotency",
    "held GPUs leased again (double lease)",
    "hold given back twice",
    "ledger entry dropped",
    "audit off, with a wrong solver",
)


@pytest.mark.parametrize("seed", [2, 3])
def test_same_seed_same_bytes(seed: int) -> None:
    """Law 10: the same seed gives the same journal, whatever ran before in the process."""
    first, second = run(seed), run(seed)
    assert first.digest == second.digest
    assert first.faults == second.faults


@pytest.mark.parametrize("bug", QUICK)
def test_planted_bug_is_found(bug: str) -> None:
    """A check that cannot fail is none: the quickest bugs here, all of them by `make simulate-bugs`."""
    seeds, told = seeds_to_find(bug, most=10)
    assert seeds, f"{bug} stays hidden for 10 seeds"
    assert told.startswith("law ")


def test_a_life_is_let_go_when_it_is_over() -> None:
    """A hundred thousand must fit: only the last one stays; on one server (2) as on two (3)."""
    for seed in (2, 3, 2):
        run(seed)
    gc.collect()
    gc.collect()  # what the first one woke, coroutines of a life that a planted bug ended, goes with the second
    assert sum(type(each) is Life for each in gc.get_objects()) <= 1


def test_there_are_enough_bugs() -> None:
    """Issue 5: at least 25 planted bugs."""
    assert len(BUGS) >= 25


def test_a_failing_seed_is_replayed_by_one_command() -> None:
    """The command that a failure prints finds the same again, in a process of its own."""
    command = [sys.executable, "-m", "tests.simulation", "--seed", "1", "--bug", "early acknowledgement"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "VIOLATED law 4" in done.stdout
