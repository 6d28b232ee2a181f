"""Ruin and recreate: take a few gangs out, put them and some refused ones back in another order, keep what is
better.

A round picks a seed gang. If it is refused, the placement it would have in an empty fleet is cleared of its
occupants; if it is served, it is taken out with some of its neighbours on the same nodes. Then the removed gangs
and a few refused ones of the same models are put back one by one, each at the placement of least price (so that
scarce nodes are left to those who need them), in the order of value over price with noise. The round is kept
unless welfare falls (ruin and recreate, Schrimpf et al. 2000; accepting small losses was tried and gained
nothing, docs/planning.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.planning.cheapest import BLOCK_BITS, cheapest, true_cost

Int = NDArray[np.int64]
Float = NDArray[np.float64]

MOST_REMOVED, MOST_TRIED = 96, 4
"""Gangs that a round may take out, and refused ones that it tries to put in."""
MOST_PLACES = 200_000
"""Places that the gangs of a round had, all together."""
ORDER_NOISE = 0.4
FIRST_OF_ALL = -1e300


@kernel
def random_bits(state: NDArray[np.uint64]) -> int:
    """The next 53 random bits (xorshift64*, Vigna 2016)."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return int((x * np.uint64(2685821657736338717)) >> np.uint64(11))


@kernel
def random_below(state: NDArray[np.uint64], bound: int) -> int:
    """A random integer in [0, bound)."""
    return random_bits(state) % bound


@kernel
def random_real(state: NDArray[np.uint64]) -> float:
    """A random number in [0, 1)."""
    return random_bits(state) / 9007199254740992.0


@kernel
def put(
    gang: int, gangs: Arrays, count: int, slots: Int, takes: Int, state: Arrays, walk: Arrays, ask: Int
) -> int:
    """Write a placement of `count` nodes into the state; its cost in asks and moves."""
    first, place_slot, place_take, placed, free, host_first, host, hosts = state
    size, at = gangs[1][gang], first[gang]
    for i in range(count):
        slot = slots[i]
        place_slot[at + i], place_take[at + i] = slot, takes[i]
        free[slot] -= takes[i] * size
        walk[4][walk[2][slot] >> BLOCK_BITS] = True
        host[host_first[slot] + hosts[slot]] = gang
        hosts[slot] += 1
    placed[gang] = count
    return true_cost(gang, gangs, count, slots, takes, ask)


@kernel
def take_out(gang: int, gangs: Arrays, state: Arrays, walk: Arrays, ask: Int) -> int:
    """Remove a gang's placement from the state; the asks and moves it no longer pays."""
    first, place_slot, place_take, placed, free, host_first, host, hosts = state
    size, begin, count = gangs[1][gang], first[gang], placed[gang]
    for at in range(begin, begin + count):
        slot = place_slot[at]
        free[slot] += place_take[at] * size
        walk[4][walk[2][slot] >> BLOCK_BITS] = True
        for i in range(host_first[slot], host_first[slot] + hosts[slot]):
            if host[i] == gang:
                hosts[slot] -= 1
                host[i] = host[host_first[slot] + hosts[slot]]
                break
    placed[gang] = 0
    return true_cost(gang, gangs, count, place_slot[begin:], place_take[begin:], ask)


@kernel
def insert(
    order: Int, gangs: Arrays, shapes: Arrays, supply: Arrays, walk: Arrays, price: Float, ask: Int, value: Float,
    state: Arrays, work: Arrays,
) -> int:  # fmt: skip
    """Place the gangs that are not placed, in this order, each where its price is least; the welfare gained."""
    free, placed, gained = state[4], state[3], 0
    for gang in order:
        if placed[gang] > 0 or gangs[0][gang] == 0:
            continue
        _, nodes, choice = cheapest(gang, gangs, shapes, supply, walk, free, price, np.inf, work)
        if choice >= 0:
            cost = true_cost(gang, gangs, nodes, work[0], work[1], ask)
            if cost < value[gang]:
                put(gang, gangs, nodes, work[0], work[1], state, walk, ask)
                gained += int(value[gang]) - cost
    return gained


@kernel
def improve(
    seeds: Int,
    refused_of_model: Arrays,
    gangs: Arrays,
    shapes: Arrays,
    supply: Arrays,
    walk: Arrays,
    price: Float,
    ask: Int,
    capacity: Int,
    empty_walk: Arrays,
    value: Float,
    weight: Float,
    state: Arrays,
    work: Arrays,
    random: NDArray[np.uint64],
    owner: Int,
    part: int,
) -> int:
    """Welfare gained in a round for each of `seeds` (gangs); `state` and `random` are mutated.

    Only gangs of this `part` (`owner`, (gangs,)) are touched, and all their choices lie on models of this part:
    parts can be searched at the same time. `refused_of_model`: gangs that could be served, by the models they
    accept.
    """
    first, place_slot, _, placed = state[:4]
    mine = (owner, part, np.zeros(placed.size, dtype=np.bool_))
    todo, key = np.empty(MOST_REMOVED + MOST_TRIED + 2, dtype=np.int64), np.empty(MOST_REMOVED + MOST_TRIED + 2)
    places = min(place_slot.size, MOST_PLACES)
    old = np.empty(MOST_REMOVED + 2, dtype=np.int64), np.empty(places, np.int64), np.empty(places, np.int64)
    gained = 0
    for seed in seeds:
        if placed[seed] > 0 and random_below(random, 3) == 0:
            model = supply[3][place_slot[first[seed]]]
            count = with_neighbours(seed, todo, mine, state, random)
        else:
            # Where it would stand in an empty fleet; those who stand there have to go.
            cost, nodes, choice = cheapest(seed, gangs, shapes, supply, empty_walk, capacity, price, np.inf, work)
            if choice < 0 or cost >= value[seed]:
                continue
            model = supply[3][work[0][0]]
            count = in_the_way(seed, nodes, todo, mine, gangs, weight, state, work, random)
            if count < 0:
                continue
        delta = take_out_all(todo[:count], old, gangs, value, state, walk, ask)
        tries = add_candidates(seed, model, count, todo, mine, refused_of_model, placed, random)
        for i in range(tries):
            key[i] = -weight[todo[i]] * np.exp(ORDER_NOISE * (random_real(random) - 0.5))
            mine[2][todo[i]] = False
        if random_below(random, 2) == 0:
            for i in range(tries):
                if todo[i] == seed:
                    key[i] = FIRST_OF_ALL
        order = todo[:tries][np.argsort(key[:tries])]
        delta += insert(order, gangs, shapes, supply, walk, price, ask, value, state, work)
        if delta >= 0:
            gained += delta
        else:
            put_back(todo, count, tries, old, gangs, state, walk, ask)
    return gained


