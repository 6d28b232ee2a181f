"""Every benchmark, declared once: its world, fleet sizes, request sizes and constraints.

A key of `results.json` is `family.gpus@fleet.quantity`. Later families (throughput, planning, overload) are
declared here too, so that no size stands in two places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

SEED = 1
FLEETS = (10_000, 100_000, 1_000_000)
LARGEST_FLEET = FLEETS[-1]
SMALL_FLEET = 2_000
"""Of the run in the tests."""

WorldKind = Literal["synthetic", "real"]


@dataclass(frozen=True, slots=True)
class Size:
    """A request size. `calls`, `decisions`: timed repetitions in one block; `unit` of the decision's figures."""

    gpu_count: int
    calls: int
    decisions: int
    unit: Literal["us", "ms"] = "us"


SIZES = (Size(8, 20, 100), Size(512, 20, 100), Size(10_000, 15, 50, "ms"))


@dataclass(frozen=True, slots=True)
class Family:
    """Deploys of all SIZES on some fleets of one world; `constraints` are fields of the cluster request."""

    name: str
    world: WorldKind
    fleets: tuple[int, ...]
    constraints: Mapping[str, Any] = field(default_factory=dict)


TRAINING = {
    "gpus_per_node": 8,
    "min_security_tier": "VERIFIED",
    "client_latitude": 40.7,
    "client_longitude": -74.0,
    "max_client_rtt_ms": 80.0,
}
"""Whole nodes, not far from New York, as in the demo."""

FAMILIES = (
    Family("deploy", "synthetic", FLEETS),
    Family("deploy_training", "synthetic", (LARGEST_FLEET,), TRAINING),
    Family("deploy_close", "synthetic", (LARGEST_FLEET,), {"max_cluster_rtt_ms": 20.0}),
    Family("deploy_fabric", "synthetic", (LARGEST_FLEET,), {"same_fabric": True, "min_interconnect": "ROCE"}),
    Family("deploy_real", "real", (LARGEST_FLEET,)),
)
PlanWorld = Literal["standard", "real", "small"]


@dataclass(frozen=True, slots=True)
class PlanFamily:
    """Joint plans of one instance (`instances`) at some loads, beside the peers unless `alone`.

    `requests`, `fleet`: nodes of the standard and the small instance, GPUs of the real one.
    """

    world: PlanWorld
    loads: tuple[float, ...]
    requests: int
    fleet: int
    alone: bool = False
    name: str = ""

    def key(self, load: float) -> str:
        """How its figures in `results.json` begin."""
        return f"plan.{self.name or self.world}.load_{load}"


PLAN_FAMILIES = (
    PlanFamily("real", (0.5, 0.9, 1.3), 10_000, 1_000_000),
    PlanFamily("standard", (0.5, 0.9, 1.3), 10_000, 125_000),
    PlanFamily("standard", (0.9,), 100_000, 125_000, alone=True, name="standard_100000"),
    PlanFamily("small", (0.9, 1.3), 200, 2_000),
)
"""The small one is what a general solver can still handle."""
SMALL_PLAN_REQUESTS, SMALL_PLAN_FLEET = 40, 300
MIP_TIMES, MIP_LIMIT_S = 10.0, 60.0
"""A general solver gets so many times our time, at most so much."""
MIP_LOAD = 0.9
"""At the other loads general solvers are left out: with them the suite would take more than its half hour."""

EXPONENT_FAMILY = "deploy"
EXPONENT_SIZES = (8, 512)
"""Larger requests do not fit the smallest fleet."""


CLIENTS = (1, 4, 16, 64)
PRESSURE_GPUS = 4
"""Of every deploy under pressure: few enough for the fleet to have room for all of a run."""
PRESSURE_DEADLINE_S = 2.0
BATCH_ITEMS, BATCH_GPUS = 500, 1
"""Of a message of batched deploys."""
OVERLOAD_TIMES = 10
RECOVERED_SHARE, RECOVERY_S = 0.7, 6.0
"""The server is back when it answers so much of its peak; looked at for so long."""
EPOCHS, EPOCH_CLIENTS, EPOCH_ORDERS = 8, 4, 10_000
"""Epochs beside deploys, by so many clients, and the orders that wait all the while."""
SMALL_EPOCH_ORDERS = 40


SPEED = 60
TWO_HOURS, DAY_HOURS = 2.0, 24.0
DAY_GPUS, DAY_REQUESTS = 100_000, 10_000
DAY_LOAD = 8.0
"""GPUs of all jobs of the trace's week over free GPUs: about a tenth of them run at the same time."""
DAY_BEGINS_H = 72
"""Into the trace: long enough for what runs to be usual."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured. A round is a floor block, an engine block and a decision block."""

    rounds: int
    starts: int
    fleets: tuple[int, ...] = FLEETS
    calls_max: int = 1_000
    plan_loads: tuple[float, ...] = (0.5, 0.9, 1.3)
    general_solvers: bool = True
    """Whether CP-SAT and HiGHS plan too."""
    clients: tuple[int, ...] = CLIENTS
    batch_streams: tuple[int, ...] = (1, 2, 4)
    pressure_fleet: int = FLEETS[-1]
    """GPUs under pressure: what is deployed stays, so they must last."""
    pressure_s: float = 4.0
    overload_s: float = 10.0
    epoch_orders: int = EPOCH_ORDERS
    servers_apart: bool = True
    """Whether every measurement under pressure has a server of its own: what one leaves would slow the next."""

    def calls(self, size: Size) -> int:
        """Timed calls in one block."""
        return min(size.calls, self.calls_max)


FULL = Effort(rounds=20, starts=3)
QUICK = Effort(
    rounds=10,
    starts=1,
    fleets=FLEETS[:2],
    calls_max=5,
    plan_loads=(0.9,),
    general_solvers=False,
    pressure_fleet=FLEETS[1],
    pressure_s=2.0,
)
TURN = Effort(rounds=4, starts=1, fleets=FLEETS[:2], calls_max=10)
"""One turn of a comparison of two revisions."""
SMALL = Effort(
    rounds=1,
    starts=1,
    fleets=(SMALL_FLEET,),
    calls_max=2,
    general_solvers=False,
    clients=(1,),
    batch_streams=(1,),
    pressure_fleet=20 * SMALL_FLEET,
    pressure_s=0.2,
    overload_s=0.5,
    epoch_orders=SMALL_EPOCH_ORDERS,
    servers_apart=False,
)


def small(family: Family) -> Family:
    """The family on the small fleet of the tests."""
    return Family(family.name, family.world, (SMALL_FLEET,), family.constraints)


def small_plan(family: PlanFamily) -> PlanFamily:
    """The family on a fleet of the tests, at one load."""
    return replace(family, loads=family.loads[:1], requests=SMALL_PLAN_REQUESTS, fleet=SMALL_PLAN_FLEET)
