"""Who has to leave so that a gang can stand: those on its ideal nodes, or those of a whole choice who lose least.

The ideal nodes are the cheapest in an empty fleet. A large gang finds there whoever happens to stand there, often
too many and too valuable ones; anywhere in the choice, a few gangs that gain little may hold as much room.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel, leaf
from solvers.planning.cheapest import true_cost
from solvers.planning.choices import C_FIRST, C_LAST, C_MASK
from solvers.planning.seats import has_room_without

Int = NDArray[np.int64]
Float = NDArray[np.float64]

MOST_REMOVED = 96
"""Gangs that may have to leave for one."""
DEAREST = 1.1
"""Nodes at more than so many times a gang's bid are no room for it."""
MOST_SEEN = 512
"""Gangs of a choice that are weighed against each other: about so many on its cheapest nodes."""
LOSS_NOISE = 1.0


@leaf
def random_bits(state: NDArray[np.uint64]) -> int:
    """The next 53 random bits (xorshift64*, Vigna 2016)."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return int((x * np.uint64(2685821657736338717)) >> np.uint64(11))


@leaf
def random_below(state: NDArray[np.uint64], bound: int) -> int:
    """A random integer in [0, bound)."""
    return random_bits(state) % bound


@leaf
def random_real(state: NDArray[np.uint64]) -> float:
    """A random number in [0, 1)."""
    return random_bits(state) / 9007199254740992.0


@leaf
def in_the_way(
    seed: int, nodes: int, removed: Int, mine: Arrays, gangs: Arrays, weight: Float, state: Arrays, work: Arrays,
    random: NDArray[np.uint64],
) -> int:  # fmt: skip
    """List and mark a gang, if it is served, and who must leave the nodes in `work` for it.

    -1, with nothing marked, if too many would have to, or if a served gang has nobody in its way.
    """
    placed, free, marked, size = state[3], state[4], mine[2], gangs[1]
    beside = gangs[14].size > 0
    was_placed, full, count = placed[seed] > 0, False, 0
    if was_placed:
        removed[0], count = seed, 1
        marked[seed] = True
    for i in range(nodes):
        slot = work[0][i]
        room = free[slot] + replicas_on(seed, slot, state) * size[seed]
        while not full and (
            room < work[1][i] * size[seed]
            if not beside
            else not has_room_without(slot, seed, work[1][i], marked, gangs, state)
        ):
            worst = least_worth(slot, mine, gangs, weight, state, random_below(random, 4) == 0)
            if worst < 0:
                break
            full = count == MOST_REMOVED
            if not full:
                marked[worst] = True
                removed[count] = worst
                count += 1
                room += replicas_on(worst, slot, state) * size[worst]
    if full or (was_placed and count == 1):
        marked[removed[:count]] = False
        return -1
    return count


@leaf
def replicas_on(gang: int, slot: int, state: Arrays) -> int:
    """How many of its replicas a gang has on a slot."""
    first, place_slot, place_take, placed = state[:4]
    count = 0
    for at in range(first[gang], first[gang] + placed[gang]):
        if place_slot[at] == slot:
            count += place_take[at]
    return count


@leaf
def least_worth(slot: int, mine: Arrays, gangs: Arrays, weight: Float, state: Arrays, most: bool) -> int:
    """Of those on a slot that may go, who is worth least per GPU, or `most`; -1 if there is none."""
    host_first, host, hosts = state[5], state[6], state[7]
    owner, part, marked = mine
    worst = -1
    for h in range(host_first[slot], host_first[slot] + hosts[slot]):
        other = host[h]
        if owner[other] == part and not marked[other] and (worst < 0 or (weight[other] < weight[worst]) != most):
            worst = other
    other = state[12][slot] if gangs[14].size > 0 else -1
    while other >= 0:
        if owner[other] == part and not marked[other] and (worst < 0 or (weight[other] < weight[worst]) != most):
            worst = other
        other = state[13][other]
    return worst


@kernel
def in_a_choice(
    seed: int, choice: int, removed: Int, mine: Arrays, gangs: Arrays, shapes: Arrays, supply: Arrays,
    walk: Arrays, price: Float, ask: Int, value: Float, weight: Float, state: Arrays, survey: Arrays,
    random: NDArray[np.uint64],
) -> int:  # fmt: skip
    """List and mark those who leave a choice for a refused gang, who lose least per GPU first, with noise.

    What a gang loses is what it has above its asks, as far as it could not have it elsewhere at market prices.
    -1, with nothing marked, if there is room already, never enough of it, or too many would have to leave.
    `survey`: stamps of slots, the next stamp, and scratch for each gang: who, GPUs, loss.
    """
    first, place_slot, place_take, placed = state[:4]
    marked, (_, _, seen, here, loss) = mine[2], survey
    g, need = gangs[1][seed], gangs[0][seed]
    have, found = survey_choice(seed, choice, mine, gangs, shapes, supply, walk, price, ask, value, state, survey)
    for i in range(found):
        gang = seen[i]
        begin, count = first[gang], placed[gang]
        cost = true_cost(gang, gangs, count, place_slot[begin:], place_take[begin:], ask)
        lost = value[gang] / max(weight[gang], 1.0) - cost
        loss[i] = max(lost, 0.0) / here[i] * np.exp(LOSS_NOISE * (random_real(random) - 0.5))
    count = 0
    for i in np.argsort(loss[:found]):
        if have >= need or count == MOST_REMOVED:
            break
        removed[count] = seen[i]
        marked[seen[i]] = True
        have += here[i] // g
        count += 1
    if have < need or count == 0:
        marked[removed[:count]] = False
        return -1
    return count


@leaf
def survey_choice(
    seed: int, choice: int, mine: Arrays, gangs: Arrays, shapes: Arrays, supply: Arrays, walk: Arrays,
    price: Float, ask: Int, value: Float, state: Arrays, survey: Arrays,
) -> tuple[int, int]:  # fmt: skip
    """(replicas of a gang for which a choice has room, gangs that stand there); lists these with their GPUs."""
    first, place_slot, place_take, placed, free, host_first, host, hosts = state[:8]
    owner, part, marked = mine
    _, table, segments, masks, bits = shapes
    site_of = supply[1]
    stamps, stamp, seen, here, _ = survey
    stamp[0] += 1
    g, wanted, mask = gangs[1][seed], bits[gangs[2][seed]], table[choice, C_MASK]
    bid = value[seed] / (g * gangs[0][seed])
    have, found = 0, 0
    for k in range(table[choice, C_FIRST], table[choice, C_LAST]):
        for at in range(segments[k, 0], segments[k, 1]):
            slot, row = walk[0][at], walk[1][at]
            if found >= MOST_SEEN or price[slot] >= DEAREST * bid:
                break
            if not (wanted[row >> 6] >> np.uint64(row & 63)) & np.uint64(1):
                continue
            if ask[slot] >= bid or (mask >= 0 and not masks[mask, site_of[slot]]):
                continue
            stamps[slot] = stamp[0]
            have += free[slot] // g
            for h in range(host_first[slot], host_first[slot] + hosts[slot]):
                if owner[host[h]] == part and not marked[host[h]]:
                    marked[host[h]] = True
                    seen[found] = host[h]
                    found += 1
    for i in range(found):
        gang = seen[i]
        marked[gang], here[i] = False, 0
        for at in range(first[gang], first[gang] + placed[gang]):
            if stamps[place_slot[at]] == stamp[0]:
                here[i] += place_take[at] * gangs[1][gang]
    return have, found
