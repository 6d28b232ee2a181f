"""Which standing orders could use what was freed, and at which least price: columns in, flags out.

An order is a row of columns: what it asks of single nodes, in codes. Three questions are answered without placing
anything, each a necessary condition for a placement: an order that stays asleep could not have been served.

- `could_use`: does any of some nodes pass the order's filters, with room for a replica?
- `least_asks`: which markets could serve it, and at which least ask? No placement averages less than the cheapest.
- `could_hold`: do the pools that pass have room for the whole gang, and at its limit?

Cost: orders × nodes for the first, orders × pools of their models for the others, about 3 ns each; a caller bounds
both. Joint constraints (one fabric, close sites, a supplier's share) are left to the placement itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.pools import CERTIFICATIONS, CONNECTIVITY, FABRIC, INTERCONNECT, MARKET, MIXED, SITE, SUPPLIER, TIER

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]
Float = NDArray[np.float64]

# Columns of an order's row.
REPLICA, GPUS, MIN_TIER, MIN_CERTIFICATIONS, MIN_CONNECTIVITY, MIN_INTERCONNECT = range(6)
ON_FABRIC, SITE_ROW, SUPPLIER_ROW, IS_SHORT, ONE_MODEL, LIMIT = range(6, 12)
ORDER_COLUMNS = 12
NO_ROOM, TOO_DEAR, MAYBE = range(3)
ANY_SUPPLIER = -1
"""Value of SUPPLIER_ROW in an order that takes all of them."""
NO_PRICE = np.iinfo(np.int64).max


@kernel
def could_use(orders: Arrays, chosen: Int, nodes: Arrays) -> Flags:
    """Which of the `chosen` orders some node serves in part.

    `orders`: row (orders, ORDER_COLUMNS), reliability (orders,), models (orders, models) and the distinct sets of
    sites (rows, sites) and suppliers (rows, suppliers). `nodes`: model, site, tier, certifications, connectivity,
    interconnect, fabric, supplier, reliability, free GPUs; (nodes,) each.
    """
    row, reliability, models, sites, suppliers = orders
    model, site, tier, certifications, connectivity, interconnect, fabric, supplier, reliable, free = nodes
    found = np.zeros(chosen.size, dtype=np.bool_)
    for index in range(chosen.size):
        order = chosen[index]
        own = row[order]
        for node in range(model.size):
            if (
                models[order, model[node]]
                and free[node] >= own[REPLICA]
                and sites[own[SITE_ROW], site[node]]
                and tier[node] >= own[MIN_TIER]
                and (certifications[node] & own[MIN_CERTIFICATIONS]) == own[MIN_CERTIFICATIONS]
                and connectivity[node] >= own[MIN_CONNECTIVITY]
                and interconnect[node] >= own[MIN_INTERCONNECT]
                and (own[ON_FABRIC] == 0 or fabric[node] >= 0)
                and reliable[node] >= reliability[order]
                and (own[SUPPLIER_ROW] == ANY_SUPPLIER or suppliers[own[SUPPLIER_ROW], supplier[node]])
            ):
                found[index] = True
                break
    return found


@kernel
def pool_passes(orders: Arrays, order: int, table: Int, reliability_high: Float, pool: int) -> bool:
    """Whether some node of a pool may pass an order's filters; its model is not looked at."""
    row, reliability, _, sites, suppliers = orders
    own, its = row[order], table[pool]
    if (
        not sites[own[SITE_ROW], its[SITE]]
        or its[TIER] < own[MIN_TIER]
        or (its[CERTIFICATIONS] & own[MIN_CERTIFICATIONS]) != own[MIN_CERTIFICATIONS]
        or its[CONNECTIVITY] < own[MIN_CONNECTIVITY]
        or its[INTERCONNECT] < own[MIN_INTERCONNECT]
        or (own[ON_FABRIC] == 1 and its[FABRIC] < 0)
        or reliability_high[pool] < reliability[order]
    ):
        return False
    if own[SUPPLIER_ROW] == ANY_SUPPLIER or its[SUPPLIER] == MIXED:
        return True
    return bool(suppliers[own[SUPPLIER_ROW], its[SUPPLIER]])


