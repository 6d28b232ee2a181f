"""Joint planning, and the server under pressure; everything temporary is removed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from benchmarks.deploy import Results
from benchmarks.epochs import measure_epochs
from benchmarks.planning import measure_plan
from benchmarks.planning import warm_up as plan_warm_up
from benchmarks.processes import Child, floor_process
from benchmarks.registry import PRESSURE_GPUS, Effort, PlanFamily
from benchmarks.startup import measure_startup
from benchmarks.suite import say
from benchmarks.throughput import measure_batches, measure_flood, measure_overload, measure_throughput
from benchmarks.worlds import requests_for, world_of


def run_plans(families: Sequence[PlanFamily], effort: Effort, data_dir: Path | None) -> Results:
    """The flat results of joint planning. Families of the real world are left out without `data_dir`."""
    results: Results = {}
    plan_warm_up()
    for family in families:
        if family.world == "real" and data_dir is None:
            continue
        for load in family.loads:
            if load in effort.plan_loads:
                say(f"{family.key(load)}: planning {family.requests:,} requests")
                results |= measure_plan(family, load, data_dir, effort)
    return results


def run_pressure(effort: Effort) -> Results:
    """The oracle's epochs, batches, throughput and overload, each on a server of its own if they are apart."""
    gpus = effort.pressure_fleet
    say(f"pressure on a synthetic world of {gpus:,} GPUs")
    world = world_of("synthetic", gpus, None)
    requests = requests_for(world.fleet, PRESSURE_GPUS, {})
    with tempfile.TemporaryDirectory(prefix="walras-bench-") as place, ExitStack() as kept:
        data_dir = Path(place) / "data"
        measure_startup(world, data_dir, 0)

        @contextmanager
        def new_server() -> Iterator[Child]:
            with tempfile.TemporaryDirectory(dir=place) as own:
                shutil.copytree(data_dir, own, dirs_exist_ok=True)
                with floor_process(Path(own), "--epochs-asked") as child:
                    yield child

        server: Callable[[], AbstractContextManager[Child]] = new_server
        if not effort.servers_apart:
            shared = kept.enter_context(new_server())
            server = partial(nullcontext, shared)
        with server() as child:
            results = measure_epochs(child, world.fleet, requests, effort)
        results |= measure_batches(server, requests, effort)
        with server() as child:
            found, peak = measure_throughput(child, requests, effort)
        with server() as child:
            found |= measure_overload(child, requests, effort, peak)
        with server() as child:
            return results | found | measure_flood(child, requests, effort)
