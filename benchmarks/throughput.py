"""Deploys a second: one client to many, ten times too many (closed and open).

One fleet, one request size. Leases stay, so each measurement has a server of its own: in seconds they are much
of what a fleet has. `echo` and `floor` are the floors: the same call through the same interceptor without decision
and disk, and without decision (floor.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from benchmarks.batches import batched
from benchmarks.calls import Client
from benchmarks.deploy import Results
from benchmarks.flood import Flood
from benchmarks.floor import FLOOR_SERVICE
from benchmarks.pressure import DEPLOY, Pressure, Tally
from benchmarks.processes import Child
from benchmarks.registry import (
    BATCH_GPUS,
    BATCH_ITEMS,
    OVERLOAD_TIMES,
    PRESSURE_DEADLINE_S,
    RECOVERED_SHARE,
    RECOVERY_S,
    Effort,
)
from engine.domain.cluster_request import ClusterRequest, with_gpu_count

ECHO, FLOOR = f"/{FLOOR_SERVICE}/Echo", f"/{FLOOR_SERVICE}/DeployCluster"
WINDOW_S = 0.5


@dataclass(frozen=True, slots=True)
class Peak:
    """The most deploys a second, and how many clients gave it."""

    per_s: float
    clients: int


def measure_throughput(child: Child, requests: Sequence[ClusterRequest], effort: Effort) -> tuple[Results, Peak]:
    """Deploy, floor and echo in turns for every number of clients; the peak of the deploys."""
    results: Results = {}
    peak = Peak(0.0, 1)
    remember_one(child, requests[0])
    pressure = Pressure(child.target, requests, PRESSURE_DEADLINE_S)
    pressure.closed(1, effort.pressure_s / 4)  # warm
    for clients in effort.clients:
        rates = {}
        for name, method in (("unary", DEPLOY), ("floor", FLOOR), ("echo", ECHO)):
            cpu_s = child.cpu_s()
            tally = replace(pressure, method=method).closed(clients, effort.pressure_s)
            rates[name] = tally.per_s
            figures = tally.figures() | {"server_cpu_ms": 1e3 * (child.cpu_s() - cpu_s) / max(tally.sent, 1)}
            results |= {f"throughput.{name}.{clients}_clients.{key}": value for key, value in figures.items()}
        results[f"throughput.{clients}_clients.unary_over_echo"] = rates["unary"] / rates["echo"]
        results[f"throughput.{clients}_clients.unary_over_floor"] = rates["unary"] / rates["floor"]
        peak = max(peak, Peak(rates["unary"], clients), key=lambda each: each.per_s)
    best = f"throughput.{peak.clients}_clients"
    results["throughput.unary_over_echo"] = results[f"{best}.unary_over_echo"]
    results["throughput.unary_over_floor"] = results[f"{best}.unary_over_floor"]
    cpu_ms = {
        name: results[f"throughput.{name}.{peak.clients}_clients.server_cpu_ms"] for name in ("unary", "echo")
    }
    results["throughput.unary_cpu_ms"] = cpu_ms["unary"]
    results["throughput.unary_cpu_over_echo"] = cpu_ms["unary"] / max(cpu_ms["echo"], 1e-9)
    return results | {"throughput.unary_per_s": peak.per_s, "throughput.peak_clients": float(peak.clients)}, peak


def measure_batches(
    server: Callable[[], AbstractContextManager[Child]], requests: Sequence[ClusterRequest], effort: Effort
) -> Results:
    """Batched deploys for some numbers of streams, each on a fresh `server`; the best of them, of messages with
    alike items and of mixed ones."""
    results: Results = {}
    requests = [with_gpu_count(request, BATCH_GPUS) for request in requests]
    for kind, mixed in (("batch", False), ("mixed_batch", True)):
        rates = []
        for streams in effort.batch_streams:
            with server() as child:
                batched(child.target, requests, 1, BATCH_ITEMS, effort.pressure_s / 20, mixed=mixed)  # warm
                cpu_s = child.cpu_s()
                tally = batched(child.target, requests, streams, BATCH_ITEMS, effort.pressure_s, mixed=mixed)
                cpu_s = child.cpu_s() - cpu_s
            figures = tally.figures() | {"server_cpu_us_per_placement": 1e6 * cpu_s / max(tally.placements, 1)}
            results |= {f"throughput.{kind}.{streams}_streams.{key}": value for key, value in figures.items()}
            rates.append(figures["placements_per_s"])
        results[f"throughput.{kind}_placements_per_s"] = max(rates)
    return results


def measure_overload(child: Child, requests: Sequence[ClusterRequest], effort: Effort, peak: Peak) -> Results:
    """Ten times the clients that give the peak."""
    pressure = Pressure(child.target, requests, PRESSURE_DEADLINE_S)
    cpu_s = child.cpu_s()
    closed = pressure.closed(OVERLOAD_TIMES * peak.clients, effort.overload_s)
    cpu_s = child.cpu_s() - cpu_s
    results = {f"overload.closed.{key}": value for key, value in closed.figures().items()}
    return results | {
        "overload.deadline_ms": PRESSURE_DEADLINE_S * 1e3,
        "overload.goodput_share": closed.per_s / peak.per_s,
        "overload.missed_share": closed.missed_share,
        "overload.cpu_ms_per_answer": 1e3 * cpu_s / max(len(closed.latency_ms), 1),
    }


def measure_flood(child: Child, requests: Sequence[ClusterRequest], effort: Effort) -> Results:
    """An open loop at ten times the peak, server and generator pinned to a core each, as for that peak itself;
    then how long the server needs to come back."""
    flood = Flood(child.target, requests, PRESSURE_DEADLINE_S)
    with child.pinned_beside_us():
        flood.closed(1, effort.pressure_s / 4)  # warm
        closed = {clients: flood.closed(clients, effort.pressure_s).per_s for clients in effort.clients}
        clients, peak_per_s = max(closed.items(), key=lambda each: each[1])
        began_s = time.perf_counter()
        opened = flood.open(OVERLOAD_TIMES * peak_per_s, effort.overload_s)
        waited_s = time.perf_counter() - began_s - opened.seconds
        after = flood.closed(clients, min(effort.overload_s, RECOVERY_S))
    results = {f"overload.open.{key}": value for key, value in opened.figures().items()}
    results |= {
        "overload.open.peak_per_s": peak_per_s,
        "overload.open.goodput_share": opened.per_s / peak_per_s,
        "overload.open.offered_over_peak": opened.sent / opened.seconds / peak_per_s,
    }
    back = recovered_s(after, RECOVERED_SHARE * peak_per_s)
    return results if back is None else results | {"overload.open.recovery_s": back + waited_s}


def recovered_s(after: Tally, least_per_s: float) -> float | None:
    """When the answers first came at that rate over a window, seconds; None if they never did."""
    windows = int(after.seconds / WINDOW_S)
    for window in range(windows):
        inside = sum(window * WINDOW_S <= at_s < (window + 1) * WINDOW_S for at_s in after.at_s)
        if inside >= least_per_s * WINDOW_S:
            return (window + 1) * WINDOW_S
    return None


def remember_one(child: Child, request: ClusterRequest) -> None:
    """Give the floor and the echo a lease to repeat."""
    with Client(child.target) as client:
        lease, _ = client.deploy(request)
        client.remember(lease)
        client.release(lease)
