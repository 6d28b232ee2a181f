"""`python -m benchmarks.stronger_bound real|standard|small [--load L]`: how much of the gap is the bound's."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from benchmarks import instances
from benchmarks.planning import instance_of, rows_of
from benchmarks.planning_run import plan_apart
from benchmarks.registry import PLAN_FAMILIES
from benchmarks.stronger_bound.prove import ROWS_MOST, prove
from engine.cli.world_command import DATA_VARIABLE
from engine.planning.encode import encode
from engine.planning.inputs import read_inputs


def main() -> None:
    """Plan an instance, then bound it model by model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stronger_bound", description=__doc__)
    parser.add_argument("instance", choices=[family.world for family in PLAN_FAMILIES])
    parser.add_argument("--load", type=float, default=0.9)
    parser.add_argument("--data", type=Path, default=os.environ.get(DATA_VARIABLE) or None)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of HiGHS for each model")
    parser.add_argument("--pairs", type=int, default=100_000, help="models with more pairs keep their share of D")
    parser.add_argument("--leaves", type=int, default=0, help="of branch and bound, for each larger model")
    parser.add_argument("--rows", type=int, default=ROWS_MOST, help="models with more rows are not branched on")
    given = parser.parse_args()
    family = next(family for family in PLAN_FAMILIES if family.world == given.instance)
    with tempfile.TemporaryDirectory(prefix="walras-bench-") as place:
        paths = instances.write(instance_of(family, given.load, given.data), Path(place))
        plan_apart(paths, Path(place) / "plan")
        encoded = encode(read_inputs(paths), 0, 0)
        placed = rows_of(encoded, Path(place) / "plan")
    print(prove(encoded.problem, placed, given.limit, given.pairs, given.leaves, given.rows).table())


if __name__ == "__main__":
    main()
