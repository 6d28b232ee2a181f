"""`python -m benchmarks [FAMILY ...]`: measure, write results.json and RESULTS.md, print the tables."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from benchmarks.day import measure_day
from benchmarks.deploy import Results
from benchmarks.growth import exponents
from benchmarks.other_suites import run_plans, run_pressure
from benchmarks.registry import DAY_HOURS, FAMILIES, FULL, PLAN_FAMILIES, QUICK, TWO_HOURS, Effort
from benchmarks.report import report
from benchmarks.results_page import provenance, write_page
from benchmarks.suite import run
from engine.cli.world_command import DATA_VARIABLE

HERE = Path(__file__).parent
RESULTS_FILE = HERE / "results.json"
RUNS_FILE = "runs.json"
"""Where each kind was measured: figures that are kept keep their machine and commit."""
KINDS = ("deploy", "pressure", "plan", "trace", "day")
USUAL = KINDS[:-1]


def main() -> int:
    """Run what is asked for, all but the whole day if nothing is; 2 if the data directory is none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; the rest is kept")
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get(DATA_VARIABLE) or None,
        help=f"public data, for the real world (families *_real, trace); else ${DATA_VARIABLE}",
    )
    parser.add_argument(
        "--quick", action="store_true", help="small fleets and few calls: a look, not a measurement"
    )
    parser.add_argument(
        "--out", type=Path, default=HERE, metavar="DIR", help="where results.json and RESULTS.md go"
    )
    given = parser.parse_args()
    unknown = sorted(set(given.kinds) - set(KINDS))
    if unknown:
        parser.error(f"no such kind: {', '.join(unknown)}")
    if given.data is not None and not given.data.is_dir():
        print(f"{given.data} is not a directory", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that children are stopped
    effort = QUICK if given.quick else FULL
    results_file = given.out / RESULTS_FILE.name
    runs_file = given.out / RUNS_FILE
    results: Results = json.loads(results_file.read_text()) if given.kinds and results_file.exists() else {}
    runs: dict[str, str] = json.loads(runs_file.read_text()) if given.kinds and runs_file.exists() else {}
    for kind in given.kinds or USUAL:
        results |= _measured(kind, effort, given.data)
        runs[kind] = provenance(effort)
    runs_file.write_text(json.dumps(runs, indent=1) + "\n")
    results |= exponents(results)
    results_file.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")
    write_page(results, effort, runs, given.out)
    print(report(results, FAMILIES, effort, PLAN_FAMILIES))
    print(f"wrote {results_file} and RESULTS.md beside it", file=sys.stderr)
    return 0


def _measured(kind: str, effort: Effort, data_dir: Path | None) -> Results:
    if kind == "deploy":
        return run(FAMILIES, effort, data_dir)
    if kind == "pressure":
        return run_pressure(effort)
    if kind == "plan":
        return run_plans(PLAN_FAMILIES, effort, data_dir)
    return measure_day(DAY_HOURS if kind == "day" else TWO_HOURS, effort, data_dir) if data_dir else {}


if __name__ == "__main__":
    sys.exit(main())
