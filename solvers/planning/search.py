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
    first, place_slot, place_take, placed, free, host_first, host, hosts = state
    model_first, model_gangs = refused_of_model
    size = gangs[1]
    model_of = supply[3]
    most_removed, most_tried = 96, 4
    removed = np.empty(most_removed + 1, dtype=np.int64)
    todo = np.empty(most_removed + most_tried + 2, dtype=np.int64)
    key = np.empty(todo.size)
    old_first = np.empty(most_removed + 2, dtype=np.int64)
    old_slot = np.empty(place_slot.size if place_slot.size < 200000 else 200000, dtype=np.int64)
    old_take = np.empty(old_slot.size, dtype=np.int64)
    gained = 0
    marked = np.zeros(placed.size, dtype=np.bool_)
    for seed in seeds:
        count = 0
        was_placed = placed[seed] > 0
        if was_placed:
            removed[0], count = seed, 1
            marked[seed] = True
        if was_placed and random_below(random, 3) == 0:
            for _ in range(4):
                at = first[seed] + random_below(random, placed[seed])
                slot = place_slot[at]
                other = host[host_first[slot] + random_below(random, hosts[slot])]
                if not marked[other] and owner[other] == part:
                    marked[other] = True
                    removed[count] = other
                    count += 1
            model = model_of[place_slot[first[seed]]]
        else:
            # Where it would stand in an empty fleet; those who stand there have to go.
            cost, nodes, choice = cheapest(seed, gangs, shapes, supply, empty_walk, capacity, price, np.inf, work)
            if choice < 0 or cost >= value[seed]:
                if was_placed:
                    marked[seed] = False
                continue
            model = model_of[work[0][0]]
            full = False
            for i in range(nodes):
                slot = work[0][i]
                room = free[slot]
                if was_placed:
                    for at in range(first[seed], first[seed] + placed[seed]):
                        if place_slot[at] == slot:
                            room += place_take[at] * size[seed]
                while room < work[1][i] * size[seed] and not full:
                    # Evict the occupant that is worth least per GPU, or now and then any.
                    worst, skip = -1, random_below(random, 4) == 0
                    for h in range(host_first[slot], host_first[slot] + hosts[slot]):
                        other = host[h]
                        if (
                            owner[other] == part
                            and not marked[other]
                            and (worst < 0 or (weight[other] < weight[worst]) != skip)
                        ):
                            worst = other
                    if worst < 0:
                        break
                    if count == most_removed:
                        full = True
                        break
                    marked[worst] = True
                    removed[count] = worst
                    count += 1
                    for at in range(first[worst], first[worst] + placed[worst]):
                        if place_slot[at] == slot:
                            room += place_take[at] * size[worst]
            if full or (was_placed and count == 1):
                for i in range(count):
                    marked[removed[i]] = False
                continue
        # Take out, remembering where they stood.
        delta, stored = 0, 0
        for i in range(count):
            gang = removed[i]
            old_first[i] = stored
            for at in range(first[gang], first[gang] + placed[gang]):
                old_slot[stored], old_take[stored] = place_slot[at], place_take[at]
                stored += 1
            delta += take_out(gang, gangs, state, walk, ask) - int(value[gang])
        old_first[count] = stored
        tries = count
        for i in range(count):
            todo[i] = removed[i]
        if not marked[seed]:
            todo[tries] = seed
            marked[seed] = True
            tries += 1
        span = model_first[model + 1] - model_first[model]
        for _ in range(most_tried if span > 0 else 0):
            other = model_gangs[model_first[model] + random_below(random, span)]
            if placed[other] == 0 and not marked[other] and owner[other] == part:
                marked[other] = True
                todo[tries] = other
                tries += 1
        for i in range(tries):
            key[i] = -weight[todo[i]] * np.exp(0.4 * (random_real(random) - 0.5))
            marked[todo[i]] = False
        if random_below(random, 2) == 0:
            for i in range(tries):
                if todo[i] == seed:
                    key[i] = -1e300
        order = np.argsort(key[:tries])
        for i in order:
            gang = todo[i]
            cost, nodes, choice = cheapest(gang, gangs, shapes, supply, walk, free, price, 1e300, work)
            if choice < 0:
                continue
            real = true_cost(gang, gangs, nodes, work[0], work[1], ask)
            if real < value[gang]:
                put(gang, gangs, nodes, work[0], work[1], state, walk, ask)
                delta += int(value[gang]) - real
        if delta >= 0:
            gained += delta
            continue
        for i in range(tries):
            if placed[todo[i]] > 0:
                take_out(todo[i], gangs, state, walk, ask)
        for i in range(count):
            gang = removed[i]
            n = old_first[i + 1] - old_first[i]
            put(gang, gangs, n, old_slot[old_first[i] :], old_take[old_first[i] :], state, walk, ask)
    return gained
