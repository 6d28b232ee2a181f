"""`walras plan` in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT
from engine.planning.inputs import InputPaths


def plan_apart(paths: InputPaths, out: Path, last: Path | None = None) -> dict[str, Any]:
    """Run `walras plan`, from the plan in `last` if given; its report, with `wall_s` of the whole process."""
    files = {"fleet": paths.fleet, "rtt": paths.rtt, "requests": paths.requests, "out": out, "last": last}
    given = {name: path for name, path in files.items() if path is not None}
    options = [text for name, path in given.items() for text in (f"--{name}", str(path))]
    started = time.perf_counter()
    command = [sys.executable, "-m", "engine.cli", "plan", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    wall_s = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"walras plan ended with {done.returncode}: {done.stderr[-2_000:]}")
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return {**report, "wall_s": wall_s}
