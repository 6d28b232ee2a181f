"""Loading a fleet into `walras serve`, starting it again with the fleet journaled, and the memory of both."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.calls import TENANT
from benchmarks.deploy import Results
from benchmarks.processes import engine_process
from benchmarks.statistics import p50
from engine.cli.connection import Connection
from engine.cli.fleet_load import Inventory, load_inventory
from engine.datasets.real import World


def measure_startup(world: World, data_dir: Path, starts: int) -> Results:
    """Load the world, then start `starts` times; the journal stays in `data_dir`. Peaks are MiB."""
    with engine_process(data_dir) as child:
        started = time.perf_counter()
        load_inventory(Connection(child.target, TENANT), Inventory(world.fleet, world.rtt))
        load_s, load_peak_mb = time.perf_counter() - started, child.peak_rss_mb()
    ready, peaks = [], []
    for _ in range(starts):
        with engine_process(data_dir) as child:
            ready.append(child.ready_s)
            peaks.append(child.peak_rss_mb())
    loaded = {"load_s": load_s, "load_peak_rss_mb": load_peak_mb}
    if not ready:
        return loaded
    return loaded | {
        "ready_s": p50(ready),
        "ready_s_max": max(ready),
        "ready_peak_rss_mb": max(peaks),
    }