@kernel
def with_neighbours(seed: int, removed: Int, mine: Arrays, state: Arrays, random: NDArray[np.uint64]) -> int:
    """List and mark a served gang and up to four that stand beside it; how many they are."""
    first, place_slot, _, placed, _, host_first, host, hosts = state
    owner, part, marked = mine
    removed[0], count = seed, 1
    marked[seed] = True
    for _ in range(4):
        slot = place_slot[first[seed] + random_below(random, placed[seed])]
        other = host[host_first[slot] + random_below(random, hosts[slot])]
        if not marked[other] and owner[other] == part:
            marked[other] = True
            removed[count] = other
            count += 1
    return count


@kernel
def in_the_way(
    seed: int, nodes: int, removed: Int, mine: Arrays, gangs: Arrays, weight: Float, state: Arrays, work: Arrays,
    random: NDArray[np.uint64],
) -> int:  # fmt: skip
    """List and mark a gang, if it is served, and who must leave the nodes in `work` for it.

    -1, with nothing marked, if too many would have to, or if a served gang has nobody in its way.
    """
    placed, free, marked, size = state[3], state[4], mine[2], gangs[1]
    was_placed, full, count = placed[seed] > 0, False, 0
    if was_placed:
        removed[0], count = seed, 1
        marked[seed] = True
    for i in range(nodes):
        slot = work[0][i]
        room = free[slot] + replicas_on(seed, slot, state) * size[seed]
        while room < work[1][i] * size[seed] and not full:
            worst = least_worth(slot, mine, weight, state, random_below(random, 4) == 0)
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


@kernel
def replicas_on(gang: int, slot: int, state: Arrays) -> int:
    """How many of its replicas a gang has on a slot."""
    first, place_slot, place_take, placed = state[:4]
    count = 0
    for at in range(first[gang], first[gang] + placed[gang]):
        if place_slot[at] == slot:
            count += place_take[at]
    return count


@kernel
def least_worth(slot: int, mine: Arrays, weight: Float, state: Arrays, most: bool) -> int:
    """Of those on a slot that may go, who is worth least per GPU, or `most`; -1 if there is none."""
    _, _, _, _, _, host_first, host, hosts = state
    owner, part, marked = mine
    worst = -1
    for h in range(host_first[slot], host_first[slot] + hosts[slot]):
        other = host[h]
        if owner[other] == part and not marked[other] and (worst < 0 or (weight[other] < weight[worst]) != most):
            worst = other
    return worst


@kernel
def take_out_all(
    removed: Int, old: Arrays, gangs: Arrays, value: Float, state: Arrays, walk: Arrays, ask: Int
) -> int:
    """Take gangs out, remembering in `old` where they stood; the welfare that this changes."""
    first, place_slot, place_take, placed = state[:4]
    old_first, old_slot, old_take = old
    delta, stored = 0, 0
    for i in range(removed.size):
        gang = removed[i]
        old_first[i] = stored
        for at in range(first[gang], first[gang] + placed[gang]):
            old_slot[stored], old_take[stored] = place_slot[at], place_take[at]
            stored += 1
        delta += take_out(gang, gangs, state, walk, ask) - int(value[gang])
    old_first[removed.size] = stored
    return delta


@kernel
def add_candidates(
    seed: int, model: int, count: int, todo: Int, mine: Arrays, refused_of_model: Arrays, placed: Int,
    random: NDArray[np.uint64],
) -> int:  # fmt: skip
    """List and mark, after the removed ones, the seed and some that are not served; how many they are in all."""
    model_first, model_gangs = refused_of_model
    owner, part, marked = mine
    if not marked[seed]:
        todo[count] = seed
        marked[seed] = True
        count += 1
    span = model_first[model + 1] - model_first[model]
    for _ in range(MOST_TRIED if span > 0 else 0):
        other = model_gangs[model_first[model] + random_below(random, span)]
        if placed[other] == 0 and not marked[other] and owner[other] == part:
            marked[other] = True
            todo[count] = other
            count += 1
    return count


@kernel
def put_back(
    todo: Int, count: int, tries: int, old: Arrays, gangs: Arrays, state: Arrays, walk: Arrays, ask: Int
) -> None:
    """Undo a round: who was put in leaves, and the first `count` go where `old` says they stood."""
    old_first, old_slot, old_take = old
    for i in range(tries):
        if state[3][todo[i]] > 0:
            take_out(todo[i], gangs, state, walk, ask)
    for i in range(count):
        at = old_first[i]
        put(todo[i], gangs, old_first[i + 1] - at, old_slot[at:], old_take[at:], state, walk, ask)
