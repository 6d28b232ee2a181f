"""Ruin and recreate: take a few gangs out, put them and some refused ones back in another order, keep what is
better.

A round picks a seed gang. If it is refused, the placement it would have in an empty fleet is cleared of its
occupants, or one of its choices of those who lose least (`evictions`); if it is served, it is taken out with some
of its neighbours on the same nodes. Then the removed gangs and a few refused ones of the same models are put back
one by one, each at the placement of least price (so that scarce nodes are left to those who need them), in the
order of value over price with noise. If a gang that was worth its price finds no place any more, it takes that of
others in the same way (an ejection chain). The round is kept unless welfare falls (ruin and recreate, Schrimpf et
al. 2000; accepting small losses was tried and gained nothing, docs/planning.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel, leaf
from solvers.planning.cheapest import cheapest, true_cost
from solvers.planning.choices import C_FIRST
from solvers.planning.evictions import MOST_REMOVED, in_a_choice, in_the_way, random_below, random_real
from solvers.planning.places import note
from solvers.planning.problem import NO_CARD
from solvers.planning.seats import rise, seat_in, sit

Int = NDArray[np.int64]
Float = NDArray[np.float64]

MOST_TRIED = 4
"""Refused gangs that a round tries to put in, besides its seed."""
MOST_LINKS = 2
"""How often in a round a gang that lost its place may take that of others."""
MOST_OF_ROUND = (MOST_LINKS + 1) * MOST_REMOVED + MOST_TRIED + 2
MOST_PLACES = 200_000
"""Places that the gangs of a round had, all together."""
ORDER_NOISE = 0.4
MOST_PAID = 1.0
"""Rounds put gangs only where market prices ask less than so many times their value: the rest is for others."""
FIRST_OF_ALL = -1e300


@leaf
def put(
    gang: int, gangs: Arrays, count: int, slots: Int, takes: Int, card: int, state: Arrays, walk: Arrays, ask: Int
) -> int:
    """Write a placement of `count` nodes into the state; its cost in asks and moves.

    `card`: that a part takes, NO_CARD for the best.
    """
    first, place_slot, place_take, placed, free, host_first, host, hosts = state[:8]
    size, at = gangs[1][gang], first[gang]
    beside = gangs[14].size > 0
    if beside and gangs[14][gang] > 0:
        slot = slots[0]
        place_slot[at], place_take[at], placed[gang] = slot, 1, 1
        sit(slot, gang, seat_in(slot, gang, gangs, room_of(state)) if card == NO_CARD else card, gangs, state)
        note(slot, walk, free)
        return true_cost(gang, gangs, count, slots, takes, ask)
    for i in range(count):
        slot = slots[i]
        place_slot[at + i], place_take[at + i] = slot, takes[i]
        free[slot] -= takes[i] * size
        note(slot, walk, free)
        host[host_first[slot] + hosts[slot]] = gang
        hosts[slot] += 1
        if beside:
            state[8][slot] -= takes[i] * gangs[12][gang]
            state[9][slot] -= takes[i] * gangs[13][gang]
    placed[gang] = count
    return true_cost(gang, gangs, count, slots, takes, ask)


@leaf
def room_of(state: Arrays) -> Arrays:
    """What is left in a state, as `Prepared.room`. For leaves only: nobody counts what is handed back."""
    return state[4], state[8], state[9], state[10]


@leaf
def take_out(gang: int, gangs: Arrays, state: Arrays, walk: Arrays, ask: Int) -> int:
    """Remove a gang's placement from the state; the asks and moves it no longer pays."""
    first, place_slot, place_take, placed, free, host_first, host, hosts = state[:8]
    size, begin, count = gangs[1][gang], first[gang], placed[gang]
    beside = gangs[14].size > 0
    if beside and gangs[14][gang] > 0:
        rise(place_slot[begin], gang, gangs, state)
        note(place_slot[begin], walk, free)
        placed[gang] = 0
        return true_cost(gang, gangs, count, place_slot[begin:], place_take[begin:], ask)
    for at in range(begin, begin + count):
        slot = place_slot[at]
        if beside:
            state[8][slot] += place_take[at] * gangs[12][gang]
            state[9][slot] += place_take[at] * gangs[13][gang]
        free[slot] += place_take[at] * size
        note(slot, walk, free)
        for i in range(host_first[slot], host_first[slot] + hosts[slot]):
            if host[i] == gang:
                hosts[slot] -= 1
                host[i] = host[host_first[slot] + hosts[slot]]
                break
    placed[gang] = 0
    return true_cost(gang, gangs, count, place_slot[begin:], place_take[begin:], ask)


