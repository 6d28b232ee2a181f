"""Which nodes a gang may be repaired on, and groups of nodes that no gang of one repair can tell apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.distances import RTT_TOLERANCE_MS
from solvers.planning.problem import NO_SHARE, Problem

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Free(NamedTuple):
    """What some gangs may use, their own movable rows included.

    `gpus` (nodes,). If gangs have needs beside whole GPUs: `cpu_milli`, `memory_mib` (nodes,) and `left` (nodes,
    cards), thousandths of shared cards; else None.
    """

    gpus: Int
    cpu_milli: Int | None = None
    memory_mib: Int | None = None
    left: Int | None = None

    @property
    def live(self) -> Int:
        """Nodes that have anything, ascending."""
        live = self.gpus > 0
        return np.flatnonzero(live if self.left is None else live | (self.left > 0).any(axis=1))

    def holds(self, problem: Problem, gang: int, node: Int) -> Int:
        """Replicas of a gang that each of some nodes has room for, at most 1 of a part."""
        needs = problem.gangs.needs
        holds: Int = self.gpus[node] // int(problem.gangs.gpus_per_replica[gang])
        if needs is None or self.cpu_milli is None or self.memory_mib is None or self.left is None:
            return holds
        if milli := int(needs.gpu_milli[gang]):
            holds = ((holds > 0) | (self.left[node] >= milli).any(axis=1)).astype(np.int64)
        for need, left in ((needs.cpu_milli[gang], self.cpu_milli), (needs.memory_mib[gang], self.memory_mib)):
            if need:
                holds = np.minimum(holds, left[node] // need)
        return holds


class Candidate(NamedTuple):
    """One gang of the call and the nodes it may use. `need`: replicas beyond its pinned rows, of `size` GPUs.

    `worth`: value less pinned asks, micro-USD per hour. `node`, `option`: (nodes that it may use,); nodes of equal
    option may be mixed. `holds`: replicas that each has room for. `pinned`, `present`: GPUs by node. `far`: pairs
    of sites that may not be used together.
    """

    gang: int
    need: int
    size: int
    worth: int
    node: Int
    option: Int
    holds: Int
    pinned: dict[int, int]
    present: dict[int, int]
    far: list[tuple[int, int]]


def candidate_of(problem: Problem, gang: int, free: Free, live: Int) -> Candidate:
    """What one gang may use. `live`: the nodes that have anything free."""
    gangs, running, nodes = problem.gangs, problem.running, problem.nodes
    rows = np.arange(*np.searchsorted(running.request, [gang, gang + 1]))
    pinned, movable = rows[running.pinned[rows]], rows[~running.pinned[rows]]
    stuck, size = running.node[pinned], int(gangs.gpus_per_replica[gang])
    need = int(gangs.replicas[gang]) - int(running.gpus[pinned].sum()) // size
    node = _beside(problem, gang, stuck, _eligible(problem, gang, free, live))
    option = _options(problem, gang, node)
    sites, site = np.unique(nodes.site[node], return_inverse=True)
    close = _close(problem, gang, sites)
    holds = free.holds(problem, gang, node)
    whole = _can_hold(need, holds, option, site, close)
    used = np.isin(np.arange(sites.size), site[whole])
    far = np.argwhere(np.triu(~close & used & used[:, None]))
    return Candidate(
        gang=gang,
        need=need,
        size=size,
        worth=int(gangs.money(np.array([gang]), gangs.gpus[[gang]], gangs.value_micro_usd[[gang]])[0])
        - int(gangs.money(running.request[pinned], running.gpus[pinned], nodes.ask_micro_usd[stuck]).sum()),
        node=node[whole],
        option=option[whole],
        holds=holds[whole],
        pinned=dict(zip(stuck.tolist(), running.gpus[pinned].tolist(), strict=True)),
        present=dict(zip(running.node[movable].tolist(), running.gpus[movable].tolist(), strict=True)),
        far=[(a, b) for a, b in sites[far].tolist()],
    )


def _eligible(problem: Problem, gang: int, free: Free, live: Int) -> Int:
    """Nodes with room for a replica that keep the constraints on single nodes."""
    gangs, nodes = problem.gangs, problem.nodes
    node = live[free.holds(problem, gang, live) > 0]
    node = node[problem.model_sets[gangs.model_set[gang]][nodes.model[node]]]
    node = node[problem.site_sets[gangs.site_set[gang]][nodes.site[node]]]
    fits = problem.supplier_sets[gangs.supplier_set[gang]][nodes.supplier[node]]
    fits &= nodes.tier[node] >= gangs.tier[gang]
    fits &= nodes.certifications[node] & gangs.certifications[gang] == gangs.certifications[gang]
    fits &= nodes.connectivity[node] >= gangs.connectivity[gang]
    fits &= nodes.interconnect[node] >= gangs.interconnect[gang]
    fits &= nodes.reliability[node] >= gangs.reliability[gang]
    fits &= (nodes.fabric[node] >= 0) | ~gangs.one_fabric[gang]
    kept: Int = node[fits]
    return kept


def _beside(problem: Problem, gang: int, stuck: Int, node: Int) -> Int:
    """Those of the nodes that a gang may use together with the nodes that it is pinned to."""
    gangs, nodes = problem.gangs, problem.nodes
    for pin in stuck:
        if gangs.one_model[gang]:
            node = node[nodes.model[node] == nodes.model[pin]]
        if gangs.one_fabric[gang]:
            node = node[nodes.fabric[node] == nodes.fabric[pin]]
        if np.isfinite(gangs.max_cluster_rtt_ms[gang]):
            close = _close(problem, gang, np.append(nodes.site[pin], nodes.site[node]))
            node = node[close[0, 1:]]
    return node


def _options(problem: Problem, gang: int, node: Int) -> Int:
    """Numbers of what the gang must not mix: models, fabrics, both or nothing."""
    gangs, nodes = problem.gangs, problem.nodes
    model = nodes.model[node] * bool(gangs.one_model[gang])
    fabric = nodes.fabric[node] * bool(gangs.one_fabric[gang])
    return np.unique(np.stack([model, fabric]), axis=1, return_inverse=True)[1].ravel()


def _close(problem: Problem, gang: int, sites: Int) -> Flags:
    """(sites, sites): whether a gang may use two sites together."""
    limit_ms = problem.gangs.max_cluster_rtt_ms[gang]
    if not np.isfinite(limit_ms):
        return np.ones((sites.size, sites.size), dtype=bool)
    rtt_ms = np.array([problem.distances.from_site(int(site))[sites] for site in sites])
    close: Flags = np.maximum(rtt_ms, rtt_ms.T).reshape(sites.size, sites.size) <= limit_ms + RTT_TOLERANCE_MS
    return close


def _can_hold(need: int, holds: Int, option: Int, site: Int, close: Flags) -> Flags:
    """(nodes,): whether its option, at sites close to its own, holds the whole gang."""
    room = np.zeros((int(option.max(initial=-1)) + 1, close.shape[0]), dtype=np.int64)
    np.add.at(room, (option, site), holds)
    return (room @ close)[option, site] >= need


class Groups:
    """Nodes that are alike for all candidates; if gangs have needs, every node is alone. `members`: nodes of each
    group, best rank first.
    """

    def __init__(self, problem: Problem, candidates: list[Candidate], free: Free) -> None:
        nodes = problem.nodes
        used = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *(one.node for one in candidates)]))
        used = used[np.argsort(nodes.rank[used], kind="stable")]
        self.members: list[list[int]] = []
        self.of: dict[int, int] = {}
        numbers: dict[tuple[int, ...], int] = {}
        for node, *key in self._keys(problem, candidates, free, used).tolist():
            group = numbers.setdefault(tuple(key), len(numbers))
            if group == len(self.members):
                self.members.append([])
            self.members[group].append(node)
            self.of[node] = group

    @staticmethod
    def _keys(problem: Problem, candidates: list[Candidate], free: Free, used: Int) -> Int:
        """A row per node: its number, then what must be equal within a group."""
        nodes = problem.nodes
        place = np.empty(problem.capacity.size, dtype=np.int64)
        place[used] = np.arange(used.size)
        option = np.full((len(candidates), used.size), -1, dtype=np.int64)
        alone = np.full(used.size, problem.gangs.needs is not None)
        for row, one in zip(option, candidates, strict=True):
            row[place[one.node]] = one.option
            alone[np.isin(used, list(one.present))] = True
        sizes = np.array([one.size for one in candidates], dtype=np.int64)
        patterns, pattern = np.unique(option >= 0, axis=1, return_inverse=True)
        alone |= ~np.array([divide(sizes[mine]) for mine in patterns.T], dtype=bool)[pattern.ravel()]
        of_site = nodes.site[used] * any(one.far for one in candidates)
        shared = any(problem.gangs.max_gpus_per_supplier[one.gang] != NO_SHARE for one in candidates)
        of_supplier = nodes.supplier[used] * shared
        alone_number = np.where(alone, used, -1)
        same = (nodes.ask_micro_usd[used], free.gpus[used], of_site, of_supplier, alone_number)
        return np.column_stack([used, *same, option.T])


def divide(sizes: Int) -> bool:
    """Whether of any two replica sizes one divides the other."""
    distinct = np.unique(sizes)
    return bool((distinct[1:] % distinct[:-1] == 0).all())
