"""Orders and failures at full size: `python -m benchmarks.upkeep [--gpus N] [--orders N]` prints one JSON object.

A synthetic fleet is filled with leases of a drawn queue, then as many orders of another queue wait. Measured are
the first look at all of them, what a freed lease costs, a move of all prices, an epoch of the oracle, and the
loss of 30 % of the nodes at once. Steps are what holds the event loop at a stretch. All times but those of
heartbeats are CPU time, as the machine is shared.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.registry import SEED
from engine.datasets.synthetic import synthetic_fleet, synthetic_requests, synthetic_rtt
from engine.domain.cluster_request import REQUEST_FIELDS, ClusterRequest, parse_cluster_request
from engine.domain.errors import WalrasError
from engine.market import commands
from engine.market.events import LeaseEnded, LeaseMoved, encode
from engine.market.heartbeats import HeartbeatRules, Heartbeats
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.engine import Engine
from engine.service.market_view import ViewMaker, glimpse
from engine.service.options import default_parameters
from engine.service.past_prices import PastPrices
from engine.service.price_book import ReferenceBook
from engine.service.pricing import Seen, priced
from engine.service.references import references_of
from engine.service.upkeep import Upkeep
from solvers.warmup import warm_up

LOAD, FREED, LOST_SHARE = 1.2, 200, 0.3
BEAT_NODES = 4_096
Figures = dict[str, Any]


class Bench:
    """One engine in a temporary directory, its upkeep run step by step under a clock."""

    def __init__(self, data_dir: Path, gpus: int, orders: int) -> None:
        self.engine = Engine(data_dir, ReferenceBook())
        self.fleet = synthetic_fleet(gpus, SEED)
        self.run(commands.LoadFleet(self.fleet, synthetic_rtt(self.fleet, SEED)))
        self.leased = requests_of(synthetic_requests(self.fleet, orders, SEED, LOAD))
        self.waiting = requests_of(synthetic_requests(self.fleet, orders, SEED + 1, LOAD))
        self.upkeep = Upkeep(self.engine, HeartbeatRules())
        self.submitted = 0

    def run(self, command: commands.Command) -> Any:
        """Submit a command; now and then wait for the disk, whose queue is bounded."""
        self.submitted = getattr(self, "submitted", 0) + 1
        if self.submitted % 1_000 == 0:
            self.engine.journal.append([], 0).result(60)
        return self.engine.submit(command, NO_STOPWATCH)[0]

    def settle(self) -> Figures:
        """All the work there is: CPU seconds, steps, and the longest one."""
        cpu_s, longest_ms, steps = time.process_time(), 0.0, 0
        while True:
            begun_s = time.thread_time()
            more = self.upkeep.step()
            longest_ms = max(longest_ms, 1_000 * (time.thread_time() - begun_s))
            if not more:
                break
            steps += 1
            if steps % 100 == 0:
                self.engine.journal.append([], 0).result(60)
        return {
            "cpu_s": round(time.process_time() - cpu_s, 4),
            "steps": steps,
            "longest_cpu_ms": round(longest_ms, 1),
        }

    def deploy_all(self) -> None:
        """Lease what of the first queue can be served."""
        for request in self.leased:
            try:
                self.run(commands.DeployCluster("leasing", request, retry_on_loss_s=86_400))
            except WalrasError:
                continue

    def place_all(self) -> Figures:
        """Let the second queue wait, and look at it for the first time."""
        cpu_s = time.process_time()
        limits = commands.OrderLimits(1_000_000, 1_000_000)
        for number, request in enumerate(self.waiting):
            self.run(commands.PlaceOrder(f"t{number % 100}", request, 86_400, limits=limits))
        placing_s = time.process_time() - cpu_s
        first = self.settle()
        queue, state = self.upkeep.orders.queue, self.engine.state
        return {
            "placing_cpu_s": round(placing_s, 3),
            **first,
            "open": len(state.open_orders),
            "tried": queue.tried,
        }

    def free_one_by_one(self) -> Figures:
        """End leases in a random order: per lease the CPU time, and the orders looked at, woken and tried."""
        state, queue = self.engine.state, self.upkeep.orders.queue
        active = [lease for lease in state.leases.values() if lease.runs and lease.tenant_id == "leasing"]
        chosen = np.random.default_rng(SEED).choice(len(active), min(FREED, len(active)), replace=False)
        rows = []
        for place in chosen.tolist():
            woken, tried, waiting = queue.woken, queue.tried, len(state.open_orders)
            self.run(commands.ReleaseLease("leasing", active[place].lease_id))
            work = self.settle()
            filled = waiting - len(state.open_orders)
            rows.append(
                (1e6 * work["cpu_s"], work["longest_cpu_ms"], queue.woken - woken, queue.tried - tried, filled)
            )
        columns, index = np.array(rows), queue._index
        node = np.array([0])
        return {
            "one_node_us": 1_000 * milliseconds(lambda: index.could_use(index.rows, node)),
            "known_orders": len(index.row_of),
            "cpu_us_p50": float(np.percentile(columns[:, 0], 50)),
            "cpu_us_p99": float(np.percentile(columns[:, 0], 99)),
            "longest_cpu_ms": float(columns[:, 1].max()),
            "woken_mean": float(columns[:, 2].mean()),
            "tried_mean": float(columns[:, 3].mean()),
            "filled": int(columns[:, 4].sum()),
        }

    def move_prices(self) -> Figures:
        """One epoch of the oracle with the orders as demand, published, and the work that it wakes."""
        engine, parameters = self.engine, default_parameters(())
        views, references = ViewMaker(parameters), references_of((), engine.book)
        figures: Figures = {}
        for name in ("first", "next"):
            cpu_s = time.process_time()
            now_us = engine.now_us()
            seen = glimpse(engine.state, now_us, parameters.window_s)
            view, demand = views.view(seen, None)
            named = references(seen.inventory.models.names, now_us)
            moves = PastPrices().moves([], ())
            event = priced(Seen(b"", view, *demand, named, moves, now_us, parameters))
            figures[f"{name}_epoch_cpu_s"] = round(time.process_time() - cpu_s, 2)
        figures["order_bids"] = int(demand.orders.tenant.size)
        assert event is not None
        engine.submit(commands.PublishPrices(event), NO_STOPWATCH)
        return {**figures, "waking": self.settle()}

    def lose(self) -> Figures:
        """30 % of the nodes at once: the event, and the work until every lease is safe or over."""
        state = self.engine.state
        nodes = np.random.default_rng(SEED).permutation(state.inventory.node_ids.size)
        lost = np.sort(nodes[: round(LOST_SHARE * nodes.size)])
        active, before = state.active, time.thread_time()
        none = np.empty(0, dtype=np.int64)
        (event,) = self.run(commands.NoteHeartbeats(none, lost, none))
        event_ms = 1_000 * (time.thread_time() - before)
        ended: dict[str, int] = {"moved": 0, "ended": 0}
        submit = self.engine.submit

        def counted(command: Any, stopwatch: Any) -> Any:
            found = submit(command, stopwatch)
            ended["moved"] += sum(isinstance(each, LeaseMoved) for each in found[0])
            ended["ended"] += sum(isinstance(each, LeaseEnded) for each in found[0])
            return found

        self.engine.submit = counted  # type: ignore[method-assign]
        work = self.settle()
        return {
            "nodes": int(lost.size),
            "leases": active,
            "event_cpu_ms": round(event_ms, 1),
            "event_bytes": len(encode(event)),
            **ended,
            **work,
        }

    def beat(self) -> Figures:
        """A call of 4,096 heartbeats, and a tick over all nodes."""
        inventory = self.engine.state.inventory
        heartbeats, size = Heartbeats(HeartbeatRules()), inventory.node_ids.size
        ids = inventory.node_ids[:BEAT_NODES].tolist()
        runner = self.upkeep.heartbeats
        heartbeats.watch(np.arange(size), size, 1)
        return {
            "call_ms": milliseconds(lambda: runner.beat(ids)),
            "tick_ms": milliseconds(lambda: heartbeats.silent(10**9)),
        }


def milliseconds(work: Callable[[], object]) -> float:
    """The least of ten runs."""
    laps = []
    for _ in range(10):
        begun_s = time.perf_counter()
        work()
        laps.append(time.perf_counter() - begun_s)
    return round(1_000 * min(laps), 3)


def requests_of(frame: pl.DataFrame) -> list[ClusterRequest]:
    """The rows as checked requests."""
    rows = frame.select(name for name in frame.columns if name in REQUEST_FIELDS).iter_rows(named=True)
    return [parse_cluster_request(row) for row in rows]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=1_000_000)
    parser.add_argument("--orders", type=int, default=10_000)
    chosen = parser.parse_args()
    warm_up()
    with tempfile.TemporaryDirectory() as data_dir:
        bench = Bench(Path(data_dir), chosen.gpus, chosen.orders)
        bench.deploy_all()
        figures = {"placing": bench.place_all(), "freed": bench.free_one_by_one(), "prices": bench.move_prices()}
        figures |= {"lost": bench.lose(), "heartbeats": bench.beat()}
        bench.engine.close()
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
