"""Many seeds on all cores, and the hunt for planted bugs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import nullcontext, suppress
from multiprocessing.pool import Pool

from tests.simulation.base import base
from tests.simulation.bugs import BUGS
from tests.simulation.life import OPERATIONS, Report, run

BUG_SEEDS = 500
CHUNK = 8
TOLD_SEEDS = 1_000
"""Progress is told at least as often."""


def replaying(seed: int, operations: int = OPERATIONS, bug: str = "") -> str:
    """The command that replays a seed."""
    more = f" --operations {operations}" if operations != OPERATIONS else ""
    return f"python -m tests.simulation --seed {seed}{more}" + (f' --bug "{bug}"' if bug else "")


def replay(seed: int, operations: int, bug: str) -> int:
    """One seed, told in full."""
    base()
    with BUGS[bug]() if bug else nullcontext():
        report = run(seed, operations)
    print(
        f"seed {seed}: {report.events} events in {report.lived_s:.0f} simulated seconds, journal {report.digest}"
    )
    print(_listed("operations", report.operations), _listed("answers", report.outcomes), sep="\n")
    print(_listed("faults", report.faults))
    for told in report.violations:
        print(f"VIOLATED {told}")
    return 1 if report.violations else 0


def _processes(count: int) -> Pool:
    """Workers that end with this process, whatever ends it; used with `with`."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    return multiprocessing.get_context("spawn").Pool(count, _end_with_parent)


def _end_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _one(task: tuple[int, int]) -> Report:
    return run(*task)


def many(first: int, seeds: int, operations: int, processes: int) -> int:
    """So many seeds on all cores, with progress; 1 if any violates a law."""
    tasks = ((seed, operations) for seed in range(first, first + seeds))
    total, failed, began_s, done = Report(0), list[Report](), time.monotonic(), 0
    with suppress(KeyboardInterrupt, SystemExit), _processes(processes) as pool:  # what was done is told
        for done, report in enumerate(pool.imap_unordered(_one, tasks, chunksize=CHUNK), 1):
            total.operations += report.operations
            total.outcomes += report.outcomes
            total.faults += report.faults
            total.events += report.events
            total.lived_s += report.lived_s
            if report.violations:
                failed.append(report)
                print(
                    f"seed {report.seed}: {report.violations[0]}\n  {replaying(report.seed, operations)}",
                    flush=True,
                )
            if done % min(max(1, seeds // 20), TOLD_SEEDS) == 0:
                took_s = time.monotonic() - began_s
                print(f"  {done:,} of {seeds:,} seeds, {took_s:,.0f} s", file=sys.stderr, flush=True)
    print(_listed("operations", total.operations), _listed("answers", total.outcomes), sep="\n")
    print(_listed("faults injected", total.faults))
    print(
        f"{done:,} of {seeds:,} seeds, {total.operations.total():,} operations, {total.faults.total():,} faults, "
        f"{total.events:,} events, {total.lived_s / 3_600:.1f} simulated hours in "
        f"{time.monotonic() - began_s:,.0f} s: {len(failed)} seeds violate a law"
    )
    return 1 if failed or done < seeds else 0


def seeds_to_find(bug: str, most: int, first: int = 1) -> tuple[int, str]:
    """(seeds that a planted bug took, what was violated); 0 if it was not found."""
    base()
    with BUGS[bug]():
        for took in range(1, most + 1):
            if (report := run(first + took - 1)).violations:
                return took, report.violations[0]
    return 0, ""


def _hunt(task: tuple[str, int, int]) -> tuple[str, int, str]:
    return task[0], *seeds_to_find(*task)


def bugs(most: int, first: int, processes: int) -> int:
    """Every bug, as a table; 1 if any stays hidden."""
    hidden = 0
    print("| planted bug | seeds | found as |\n| --- | ---: | --- |")
    with _processes(processes) as pool:
        for bug, seeds, told in pool.imap(_hunt, [(bug, most, first) for bug in BUGS]):
            hidden += not seeds
            print(f"| {bug} | {seeds or f'NOT within {most}'} | {told.partition(' (at ')[0][:110]} |", flush=True)
    print(f"\n{len(BUGS) - hidden} of {len(BUGS)} planted bugs found within {most} seeds")
    return 1 if hidden else 0


def _listed(title: str, counted: Counter[str]) -> str:
    return f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in counted.most_common())
