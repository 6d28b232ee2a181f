"""All peers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.peers.cheapest_fit import first_come, highest_bid
from benchmarks.peers.cp_sat import cp_sat
from benchmarks.peers.highs import highs
from benchmarks.peers.kube import least_allocated, most_allocated
from benchmarks.peers.pop import pop_4, pop_8
from benchmarks.peers.price_then_greedy import price_then_greedy
from solvers.planning.moves import Placed
from solvers.planning.problem import Problem

Peer = Callable[[Problem, float], Placed]
"""(problem in which nothing runs, seconds it may use) to placements."""

FIRST_COME = "first_come"
PEERS: Mapping[str, Peer] = {
    FIRST_COME: first_come,
    "highest_bid": highest_bid,
    "price_then_greedy": price_then_greedy,
    "kube_pack": most_allocated,
    "kube_spread": least_allocated,
    "pop_4": pop_4,
    "pop_8": pop_8,
}
GENERAL_SOLVERS: Mapping[str, Peer] = {"cp_sat": cp_sat, "highs": highs}