@leaf
def insert(
    order: Int, gangs: Arrays, shapes: Arrays, supply: Arrays, walk: Arrays, price: Float, ask: Int, value: Float,
    state: Arrays, work: Arrays, most_paid: float,
) -> int:  # fmt: skip
    """Place the gangs that are not placed, in this order, each where its price is least; the welfare gained.

    `most_paid`: who would pay that many times its value or more at these prices stays out.
    """
    room, placed, gained = room_of(state), state[3], 0
    for gang in order:
        if placed[gang] > 0 or gangs[0][gang] == 0:
            continue
        _, nodes, choice = cheapest(gang, gangs, shapes, supply, walk, room, price, value[gang] * most_paid, work)
        if choice >= 0:
            cost = true_cost(gang, gangs, nodes, work[0], work[1], ask)
            if cost < value[gang]:
                put(gang, gangs, nodes, work[0], work[1], NO_CARD, state, walk, ask)
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
    empty_room: Arrays,
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
    todo, key = np.empty(MOST_OF_ROUND, dtype=np.int64), np.empty(MOST_OF_ROUND)
    places = min(place_slot.size, MOST_PLACES)
    old = (
        np.zeros(MOST_OF_ROUND + 1, dtype=np.int64), np.empty(places, np.int64), np.empty(places, np.int64),
        np.empty(places, np.int64),
    )  # fmt: skip
    survey = (
        np.zeros(ask.size, dtype=np.int64), np.zeros(1, dtype=np.int64),
        *(np.empty(placed.size, dtype=np.int64), np.empty(placed.size, dtype=np.int64), np.empty(placed.size)),
    )  # fmt: skip
    gained = 0
    for seed in seeds:
        refused, goes_first = placed[seed] == 0, random_below(random, 2) == 0
        if not refused and random_below(random, 3) == 0:
            model = supply[3][place_slot[first[seed]]]
            count = with_neighbours(seed, todo, mine, gangs, state, random)
        else:
            # Where it would stand in an empty fleet; those who stand there have to go.
            cost, nodes, choice = cheapest(
                seed, gangs, shapes, supply, empty_walk, empty_room, price, np.inf, work
            )
            if choice < 0 or cost >= value[seed]:
                continue
            model = supply[3][work[0][0]]
            if refused and random_below(random, 2) == 0 and not is_part(seed, gangs):
                goes_first = True
                if random_below(random, 2) == 0:
                    choice = drawn_choice(gangs[2][seed], shapes, random)
                    model = supply[3][walk[0][shapes[2][shapes[1][choice, C_FIRST], 0]]]
                count = in_a_choice(
                    seed, choice, todo, mine, gangs, shapes, supply, walk, price, ask, value, weight, state,
                    survey, random,
                )  # fmt: skip
            else:
                count = in_the_way(seed, nodes, todo, mine, gangs, weight, state, work, random)
            if count < 0:
                continue
        count = add_candidates(seed, model, count, todo, mine, refused_of_model, placed, weight, random)
        done, delta, links = 0, 0, 0
        while remember(todo, done, count, old, gangs, state):
            for i in range(done, count):
                if placed[todo[i]] > 0:
                    delta += take_out(todo[i], gangs, state, walk, ask) - int(value[todo[i]])
                key[i] = -weight[todo[i]] * np.exp(ORDER_NOISE * (random_real(random) - 0.5))
                if goes_first and todo[i] == seed:
                    key[i] = FIRST_OF_ALL
            done = count
            order = todo[:done][np.argsort(key[:done])]
            delta += insert(order, gangs, shapes, supply, walk, price, ask, value, state, work, MOST_PAID)
            if delta >= 0 or not refused or placed[seed] == 0 or links == MOST_LINKS:
                break
            # Who lost its place to the seed may take that of others in turn.
            links += 1
            lost = most_lost(todo[:done], old[0], value, weight, placed)
            if lost < 0 or is_part(todo[lost], gangs):
                break
            more = in_a_choice(
                todo[lost], drawn_choice(gangs[2][todo[lost]], shapes, random), todo[done:], mine, gangs, shapes,
                supply, walk, price, ask, value, weight, state, survey, random,
            )  # fmt: skip
            if more < 0:
                break
            key[lost] = FIRST_OF_ALL
            count += more
        mine[2][todo[:count]] = False
        if delta >= 0:
            gained += delta
        else:
            put_back(todo[:done], old, gangs, state, walk, ask)
    return gained


