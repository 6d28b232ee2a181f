"""`python -m benchmarks.flames`: flame graphs of the deploy path and of planning, by py-spy (extra `dev`).

The deploy path is a server under four clients; planning is `walras plan` on the standard instance. Both run as
children of py-spy, which needs no rights beyond ours for that. Compiled kernels show as the call that enters them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import instances
from benchmarks.calls import TENANT
from benchmarks.pressure import Pressure
from benchmarks.processes import LISTENING, ROOT
from benchmarks.registry import PRESSURE_DEADLINE_S, PRESSURE_GPUS
from benchmarks.worlds import requests_for, world_of
from engine.cli.connection import Connection
from engine.cli.fleet_load import Inventory, load_inventory

CLIENTS, SECONDS = 4, 10.0
STOP_TIMEOUT_S = 60.0


def main() -> None:
    """Write deploy.svg and plan.svg."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flames", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "figures")
    parser.add_argument("--gpus", type=int, default=1_000_000)
    parser.add_argument("--nodes", type=int, default=instances.NODES)
    parser.add_argument("--requests", type=int, default=instances.REQUESTS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="walras-bench-") as place:
        deploy_flames(given.out / "flames-deploy.svg", Path(place), given.gpus)
        plan_flames(given.out / "flames-plan.svg", Path(place), given.requests, given.nodes)
    print(f"wrote flames-deploy.svg and flames-plan.svg to {given.out}", file=sys.stderr)


def deploy_flames(svg: Path, place: Path, gpus: int) -> None:
    """Sample a server while clients deploy; start and load are in the picture, too, at their share of the time."""
    world = world_of("synthetic", gpus, None)
    command = ["engine.cli", "serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir", str(place / "data")]
    server = subprocess.Popen(
        _sampled(svg, command), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        target = _target(server)
        load_inventory(Connection(target, TENANT), Inventory(world.fleet, world.rtt))
        requests = requests_for(world.fleet, PRESSURE_GPUS, {})
        Pressure(target, requests, PRESSURE_DEADLINE_S).closed(CLIENTS, SECONDS)
    finally:
        for child in _children(server.pid):
            subprocess.run(["kill", "-TERM", str(child)], check=False)
        server.wait(STOP_TIMEOUT_S)


def plan_flames(svg: Path, place: Path, requests: int, nodes: int) -> None:
    """Sample `walras plan` on the standard instance at load 0.9, all threads."""
    paths = instances.write(instances.standard(0.9, requests, nodes), place / "instance")
    files = {"fleet": paths.fleet, "rtt": paths.rtt, "requests": paths.requests, "out": place / "plan"}
    options = [text for name, path in files.items() for text in (f"--{name}", str(path))]
    subprocess.run(
        _sampled(svg, ["engine.cli", "plan", *options]), cwd=ROOT, check=True, capture_output=True, text=True
    )


def _sampled(svg: Path, command: list[str]) -> list[str]:
    spy = Path(sys.executable).with_name("py-spy")
    return [str(spy), "record", "--output", str(svg), "--threads", "--", sys.executable, "-m", *command]


def _target(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    for line in server.stdout:
        if line.startswith(LISTENING):
            return line.removeprefix(LISTENING).strip()
    raise RuntimeError("the server did not start; is py-spy installed?")


def _children(pid: int) -> list[int]:
    time.sleep(0.1)
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


if __name__ == "__main__":
    main()
