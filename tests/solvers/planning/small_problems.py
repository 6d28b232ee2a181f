"""Small joint problems from a seed, and slow, obvious rules to judge answers by; nothing is shared with solvers/.

Every constraint kind is there, and what runs: movable, pinned, interruptible and displaced. What runs stands where
its own constraints hold, chosen at random, so that moves can pay.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import numpy as np

from solvers.distances import Distances
from solvers.planning.problem import NO_SHARE, Gangs, Problem, Running
from solvers.pools import NodeColumns

Placement = dict[int, int]
"""GPUs by node, of one gang, pinned ones included; empty: not served."""

MODELS, SITES, SUPPLIERS = 2, 4, 3
MOVE_COSTS_MICRO_USD = (0, 1_000, 400_000, 5_000_000)


def small_problem(seed: int, nodes: int = 6, gangs: int = 4, runs_percent: int = 60) -> Problem:
    """The same problem for the same seed."""
    random = Random(seed)
    fleet, wanted = _fleet(random, nodes), _gangs(random, gangs)
    sets = _sets(random, MODELS), _sets(random, SITES), _sets(random, SUPPLIERS)
    nothing = np.empty(0, dtype=np.int64)
    idle = Running(nothing, nothing, nothing, np.empty(0, dtype=bool))
    problem = Problem(fleet, fleet.gpu_count, wanted, *sets, _distances(random), idle, 0)
    return _with_running(random, problem, runs_percent)


def _ints(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def _fleet(random: Random, nodes: int) -> NodeColumns:
    def pick(*values: int) -> np.ndarray:
        return _ints([random.choice(values) for _ in range(nodes)])

    return NodeColumns(
        model=pick(0, 0, 1),
        site=pick(*range(SITES)),
        tier=pick(1, 2, 3, 3),
        certifications=pick(3, 3, 3, 1),
        connectivity=pick(1, 2, 2, 3),
        interconnect=pick(0, 1, 1),
        fabric=pick(-1, 0, 0, 1),
        supplier=pick(*range(SUPPLIERS)),
        gpu_count=pick(1, 2, 4, 4, 8),
        ask_micro_usd=pick(1_000_000, 1_000_000, 1_400_000, 2_000_000),
        reliability=np.array([random.choice((0.9, 0.99)) for _ in range(nodes)]),
        rank=_ints(random.sample(range(nodes), nodes)),
    )


def _gangs(random: Random, gangs: int) -> Gangs:
    def pick(*values: float) -> np.ndarray:
        return np.array([random.choice(values) for _ in range(gangs)])

    replicas, sizes = pick(1, 1, 2, 3, 4), pick(1, 1, 2, 2, 4, 3)
    share = pick(1.0, 1.0, 0.5, 0.75)
    most = np.where(share < 1.0, np.floor(share * replicas * sizes), NO_SHARE).astype(np.int64)
    return Gangs(
        replicas=replicas,
        gpus_per_replica=sizes,
        value_micro_usd=pick(900_000, 1_300_000, 1_700_000, 2_500_000, 4_000_000),
        model_set=pick(0, 0, 0, 1),
        site_set=pick(0, 0, 0, 1),
        supplier_set=pick(0, 0, 0, 1),
        one_model=pick(0, 1).astype(bool),
        tier=pick(1, 1, 1, 2),
        certifications=pick(0, 0, 1, 2),
        connectivity=pick(1, 1, 2),
        interconnect=pick(0, 0, 1),
        one_fabric=pick(0, 0, 0, 1).astype(bool),
        reliability=pick(0.0, 0.0, 0.95),
        max_gpus_per_supplier=most,
        max_cluster_rtt_ms=pick(np.inf, 3.0, 5.0, 12.0),
        must_serve=np.zeros(gangs, dtype=bool),
    )


def _sets(random: Random, width: int) -> np.ndarray:
    """Everything, then two random sets that are not empty."""
    sets = [[True] * width] + [[random.random() < 0.7 for _ in range(width)] for _ in range(2)]
    return np.array([row if any(row) else [True] * width for row in sets])


def _distances(random: Random) -> Distances:
    pairs = [(a, b) for a in range(SITES) for b in range(a) if random.random() < 0.8]
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    rtts = np.array([random.choice((3.0, 5.0, 12.0, 40.0)) for _ in pairs])
    positions = np.array([random.uniform(-3, 3) for _ in range(SITES)])
    return Distances(positions, positions * 2, ends[:, 0], ends[:, 1], rtts)


def _with_running(random: Random, problem: Problem, runs_percent: int) -> Problem:
    """Some gangs run; then some of the nodes under them go away."""
    nodes, gangs = problem.capacity.size, problem.gangs
    free = problem.nodes.gpu_count.copy()
    standing: dict[int, Placement] = {}
    for gang in range(gangs.replicas.size):
        places = list(placements(problem, gang, free.tolist())) if random.random() * 100 < runs_percent else []
        if places:
            standing[gang] = random.choice(places)
            for node, gpus in standing[gang].items():
                free[node] -= gpus
    ready = [random.random() < 0.85 for _ in range(nodes)]
    may_stop = [random.random() < 0.3 for _ in range(gangs.replicas.size)]
    pins = [random.random() < 0.35 for _ in range(gangs.replicas.size)]
    rows = [
        (gang, node, gpus, ready[node] and pins[gang] and random.random() < 0.6)
        for gang, placement in standing.items()
        for node, gpus in sorted(placement.items())
    ]
    capacity = np.where(ready, free, 0)
    value, must_serve = gangs.value_micro_usd.copy(), gangs.must_serve.copy()
    for gang, placement in standing.items():
        displaced = not all(ready[node] for node in placement)
        pinned = any(row[3] for row in rows if row[0] == gang)
        value[gang] += displaced * random.choice((0, 1_000_000))
        must_serve[gang] = not displaced and (pinned or not may_stop[gang])
    for _, node, gpus, is_pinned in rows:
        capacity[node] += gpus if ready[node] and not is_pinned else 0
    columns = np.array([row[:3] for row in rows], dtype=np.int64).reshape(-1, 3).T
    running = Running(*columns, np.array([row[3] for row in rows], dtype=bool))
    wanted = Gangs(**{name: getattr(gangs, name) for name in Gangs.__slots__} | {
        "value_micro_usd": value, "must_serve": must_serve
    })  # fmt: skip
    sets = problem.model_sets, problem.site_sets, problem.supplier_sets
    move_cost = random.choice(MOVE_COSTS_MICRO_USD)
    return Problem(problem.nodes, capacity, wanted, *sets, problem.distances, running, move_cost)


def present(problem: Problem, gang: int, pinned: bool | None = None) -> Placement:
    """Where a gang runs now; `pinned`: only such rows, or only others."""
    running = problem.running
    return {
        int(node): int(gpus)
        for request, node, gpus, is_pinned in zip(
            running.request, running.node, running.gpus, running.pinned, strict=True
        )
        if request == gang and pinned in (None, bool(is_pinned))
    }


def placements(problem: Problem, gang: int, free: list[int]) -> Iterator[Placement]:
    """All placements of one gang, pinned rows included; `free`: GPUs by node beside its pinned ones."""
    size, stuck = int(problem.gangs.gpus_per_replica[gang]), present(problem, gang, pinned=True)
    need = int(problem.gangs.replicas[gang]) - sum(stuck.values()) // size
    usable = [node for node, gpus in enumerate(free) if gpus >= size and suits(problem, gang, node)]
    for replicas in _compositions(need, [free[node] // size for node in usable]):
        added = {node: count * size for node, count in zip(usable, replicas, strict=True) if count}
        placement = {node: added.get(node, 0) + stuck.get(node, 0) for node in sorted(added.keys() | stuck.keys())}
        if not faults(problem, gang, placement):
            yield placement


def _compositions(need: int, most: list[int]) -> Iterator[tuple[int, ...]]:
    if not most:
        if need == 0:
            yield ()
        return
    for count in range(min(need, most[0]) + 1):
        for rest in _compositions(need - count, most[1:]):
            yield (count, *rest)


def suits(problem: Problem, gang: int, node: int) -> bool:
    """Whether a node is one that a gang accepts."""
    gangs, nodes = problem.gangs, problem.nodes
    wanted = gangs.certifications[gang]
    return bool(
        problem.model_sets[gangs.model_set[gang], nodes.model[node]]
        and problem.site_sets[gangs.site_set[gang], nodes.site[node]]
        and problem.supplier_sets[gangs.supplier_set[gang], nodes.supplier[node]]
        and nodes.tier[node] >= gangs.tier[gang]
        and nodes.certifications[node] & wanted == wanted
        and nodes.connectivity[node] >= gangs.connectivity[gang]
        and nodes.interconnect[node] >= gangs.interconnect[gang]
        and nodes.reliability[node] >= gangs.reliability[gang]
    )


def faults(problem: Problem, gang: int, placement: Placement) -> list[str]:
    """The constraints of a served gang that its placement breaks."""
    gangs, nodes = problem.gangs, problem.nodes
    size, found = int(gangs.gpus_per_replica[gang]), []
    if sum(placement.values()) != gangs.replicas[gang] * size or any(gpus % size for gpus in placement.values()):
        found.append("not whole")
    found += [f"node {node}" for node in placement if not suits(problem, gang, node)]
    if gangs.one_model[gang] and len({nodes.model[node] for node in placement}) > 1:
        found.append("models")
    fabrics = {nodes.fabric[node] for node in placement}
    if gangs.one_fabric[gang] and (len(fabrics) > 1 or -1 in fabrics):
        found.append("fabric")
    for supplier in range(SUPPLIERS):
        given = sum(gpus for node, gpus in placement.items() if nodes.supplier[node] == supplier)
        if gangs.max_gpus_per_supplier[gang] != NO_SHARE and given > gangs.max_gpus_per_supplier[gang]:
            found.append("share")
    for a in placement:
        for b in placement:
            rtt_ms = problem.distances.from_site(int(nodes.site[a]))[nodes.site[b]]
            if rtt_ms > gangs.max_cluster_rtt_ms[gang] + 1e-6:
                found.append("far")
    return found


def welfare(problem: Problem, gang: int, placement: Placement) -> int:
    """What a gang adds to W."""
    if not placement:
        return 0
    gangs = problem.gangs
    value = int(gangs.value_micro_usd[gang]) * int(gangs.replicas[gang]) * int(gangs.gpus_per_replica[gang])
    asks = sum(gpus * int(problem.nodes.ask_micro_usd[node]) for node, gpus in placement.items())
    moved = sum(max(0, gpus - placement.get(node, 0)) for node, gpus in present(problem, gang).items())
    return value - asks - problem.move_cost_micro_usd * moved


def best_welfare(problem: Problem, gangs: list[int], free: list[int]) -> int | None:
    """The most that these gangs can add to W, by trying everything; None if some must-serve work can not be."""
    if not gangs:
        return 0
    gang, best = gangs[0], None
    stuck = present(problem, gang, pinned=True)
    choices = [{}] if not problem.gangs.must_serve[gang] else []
    for placement in (*choices, *placements(problem, gang, free)):
        left = free.copy()
        for node, gpus in placement.items():
            left[node] -= gpus - stuck.get(node, 0)
        rest = best_welfare(problem, gangs[1:], left)
        if rest is not None:
            total = rest + welfare(problem, gang, placement)
            best = total if best is None else max(best, total)
    return best
