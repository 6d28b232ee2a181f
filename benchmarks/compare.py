"""`python -m benchmarks.compare REVISION`: what the present code changed, measured in turns with the revision.

The revision is checked out beside this one (git worktree) and runs its own engine with this benchmark's own deploy
family; base and head take turns, so what disturbs the machine disturbs both. A figure is named when the medians of
its turns differ by more than CHANGE and by more than the turns of either side differ among themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.processes import ROOT
from benchmarks.statistics import p50

CHANGE = 0.10
TURNS = 5
RUN = (
    "import json;"
    "from benchmarks.registry import FAMILIES, TURN;"
    "from benchmarks.suite import run;"
    "print(json.dumps(run(FAMILIES[:1], TURN, None)))"
)
"""What one turn does, in a process whose working directory is the revision's."""
COMPILE = "from solvers.warmup import warm_up; warm_up()"
QUANTITIES = ("decision_us_p50", "decision_ms_p50", "call_ms_p50", "ready_s", "load_s", "peak_rss_mb")


class Change(NamedTuple):
    """One figure of both sides: medians, and the larger range of one side's turns over its median."""

    key: str
    base: float
    head: float
    spread: float

    @property
    def share(self) -> float:
        """Head over base, less 1: above 0 is slower or larger."""
        return self.head / self.base - 1

    @property
    def counts(self) -> bool:
        """Whether it is beyond CHANGE and beyond the spread."""
        return abs(self.share) > max(CHANGE, self.spread)


def main() -> int:
    """Compare; 2 if there is no such revision."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("base", help="a git revision")
    parser.add_argument("--turns", type=int, default=TURNS)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the worktree is removed
    with tempfile.TemporaryDirectory(prefix="walras-bench-") as place:
        base = Path(place) / "base"
        added = _git("worktree", "add", "--detach", str(base), given.base)
        if added.returncode:
            print(added.stderr, file=sys.stderr)
            return 2
        try:
            shutil.copytree(ROOT / "benchmarks", base / "benchmarks", dirs_exist_ok=True)
            for side in (base, ROOT):
                _run(side, COMPILE)  # else the base's first start compiles every kernel and is called slow
            turns = [(_measured(base), _measured(ROOT)) for _ in range(given.turns)]
        finally:
            _git("worktree", "remove", "--force", str(base))
    print(told(changes([turn[0] for turn in turns], [turn[1] for turn in turns])))
    return 0


def changes(base: Sequence[Mapping[str, float]], head: Sequence[Mapping[str, float]]) -> list[Change]:
    """Every figure that all turns of both sides have."""
    keys = set.intersection(*(set(turn) for turn in (*base, *head)))
    return [
        Change(
            key,
            p50([turn[key] for turn in base]),
            p50([turn[key] for turn in head]),
            max(_spread([turn[key] for turn in side]) for side in (base, head)),
        )
        for key in sorted(keys)
        if key.rpartition(".")[2].partition("@")[0] in QUANTITIES
    ]


def told(found: Sequence[Change]) -> str:
    """Each change that counts, largest first; and how many do not."""
    named = sorted((each for each in found if each.counts), key=lambda each: -abs(each.share))
    lines = [
        f"{each.key}: {each.base:.4g} -> {each.head:.4g} ({each.share:+.1%}, spread {each.spread:.1%})"
        for each in named
    ]
    return "\n".join(
        [*lines, f"{len(found) - len(named)} of {len(found)} figures are within 10 % or their spread"]
    )


def _spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / p50(values)


def _measured(place: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads(_run(place, RUN).splitlines()[-1])
    return found


def _run(place: Path, program: str) -> str:
    """What a program prints that runs the code of a revision."""
    paths = {"PYTHONPATH": f"{place}{os.pathsep}{place / 'proto'}"}  # before where this code is installed
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=place,
        env=os.environ | paths,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    return done.stdout


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
