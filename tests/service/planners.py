"""A planner's view of an engine, and a solver for it that is slow, obvious and does what the test wants."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from walras.v1 import plan_service_pb2 as pb
from walras.v1.plan_service_pb2_grpc import PlanServiceStub

from engine.planning.queue_plan import Solver
from engine.service.engine import Engine
from engine.service.server import Server
from engine.service.verify import verify_journal
from solvers.planning.moves import order
from solvers.planning.plan import Limits, OnProgress, Plan, Progress, Start
from solvers.planning.problem import Problem
from tests.service.loopback import TIMEOUT_S, Book, Client, Clock, Loopback, cluster
from tests.service.test_leases import assert_counts_add_up

PAGE = 2


@dataclass
class Greedy:
    """Serves must-serve gangs, then the others by value, each on the cheapest nodes.

    `shadow_micro_usd`: the price of every node. `between`: called between two reports of progress. `swap`: put
    each running row where another one runs instead. `start`: what the last plan was told to start from.
    """

    shadow_micro_usd: float = 0.0
    between: Any = None
    swap: bool = False
    start: Start | None = None

    def solver(self) -> Solver:
        return Solver(self.solve, order)

    def solve(self, problem: Problem, limits: Limits, on_progress: OnProgress, start: Start | None) -> Plan:
        self.start = start
        on_progress(Progress("first", 0.0, None, None))
        if self.between is not None:
            self.between()
        on_progress(Progress("second", 0.001, None, 1))
        gangs, free = problem.gangs, problem.capacity.copy()
        rows: list[tuple[int, int, int]] = []
        for gang in np.lexsort((-gangs.value_micro_usd, ~gangs.must_serve)).tolist():
            placed = cheapest(problem, gang, free)
            if self.swap:
                placed = {int(problem.running.node[-1 - gang]): int(gangs.gpus[gang])}
            for node, gpus in placed.items():
                free[node] -= gpus
                rows.append((gang, node, gpus))
        request, node, gpus = np.array(sorted(rows), dtype=np.int64).reshape(-1, 3).T
        served = np.unique(request)
        worth = int((gangs.value_micro_usd * gangs.gpus)[served].sum())
        welfare = worth - int((gpus * problem.nodes.ask_micro_usd[node]).sum())
        prices = np.full(problem.capacity.size, self.shadow_micro_usd)
        bound = max(int((gangs.value_micro_usd * gangs.gpus).sum()), welfare)
        return Plan(request, node, gpus, welfare, prices, bound, None, (), ended_by_clock=False)


def cheapest(problem: Problem, gang: int, free: Any) -> dict[int, int]:
    """Nodes of one model for a gang, cheapest first; empty if it does not fit."""
    gangs, nodes = problem.gangs, problem.nodes
    n, g = int(gangs.gpus[gang]), int(gangs.gpus_per_replica[gang])
    for model in np.flatnonzero(problem.model_sets[gangs.model_set[gang]]).tolist():
        ok = (nodes.model == model) & problem.site_sets[gangs.site_set[gang]][nodes.site]
        ok &= (nodes.tier >= gangs.tier[gang]) & (nodes.ask_micro_usd <= gangs.value_micro_usd[gang])
        taken: dict[int, int] = {}
        for node in sorted(np.flatnonzero(ok).tolist(), key=lambda j: (nodes.ask_micro_usd[j], nodes.rank[j])):
            gpus = min(int(free[node]) // g * g, n - sum(taken.values()))
            if gpus:
                taken[node] = gpus
        if sum(taken.values()) == n:
            return taken
    return {}


class PlanningLoopback(Loopback):
    """A loopback whose plans a solver of the test makes."""

    def __init__(self, data_dir: Path, solver: Solver, clock: Clock | None = None) -> None:
        self._solver = solver
        super().__init__(data_dir, clock)

    async def _start(self) -> tuple[Engine, Server, int]:
        engine = Engine(self.data_dir, Book(), self.clock)
        server = Server(engine, self.options, self._solver, works_alone=False)
        return engine, server, await server.start()


def wanted(request_id: str, gpu_count: int = 8, **fields: Any) -> Any:
    """A cluster request as a plan takes it: H100 for an hour at up to 4 USD."""
    return cluster(
        **{
            "request_id": request_id,
            "gpu_count": gpu_count,
            "gpu_models": ["H100"],
            "duration_s": 3_600,
            "max_price_micro_usd_per_gpu_hour": 4_000_000,
            **fields,
        }
    )


class Planner:
    """A tenant's view of the plans of an engine."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._stub = PlanServiceStub(client.channel)

    def start(self, *chunks: pb.RunPlanRequest) -> Any:
        """The stream of a run."""
        return self._stub.RunPlan(iter(chunks), metadata=self.client.metadata, timeout=TIMEOUT_S)

    def run(self, *requests: Any, **options: Any) -> list[pb.RunPlanResponse]:
        """All messages of a run whose queue comes in one message."""
        return list(self.start(pb.RunPlanRequest(requests=requests, options=pb.PlanOptions(**options))))

    def plan(self, *requests: Any, **options: Any) -> str:
        """The name of a new plan."""
        return self.run(*requests, **options)[-1].name

    def page(self, name: str, **fields: Any) -> pb.Plan:
        return self.client.call(self._stub.GetPlan, pb.GetPlanRequest(name=name, **fields))

    def get(self, name: str) -> pb.Plan:
        """All pages of a plan as one, the pages being small."""
        whole = self.page(name, page_size=PAGE)
        while whole.next_page_token:
            page = self.page(name, page_size=PAGE, page_token=whole.next_page_token)
            assert page.report == whole.report
            whole.ClearField("next_page_token")
            page.ClearField("report")
            whole.MergeFrom(page)
        return whole

    def apply(self, name: str, key: str = "") -> pb.ApplyPlanResponse:
        return self.client.call(self._stub.ApplyPlan, pb.ApplyPlanRequest(name=name, idempotency_key=key))


def outcomes(response: pb.ApplyPlanResponse) -> dict[str, tuple[str, str]]:
    """What was tried for each request, and what was in the way."""
    return {each.request_id: (each.change, each.reason) for each in response.outcomes}


def placed(rows: Iterable[Any]) -> dict[str, dict[str, int]]:
    """GPUs by request and node."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row.request_id, {})[row.node_id] = row.gpus
    return found


def error_of(stream: Any) -> grpc.RpcError | None:
    """The error that ends a stream, None if there is none."""
    try:
        for _ in stream:
            pass
    except grpc.RpcError as error:
        return error
    return None


def assert_replays(loopback: PlanningLoopback) -> None:
    """Laws 1 and 10: counts add up, and the journal alone gives the same state."""
    assert_counts_add_up(loopback.client)
    before = loopback.hash()
    loopback.run(loopback.server.drain(0))
    loopback.engine.close()
    assert verify_journal(loopback.data_dir).state_hash == before