@leaf
def most_lost(gone: Int, old_first: Int, value: Float, weight: Float, placed: Int) -> int:
    """Which of some gangs that were served and are not any more had most above market prices; -1: none had."""
    most, found = 0.0, -1
    for i in range(gone.size):
        gang = gone[i]
        if old_first[i + 1] > old_first[i] and placed[gang] == 0 and weight[gang] > 1.0:
            surplus = value[gang] * (1.0 - 1.0 / weight[gang])
            if surplus > most:
                most, found = surplus, i
    return found


@leaf
def drawn_choice(shape: int, shapes: Arrays, random: NDArray[np.uint64]) -> int:
    """Any of the choices of a shape that has some."""
    first = shapes[0]
    return int(first[shape] + random_below(random, first[shape + 1] - first[shape]))


@leaf
def is_part(gang: int, gangs: Arrays) -> bool:
    """Whether a gang wants a part of a GPU."""
    return bool(gangs[14].size > 0 and gangs[14][gang] > 0)


@leaf
def guest_of(slot: int, gangs: Arrays, state: Arrays, random: NDArray[np.uint64]) -> int:
    """Any of those on a slot where somebody stands."""
    host_first, host, hosts, parts = state[5], state[6], state[7], 0
    if gangs[14].size > 0:
        part = state[12][slot]
        while part >= 0:
            parts += 1
            part = state[13][part]
    place = random_below(random, hosts[slot] + parts)
    if place < hosts[slot]:
        return int(host[host_first[slot] + place])
    part = state[12][slot]
    for _ in range(place - hosts[slot]):
        part = state[13][part]
    return int(part)


@leaf
def with_neighbours(
    seed: int, removed: Int, mine: Arrays, gangs: Arrays, state: Arrays, random: NDArray[np.uint64]
) -> int:
    """List and mark a served gang and up to four that stand beside it; how many they are."""
    first, place_slot, _, placed = state[:4]
    owner, part, marked = mine
    removed[0], count = seed, 1
    marked[seed] = True
    for _ in range(4):
        slot = place_slot[first[seed] + random_below(random, placed[seed])]
        other = guest_of(slot, gangs, state, random)
        if not marked[other] and owner[other] == part:
            marked[other] = True
            removed[count] = other
            count += 1
    return count


@leaf
def remember(todo: Int, begin: int, end: int, old: Arrays, gangs: Arrays, state: Arrays) -> bool:
    """Remember in `old` where the gangs of `todo` from `begin` on stand; False if that is too much for it."""
    first, place_slot, place_take, placed = state[:4]
    old_first, old_slot, old_take, old_card = old
    stored, beside = old_first[begin], gangs[14].size > 0
    for i in range(begin, end):
        gang, card = todo[i], NO_CARD
        if beside and gangs[14][gang] > 0:
            card = state[11][gang]
        if stored + placed[gang] > old_slot.size:
            return False
        for at in range(first[gang], first[gang] + placed[gang]):
            old_slot[stored], old_take[stored] = place_slot[at], place_take[at]
            old_card[stored] = card
            stored += 1
        old_first[i + 1] = stored
    return True


@leaf
def add_candidates(
    seed: int, model: int, count: int, todo: Int, mine: Arrays, refused_of_model: Arrays, placed: Int,
    weight: Float, random: NDArray[np.uint64],
) -> int:  # fmt: skip
    """List and mark, after the removed ones, the seed and some that are not served; how many they are in all.

    Of two that are drawn the one of more weight is taken: most refused gangs are worth too little anywhere.
    """
    model_first, model_gangs = refused_of_model
    owner, part, marked = mine
    if not marked[seed]:
        todo[count] = seed
        marked[seed] = True
        count += 1
    span = model_first[model + 1] - model_first[model]
    for _ in range(MOST_TRIED if span > 0 else 0):
        other = model_gangs[model_first[model] + random_below(random, span)]
        rival = model_gangs[model_first[model] + random_below(random, span)]
        if placed[rival] == 0 and (placed[other] > 0 or weight[rival] > weight[other]):
            other = rival
        if placed[other] == 0 and not marked[other] and owner[other] == part:
            marked[other] = True
            todo[count] = other
            count += 1
    return count


@leaf
def put_back(todo: Int, old: Arrays, gangs: Arrays, state: Arrays, walk: Arrays, ask: Int) -> None:
    """Undo a round: who stands anywhere leaves, and all go where `old` says they stood."""
    old_first, old_slot, old_take, old_card = old
    for i in range(todo.size):
        if state[3][todo[i]] > 0:
            take_out(todo[i], gangs, state, walk, ask)
    for i in range(todo.size):
        at = old_first[i]
        if old_first[i + 1] > at:
            count = old_first[i + 1] - at
            put(todo[i], gangs, count, old_slot[at:], old_take[at:], old_card[at], state, walk, ask)
