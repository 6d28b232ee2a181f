"""Insisting on gangs with much regret: one goes first and stays while the others are searched anew around it.

A round of the search is undone if it loses. Where a gang of 1,024 GPUs sends away some twenty, each of which has
to find another place by sending away others, no single round gains; several do, one after the other. So a gang is
worth more than all others together for a few hundred rounds, and what comes of them is kept if it is better by its
true worth.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.planning.cheapest import true_cost
from solvers.planning.problem import NO_CARD
from solvers.planning.search import is_part, put, take_out

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Rounds = Callable[[Int, Float], None]
"""Rounds of the search that begin with some gangs, at these values of all."""

FIRST_ROUNDS, ROUNDS = 4, 300
"""Rounds that begin with the gang itself; then those that are drawn by the regret that is left."""
MOST_FAILURES = 2
"""So often a gang is insisted on in vain in one part of one pass."""
INSISTENCE = 1e14
"""More than any welfare, and less than what must stay served is worth."""


def insist(
    tries: int, mine: Int, gangs: Arrays, ask: Int, price: Float, wish: Float, value: Float, state: Arrays,
    walk: Arrays, search: Rounds, random: np.random.Generator,
) -> None:  # fmt: skip
    """Insist on one after the other of the gangs `mine`, who has the most regret first, `tries` times in all.

    `price` (slots,): the market's; `wish` (gangs,): what each gang could have at them at best, 0 where nobody
    insists on it.
    """
    regret, failures = np.empty(mine.size), np.zeros(mine.size, dtype=np.int64)
    for _ in range(tries):
        regrets_of(mine, gangs, price, wish, value, state, regret)
        chance = np.where(failures < MOST_FAILURES, regret, 0.0) ** 2
        if not chance.any():
            return
        at = int(random.choice(mine.size, p=chance / chance.sum()))
        gang, before = mine[at], tuple(array.copy() for array in (*state[1:4], state[11]))
        if state[3][gang] > 0:
            take_out(gang, gangs, state, walk, ask)
        insistent = value.copy()
        insistent[gang] += INSISTENCE
        search(np.full(FIRST_ROUNDS, gang), insistent)
        regrets_of(mine, gangs, price, wish, value, state, regret)
        if regret.sum() > 0.0:
            search(random.choice(mine, ROUNDS, p=regret / regret.sum()), insistent)
        failures[at] += keep_if_better(mine, before, gangs, value, state, walk, ask) <= 0


@kernel
def regrets_of(
    mine: Int, gangs: Arrays, price: Float, wish: Float, value: Float, state: Arrays, regret: Float
) -> None:
    """What each of the gangs `mine` lacks to its wish, as it stands at `price`, into `regret` (mine,)."""
    first, place_slot, place_take, placed = state[:4]
    for i in range(mine.size):
        gang, gained = mine[i], 0.0
        if placed[gang] > 0:
            gained = value[gang]
            for at in range(first[gang], first[gang] + placed[gang]):
                gained -= place_take[at] * gangs[1][gang] * price[place_slot[at]]
        regret[i] = 0.0 if is_part(gang, gangs) else max(wish[gang] - gained, 0.0)


@kernel
def keep_if_better(
    mine: Int, before: Arrays, gangs: Arrays, value: Float, state: Arrays, walk: Arrays, ask: Int
) -> int:
    """The welfare gained since `before` (slots and replicas of places, places in use, cards); if none is, all goes
    back.
    """
    first, place_slot, place_take, placed = state[:4]
    slot, take, count, card = before
    changed, found, gained = np.empty(mine.size, dtype=np.int64), 0, 0
    for gang in mine:
        begin, end = first[gang], first[gang] + count[gang]
        same = placed[gang] == count[gang] and (card.size == 0 or card[gang] == state[11][gang])
        for at in range(begin, end):
            same = same and place_slot[at] == slot[at] and place_take[at] == take[at]
        if same:
            continue
        changed[found] = gang
        found += 1
        if placed[gang] > 0:
            cost = true_cost(gang, gangs, placed[gang], place_slot[begin:], place_take[begin:], ask)
            gained += int(value[gang]) - cost
        if count[gang] > 0:
            gained -= int(value[gang]) - true_cost(gang, gangs, count[gang], slot[begin:], take[begin:], ask)
    if gained > 0:
        return gained
    for gang in changed[:found]:
        if placed[gang] > 0:
            take_out(gang, gangs, state, walk, ask)
    for gang in changed[:found]:
        if count[gang] > 0:
            begin = first[gang]
            own = card[gang] if card.size else NO_CARD
            put(gang, gangs, count[gang], slot[begin:], take[begin:], own, state, walk, ask)
    return 0
