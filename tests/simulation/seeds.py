"""What the tests of many seeds have in common: fifty a file, so that two processes share them."""

from __future__ import annotations

from tests.simulation.campaign import replaying
from tests.simulation.life import OPERATIONS, run

SEEDS_A_FILE, FAULTS_MIN = 50, 5


def assert_lives(first: int) -> None:
    """Ten seeds with all their operations and faults, and no law of DESIGN section 7 broken at any step."""
    for seed in range(first, first + 10):
        report = run(seed)
        assert not report.violations, f"{report.violations[0]}\n\n  {replaying(seed)}\n"
        assert report.operations.total() >= OPERATIONS
        assert report.faults.total() >= FAULTS_MIN


def tens(file_number: int) -> range:
    """The first seeds of a file's tens."""
    first = 1 + SEEDS_A_FILE * file_number
    return range(first, first + SEEDS_A_FILE, 10)
