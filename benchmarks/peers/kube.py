"""Filter and score, as kube-scheduler with gang admission does: gang after gang, node by node, no way back.

Queue: the higher bid first (its priority), then arrival. Filter: nodes that pass every constraint, have room for a
replica and whose ask the gang can pay. Score in whole per cent: how full the node is with the replica (most
allocated: pack) or how empty (least allocated: spread); ties to the lower ask. Each replica goes to the node of
highest score, scores change as it goes, a gang that does not fit whole leaves again. Of several models, fabrics or
sets of close sites the one with the highest sum is taken. kube-scheduler scores a sample of nodes, this one all.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.greedy import by_request
from solvers.kernel import Arrays, kernel
from solvers.planning.choices import C_FIRST, C_LAST, C_MASK
from solvers.planning.moves import Placed
from solvers.planning.prepare import prepare
from solvers.planning.problem import Problem

Int = NDArray[np.int64]

TOP_SCORE = 100


def filter_and_score(problem: Problem, limit_s: float, *, pack: bool) -> Placed:
    """Takes no notice of the limit: it needs some seconds."""
    prepared = prepare(problem)
    rows = int(problem.gangs.replicas.sum())
    out = tuple(np.empty(rows, dtype=np.int64) for _ in range(3))
    count = schedule(
        np.argsort(-problem.gangs.value_micro_usd, kind="stable"),
        (problem.gangs.replicas, problem.gangs.gpus_per_replica, prepared.shapes.of_gang),
        problem.gangs.max_gpus_per_supplier,
        problem.gangs.value_micro_usd,
        prepared.shape_arrays(prepared.placed),
        prepared.supply,
        prepared.walk(prepared.ask.astype(np.float64)),
        prepared.capacity.copy(),
        np.ascontiguousarray(problem.nodes.gpu_count[prepared.rows.node]),
        prepared.ask,
        pack,
        problem.supplier_sets.shape[1],
        out,
    )
    return by_request(prepared, *(column[:count] for column in out))


most_allocated = partial(filter_and_score, pack=True)
least_allocated = partial(filter_and_score, pack=False)


@kernel
def schedule(
    order: Int,
    gangs: Arrays,
    most_of_supplier: Int,
    value: Int,
    shapes: Arrays,
    supply: Arrays,
    walk: Arrays,
    free: Int,
    gpu_count: Int,
    ask: Int,
    pack: bool,
    suppliers: int,
    out: Arrays,
) -> int:
    """Write gang, slot and GPUs of each placement into `out`; how many. `free` is mutated."""
    replicas, size, shape_of = gangs
    out_gang, out_slot, out_gpus = out
    count = 0
    candidates = np.empty(free.size, dtype=np.int64)
    scratch = (
        np.empty(free.size, dtype=np.int64),
        np.zeros(free.size, dtype=np.int64),
        np.zeros(suppliers, np.int64),
    )
    best_slots, slots = np.empty(free.size, dtype=np.int64), np.empty(free.size, dtype=np.int64)
    best_gpus, gpus = np.empty(free.size, dtype=np.int64), np.empty(free.size, dtype=np.int64)
    for gang in order:
        g, need, most, shape = size[gang], replicas[gang], most_of_supplier[gang], shape_of[gang]
        best_score, best_used = -1, 0
        for choice in range(shapes[0][shape], shapes[0][shape + 1]):
            found, room = filtered(shape, choice, g, value[gang], shapes, supply, walk, free, ask, candidates)
            if room < need:
                continue
            score, used = bind(
                candidates[:found], g, need, most, free, gpu_count, pack, supply[2], scratch, slots, gpus
            )
            if score > best_score:
                best_score, best_used = score, used
                best_slots[:used], best_gpus[:used] = slots[:used], gpus[:used]
        for i in range(best_used):
            free[best_slots[i]] -= best_gpus[i]
            out_gang[count], out_slot[count], out_gpus[count] = gang, best_slots[i], best_gpus[i]
            count += 1
    return count


@kernel
def filtered(
    shape: int,
    choice: int,
    g: int,
    most_ask: int,
    shapes: Arrays,
    supply: Arrays,
    walk: Arrays,
    free: Int,
    ask: Int,
    candidates: Int,
) -> tuple[int, int]:
    """(nodes, replicas) that pass; the nodes' slots stand in `candidates`, by ask within a segment."""
    _, table, segments, masks, bits = shapes
    walk_slot, walk_row = walk[:2]
    site_of, mask, mine = supply[1], table[choice, C_MASK], bits[shape]
    found, room = 0, 0
    for segment in range(table[choice, C_FIRST], table[choice, C_LAST]):
        for at in range(segments[segment, 0], segments[segment, 1]):
            slot, row = walk_slot[at], walk_row[at]
            if ask[slot] > most_ask:
                break
            if free[slot] < g or not (mine[row >> 6] >> np.uint64(row & 63)) & np.uint64(1):
                continue
            if mask >= 0 and not masks[mask, site_of[slot]]:
                continue
            candidates[found] = slot
            found += 1
            room += free[slot] // g
    return found, room


@kernel
def bind(
    candidates: Int,
    g: int,
    need: int,
    most: int,
    free: Int,
    gpu_count: Int,
    pack: bool,
    supplier_of: Int,
    scratch: Arrays,
    slots: Int,
    gpus: Int,
) -> tuple[int, int]:
    """(sum of scores, nodes used) of the replicas, each on the node of highest score; (-1, 0) if they do not fit.

    Candidates wait in one list per score: `after` links them.
    """
    after, taken, of_supplier = scratch
    head = np.full(TOP_SCORE + 1, -1, dtype=np.int64)
    for i in range(candidates.size - 1, -1, -1):
        score = score_of(free[candidates[i]] - g, gpu_count[candidates[i]], pack)
        after[i], head[score] = head[score], i
    total, used, level, left = 0, 0, TOP_SCORE, need
    while left > 0 and level >= 0:
        i = head[level]
        if i < 0:
            level -= 1
            continue
        slot = candidates[i]
        head[level] = after[i]
        if most >= 0 and of_supplier[supplier_of[slot]] + g > most:
            continue
        if taken[slot] == 0:
            slots[used] = slot
            used += 1
        taken[slot] += g
        of_supplier[supplier_of[slot]] += g
        total += level
        left -= 1
        if free[slot] - taken[slot] >= g:
            score = score_of(free[slot] - taken[slot] - g, gpu_count[slot], pack)
            after[i], head[score] = head[score], i
            level = max(level, score)
    for i in range(used):
        gpus[i], taken[slots[i]] = taken[slots[i]], 0
        of_supplier[supplier_of[slots[i]]] = 0
    return (total, used) if left == 0 else (-1, 0)


@kernel
def score_of(left: int, gpu_count: int, pack: bool) -> int:
    """0 to TOP_SCORE by the share of GPUs that a node has left, or has not left."""
    share = TOP_SCORE * left // gpu_count
    return TOP_SCORE - share if pack else share