@kernel
def least_asks(
    orders: Arrays,
    order: int,
    table: Int,
    reliability_high: Float,
    model_start: Int,
    first_ask: Int,
    by_market: Int,
) -> tuple[Int, Int]:
    """(markets that an order may use, the least ask of the pools that pass in each), both (markets used,).

    `first_ask` (pools,). `by_market` (markets,) is NO_PRICE throughout, on entry and afterwards. None of it moves
    with prices: a market's price of the day is compared with its ask alone, without another look at the pools.
    """
    models, markets, found = orders[2], np.empty(by_market.size, dtype=np.int64), 0
    for model in range(models.shape[1]):
        if not models[order, model]:
            continue
        for pool in range(model_start[model], model_start[model + 1]):
            if pool_passes(orders, order, table, reliability_high, pool):
                market = table[pool, MARKET]
                if by_market[market] == NO_PRICE:
                    markets[found] = market
                    found += 1
                by_market[market] = min(by_market[market], first_ask[pool])
    used = markets[:found].copy()
    asks = by_market[used]
    by_market[used] = NO_PRICE
    return used, asks


@kernel
def could_hold(
    orders: Arrays,
    chosen: Int,
    table: Int,
    reliability_high: Float,
    model_start: Int,
    supply: Arrays,
    room_of: Int,
) -> Int:
    """NO_ROOM, TOO_DEAR or MAYBE for each chosen order: an upper bound of its room, a lower bound of its cost.

    `supply`: `prices` (3, pools): no node of the pool is cheaper, for a long duration, for a short one, and at
    asks alone; `by_price` (3, pools): each model's pools, cheapest first, for each of them; `room` (sizes, pools):
    GPUs in whole replicas of each size; `room_of` (chosen,): an order's size.
    """
    prices, by_price, room = supply
    models = orders[2]
    found = np.full(chosen.size, NO_ROOM)
    for index in range(chosen.size):
        order, own_room = chosen[index], room[room_of[index]]
        own = orders[0][order]
        kind, wanted, together = own[IS_SHORT], own[GPUS], 0
        for model in range(models.shape[1]):
            if not models[order, model] or found[index] == MAYBE:
                continue
            first, last = model_start[model], model_start[model + 1]
            if own[ON_FABRIC] == 1:
                gpus = most_on_a_fabric(orders, order, table, reliability_high, first, last, own_room)
                found[index] = max(found[index], MAYBE if gpus >= wanted else NO_ROOM)
                continue
            gpus, cost = 0, 0
            for place in range(first, last):
                pool = by_price[kind, place]
                if own_room[pool] > 0 and pool_passes(orders, order, table, reliability_high, pool):
                    taken = min(own_room[pool], wanted - gpus)
                    gpus, cost = gpus + taken, cost + taken * prices[kind, pool]
                    if gpus == wanted:
                        break
            together += gpus
            if gpus == wanted:
                found[index] = max(found[index], TOO_DEAR if cost > wanted * own[LIMIT] else MAYBE)
        if own[ONE_MODEL] == 0 and together >= wanted:
            found[index] = MAYBE
    return found


@kernel
def most_on_a_fabric(
    orders: Arrays, order: int, table: Int, reliability_high: Float, first: int, last: int, room: Int
) -> int:
    """The most GPUs that one fabric of a model has room for; its pools stand together, fabric by fabric."""
    most, gpus, fabric = 0, 0, -1
    for pool in range(first, last):
        if table[pool, FABRIC] != fabric:
            gpus, fabric = 0, table[pool, FABRIC]
        if room[pool] > 0 and pool_passes(orders, order, table, reliability_high, pool):
            gpus += room[pool]
            most = max(most, gpus)
    return most


@kernel
def room_by_pool(pool_of: Int, free: Int, replica: int, room: Int) -> None:
    """Add up, per pool, the GPUs of whole replicas that fit now; `room` (pools,) is zeros on entry."""
    for slot in range(pool_of.size):
        if free[slot] >= replica:
            room[pool_of[slot]] += free[slot] // replica * replica
