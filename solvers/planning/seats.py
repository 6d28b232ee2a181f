"""Parts of GPUs, CPU and memory in a plan: where they have room, and the card that a part takes.

A *part* wants some thousandths of one card. On a node it takes, of the cards that others share already, the one
with the least room that holds it (best fit), else the first that is unused; where it runs, its own card or none:
going from card to card of one node would be a move, too. A card that the last part leaves is a GPU again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, leaf
from solvers.planning.choices import C_FABRIC, C_FIRST, C_LAST, C_MASK, C_MODEL
from solvers.planning.problem import MILLI, NO_CARD, UNSHARED

Int = NDArray[np.int64]
INFINITE = np.inf
NO_GANG = -1


@leaf
def share(price: int, milli: int) -> int:
    """What a part pays of the price of a GPU, rounded up."""
    return -(-price * milli // MILLI)


@leaf
def replicas_in(slot: int, gang: int, gangs: Arrays, room: Arrays) -> int:
    """Replicas of a gang of whole GPUs that a slot has room for."""
    cpu, memory = gangs[12][gang], gangs[13][gang]
    most = room[0][slot] // gangs[1][gang]
    if cpu > 0:
        most = min(most, room[1][slot] // cpu)
    if memory > 0:
        most = min(most, room[2][slot] // memory)
    return int(max(most, 0))


@leaf
def seat_in(slot: int, gang: int, gangs: Arrays, room: Arrays) -> int:
    """The card of a slot that a part would take, NO_CARD if it has no room."""
    free, cpu_left, memory_left, left = room
    milli, cards = gangs[14][gang], left.size // free.size
    if cpu_left[slot] < gangs[12][gang] or memory_left[slot] < gangs[13][gang]:
        return NO_CARD
    own = gangs[4][gang]
    if own < gangs[4][gang + 1] and gangs[5][own] == slot:
        card = gangs[15][own]
        here = left[slot * cards + card]
        return card if here >= milli or (here == UNSHARED and free[slot] > 0) else NO_CARD
    best, best_left = NO_CARD, MILLI + 1
    for card in range(cards):
        here = left[slot * cards + card]
        if milli <= here < best_left:
            best, best_left = card, here
    if best == NO_CARD and free[slot] > 0:
        for card in range(cards):
            if left[slot * cards + card] == UNSHARED:
                return card
    return best


@leaf
def sit(slot: int, gang: int, card: int, gangs: Arrays, state: Arrays) -> None:
    """Put a part on a card that has room."""
    free, cpu_left, memory_left, left, card_of, first_part, next_part = (
        state[4], state[8], state[9], state[10], state[11], state[12], state[13],
    )  # fmt: skip
    cell = slot * (left.size // free.size) + card
    if left[cell] == UNSHARED:
        left[cell] = MILLI
        free[slot] -= 1
    left[cell] -= gangs[14][gang]
    cpu_left[slot] -= gangs[12][gang]
    memory_left[slot] -= gangs[13][gang]
    card_of[gang] = card
    next_part[gang] = first_part[slot]
    first_part[slot] = gang


@leaf
def rise(slot: int, gang: int, gangs: Arrays, state: Arrays) -> None:
    """Take a part off its card."""
    free, cpu_left, memory_left, left, card_of, first_part, next_part = (
        state[4], state[8], state[9], state[10], state[11], state[12], state[13],
    )  # fmt: skip
    cell = slot * (left.size // free.size) + card_of[gang]
    left[cell] += gangs[14][gang]
    if left[cell] == MILLI:
        left[cell] = UNSHARED
        free[slot] += 1
    cpu_left[slot] += gangs[12][gang]
    memory_left[slot] += gangs[13][gang]
    if first_part[slot] == gang:
        first_part[slot] = next_part[gang]
    else:
        before = first_part[slot]
        while next_part[before] != gang:
            before = next_part[before]
        next_part[before] = next_part[gang]
    next_part[gang] = NO_GANG


@leaf
def has_room_without(
    slot: int, gang: int, wanted: int, marked: NDArray[np.bool_], gangs: Arrays, state: Arrays
) -> bool:
    """Whether a slot had room for `wanted` replicas of a gang if all marked gangs had left it."""
    free, host_first, host, hosts = state[4][slot], state[5], state[6], state[7]
    first, place_slot, place_take, placed = state[:4]
    left, card_of, first_part, next_part = state[10], state[11], state[12], state[13]
    cpu, memory = state[8][slot], state[9][slot]
    for i in range(host_first[slot], host_first[slot] + hosts[slot]):
        other = host[i]
        if marked[other]:
            for at in range(first[other], first[other] + placed[other]):
                if place_slot[at] == slot:
                    free += place_take[at] * gangs[1][other]
                    cpu += place_take[at] * gangs[12][other]
                    memory += place_take[at] * gangs[13][other]
    cards, milli = left.size // state[4].size, gangs[14][gang]
    seats = False
    other = first_part[slot] if cards > 0 else NO_GANG
    while other != NO_GANG:
        if marked[other]:
            cpu += gangs[12][other]
            memory += gangs[13][other]
        other = next_part[other]
    for card in range(cards):
        here = left[slot * cards + card]
        if here == UNSHARED:
            continue
        other = first_part[slot]
        while other != NO_GANG:
            if marked[other] and card_of[other] == card:
                here += gangs[14][other]
            other = next_part[other]
        free += here == MILLI
        seats = seats or here >= milli
    if gangs[12][gang] * wanted > cpu or gangs[13][gang] * wanted > memory:
        return False
    if milli > 0:
        return bool(seats or free > 0)
    return bool(free >= wanted * gangs[1][gang])


@leaf
def cheapest_seat(
    gang: int, gangs: Arrays, shapes: Arrays, supply: Arrays, walk: Arrays, room: Arrays,
    price: NDArray[np.float64], most: float, work: Arrays,
) -> tuple[float, int, int]:  # fmt: skip
    """`solvers.planning.cheapest.cheapest` for a part; the card is chosen when it is put there."""
    first, table, segments, masks, bits = shapes
    row_of, site_of, _, model_of, fabric_of = supply
    part, mine, own = gangs[14][gang] / MILLI, bits[gangs[2][gang]], -1
    if gangs[4][gang] < gangs[4][gang + 1]:
        own = gangs[5][gangs[4][gang]]
    best, best_slot, best_choice = most, -1, -1
    if 0 <= gangs[3][gang] < 1 or gangs[0][gang] == 0:
        return (INFINITE, 0, -1) if gangs[0][gang] > 0 else (0.0, 0, -1)
    one = np.uint64(1)
    for choice in range(first[gangs[2][gang]], first[gangs[2][gang] + 1]):
        mask = table[choice, C_MASK]
        if (
            own >= 0
            and (table[choice, C_MODEL] < 0 or model_of[own] == table[choice, C_MODEL])
            and (table[choice, C_FABRIC] < 0 or fabric_of[own] == table[choice, C_FABRIC])
            and (mask < 0 or masks[mask, site_of[own]])
            and (mine[row_of[own] >> 6] >> np.uint64(row_of[own] & 63)) & one
            and price[own] * part - gangs[8][gang] < best
            and seat_in(own, gang, gangs, room) != NO_CARD
        ):
            best, best_slot, best_choice = price[own] * part - gangs[8][gang], own, choice
        for k in range(table[choice, C_FIRST], table[choice, C_LAST]):
            for at in range(segments[k, 0], segments[k, 1]):
                slot, row = walk[0][at], walk[1][at]
                if price[slot] * part >= best:
                    break
                if not (mine[row >> 6] >> np.uint64(row & 63)) & one or slot == own:
                    continue
                if (mask < 0 or masks[mask, site_of[slot]]) and seat_in(slot, gang, gangs, room) != NO_CARD:
                    best, best_slot, best_choice = price[slot] * part, slot, choice
                    break
    if best_choice < 0:
        return INFINITE, 0, -1
    work[0][0], work[1][0] = best_slot, 1
    return best, 1, best_choice
