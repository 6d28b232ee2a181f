"""The simulation by command.

usage: python -m tests.simulation [--seeds N] [--first SEED] [--operations N] [--processes N]
       python -m tests.simulation --seed N [--bug NAME]     replays one seed and tells what it finds
       python -m tests.simulation --bugs [--seeds N] [--first SEED]   plants every bug, N seeds at most
"""

from __future__ import annotations

import argparse
import os
import sys

from tests.simulation.bugs import BUGS
from tests.simulation.campaign import BUG_SEEDS, bugs, many, replay
from tests.simulation.life import OPERATIONS


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--bug", default="", choices=["", *BUGS])
    parser.add_argument("--bugs", action="store_true")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--operations", type=int, default=OPERATIONS)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    if given.seed is not None:
        return replay(given.seed, given.operations, given.bug)
    if given.bugs:
        return bugs(given.seeds or BUG_SEEDS, given.first, given.processes)
    return many(given.first, given.seeds or 2_000, given.operations, given.processes)


if __name__ == "__main__":
    sys.exit(main())
