"""Deploys beside an epoch of the oracle, and without one: one server, in turns, while EPOCH_ORDERS orders wait.

The orders are placed by calls before the clock starts (standing.py). A turn with an epoch lasts until it is
published, interruptible work is settled, and every order that its prices woke has been looked at; calls that end
later do not count. The turn without one is as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import polars as pl
from walras.v1 import cluster_service_pb2 as pb

from benchmarks.calls import TENANT
from benchmarks.deploy import Results
from benchmarks.floor import FLOOR_SERVICE
from benchmarks.pressure import Pressure
from benchmarks.processes import Child
from benchmarks.registry import EPOCH_CLIENTS, EPOCHS, PRESSURE_DEADLINE_S, Effort
from benchmarks.standing import StandingOrders
from benchmarks.statistics import p50, p99
from engine.cli.connection import CALL_TIMEOUT_S, Connection
from engine.domain.cluster_request import ClusterRequest


def measure_epochs(
    child: Child, fleet: pl.DataFrame, requests: Sequence[ClusterRequest], effort: Effort
) -> Results:
    """Seconds of an epoch, and the p99 of deploys beside it over that of deploys without."""
    orders = StandingOrders(child.target, effort.epoch_orders)
    orders.place(fleet)
    pressure = Pressure(child.target, requests, PRESSURE_DEADLINE_S)
    first_s, _ = epoch_of(child)  # lists the fleet, and has every order before it for the first time
    _, whole_s = epoch_of(child)
    found: Results = {"epoch.first_s": first_s, "epoch.orders_before": float(orders.open())}
    epochs_s: list[float] = []
    beside: list[float] = []
    without: list[float] = []
    ratios: list[float] = []
    with ThreadPoolExecutor(1) as thread:
        for _ in range(min(EPOCHS, effort.rounds)):
            turn_s = max(1.5 * whole_s, effort.pressure_s / 4)
            quiet = pressure.closed(EPOCH_CLIENTS, turn_s)
            epoch = thread.submit(epoch_of, child)
            busy = pressure.closed(EPOCH_CLIENTS, turn_s)
            epoch_s, whole_s = epoch.result()
            epochs_s.append(epoch_s)
            during = [ms for ms, at_s in zip(busy.latency_ms, busy.at_s, strict=True) if at_s <= whole_s]
            beside += during
            without += quiet.latency_ms
            ratios.append(p99(during) / p99(quiet.latency_ms))
    return found | {
        "epoch.s_max": max(epochs_s),
        "epoch.s_p50": p50(epochs_s),
        "epoch.orders": float(orders.open()),
        "epoch.calls_beside": float(len(beside)),
        "epoch.call_ms_p50_beside": p50(beside),
        "epoch.call_ms_p50_without": p50(without),
        "epoch.call_ms_p99_beside": p99(beside),
        "epoch.call_ms_p99_without": p99(without),
        "epoch.p99_ratio": p99(beside) / p99(without),
        "epoch.p99_ratio_max": max(ratios),
    }


def epoch_of(child: Child) -> tuple[float, float]:
    """Run one epoch: seconds until it is published and settled, and until what it woke is done."""
    connection, began_s = Connection(child.target, TENANT), time.perf_counter()
    with connection.channel() as channel:
        call: Callable[..., bytes] = channel.unary_unary(f"/{FLOOR_SERVICE}/Epoch")
        reply = call(b"", metadata=connection.metadata, timeout=CALL_TIMEOUT_S)
    return pb.Lease.FromString(reply).timings.decision_us / 1e6, time.perf_counter() - began_s
