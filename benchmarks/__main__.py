"""`python -m benchmarks [--data DIR] [--quick]`: measure, write results.json, print the tables."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from benchmarks.registry import FAMILIES, FULL, PLAN_FAMILIES, QUICK
from benchmarks.report import report
from benchmarks.suite import run, run_plans
from engine.cli.world_command import DATA_VARIABLE

RESULTS_FILE = Path(__file__).parent / "results.json"


def main() -> int:
    """Run all families; 2 if the data directory is none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get(DATA_VARIABLE) or None,
        help=f"public data, for the real world (families *_real); else ${DATA_VARIABLE}",
    )
    parser.add_argument(
        "--quick", action="store_true", help="small fleets and few calls: a look, not a measurement"
    )
    given = parser.parse_args()
    if given.data is not None and not given.data.is_dir():
        print(f"{given.data} is not a directory", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that children are stopped
    effort = QUICK if given.quick else FULL
    results = run(FAMILIES, effort, given.data) | run_plans(PLAN_FAMILIES, effort, given.data)
    RESULTS_FILE.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")
    print(report(results, FAMILIES, effort, PLAN_FAMILIES))
    print(f"wrote {RESULTS_FILE}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
