"""The laws of orders and failures as functions of a market; each returns what breaks it."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
from msgspec.structs import replace

from engine.domain.errors import WalrasError
from engine.domain.money import share_of_gpu
from engine.market.events import LeaseEnded, LeaseMoved
from engine.market.terms import terms_of
from tests.checker import violations
from tests.market.upkept import RTT, Upkept

LOST = ("NODE_LOST", "SUPPLIER_DRAINED")


def conservation(market: Upkept) -> list[str]:
    """Law 1: free + held + leased + draining + dead (+ used outside) = registered, by other books."""
    inventory = market.state.inventory
    leased, held = Counter[int](), Counter[int]()
    for count, placed in ((leased, running(market)), (held, holding(market))):
        for terms in placed:
            if terms.request.gpu_milli is None:
                count.update(dict(zip(*_placed(terms), strict=True)))
    shared = {(terms.node_numbers[0], terms.card) for terms in everything(market) if terms.card >= 0}
    leased.update(Counter(int(node) for node, _ in shared))
    found = []
    for number, name in enumerate(inventory.node_ids.tolist()):
        unused = int(inventory.nodes.gpu_count[number] - inventory.outside[number]) - leased[number] - held[number]
        free = unused if inventory.state[number] == 0 else 0
        if unused != inventory.unused[number] or unused < 0:
            found.append(f"{name} has {inventory.unused[number]} unused GPUs, by the leases {unused}")
        if free != inventory.pools.free[inventory.pools.slot_of[number]]:
            found.append(f"placements see other free GPUs than {free} on {name}")
    return found


def running(market: Upkept) -> list[Any]:
    """What each lease has now."""
    return [lease.standing for lease in market.state.leases.values() if lease.runs]


def holding(market: Upkept) -> list[Any]:
    """What each quote holds now."""
    return [quote.terms for quote in market.state.quotes.values() if quote.holds]


def everything(market: Upkept) -> list[Any]:
    """Leases and holds."""
    return running(market) + holding(market)


def beside(market: Upkept) -> list[str]:
    """Law 1 for cards, CPU and memory: what leases and holds have, added up anew, is gone, and no more."""
    inventory = market.state.inventory
    cards, taken = Counter[tuple[int, int]](), {name: Counter[int]() for name in ("cpu_milli", "memory_mib")}
    for terms in everything(market):
        request = terms.request
        if request.gpu_milli is not None:
            cards[int(terms.node_numbers[0]), terms.card] += request.gpu_milli
        for name, count in taken.items():
            for node, gpus in zip(*_placed(terms), strict=True):
                count[node] += gpus // request.gpus_per_node * (getattr(request, name) or 0)
    found = [
        f"card {card} of node {node} carries {milli}" for (node, card), milli in cards.items() if milli > 1_000
    ]
    table = {(node, card): left for node, card, left in inventory.spare.cards.table().tolist()}
    if table != {key: 1_000 - milli for key, milli in cards.items()}:
        found.append(f"shared cards are {table}, by the leases {dict(cards)}")
    for name, count in taken.items():
        for node, limit in enumerate(inventory.frame[name].to_list()):
            left = int(getattr(inventory.spare, name)[node])
            gone = int(getattr(inventory, name)[node]) - left
            if gone != count[node] or (limit is not None and left < 0):
                found.append(f"{name} of node {node}: {gone} is gone, by the leases {count[node]}")
    return found


def whole_gangs(market: Upkept) -> list[str]:
    """Law 2: an active lease has all its GPUs."""
    return [
        f"{lease.lease_id} has {lease.standing.gpus_per_node.sum()} of {lease.terms.request.gpu_count}"
        for lease in market.state.leases.values()
        if lease.runs and lease.standing.gpus_per_node.sum() != lease.terms.request.gpu_count
    ]


def constraints(market: Upkept, event: LeaseMoved) -> list[str]:
    """Law 3: where a lease was moved to keeps every constraint, by the checker that shares nothing with the audit.

    Free GPUs and states are those of the moment before; what the lease kept was its own.
    """
    state, inventory = market.state, market.state.inventory
    lease = state.leases[event.lease_id]
    rows, request_of = [], lease.standing.request
    for number, row in enumerate(inventory.frame.iter_rows(named=True)):
        own = dict(zip(*_placed(lease.standing), strict=True)).get(number, 0)
        gone = inventory.state[number] == 2
        size = lease.standing.request.gpus_per_node
        back = {
            name: None if row[name] is None else int(getattr(inventory.spare, name)[number]) + own // size * need
            for name, need in (
                ("cpu_milli", request_of.cpu_milli or 0),
                ("memory_mib", request_of.memory_mib or 0),
            )
        }
        free = int(inventory.unused[number]) + own
        rows.append({**row, **back, "state": "DOWN" if gone else "READY", "gpu_free": free})
    request = {
        name: _plain(getattr(lease.terms.request, name))
        for name in lease.terms.request.__slots__
        if name != "max_price_micro_usd_per_gpu_hour"
    }
    found = violations(rows, RTT, {}, request, market.where(event.lease_id))
    found = [each for each in found if not each.startswith("price")]
    paid = int(np.dot(lease.standing.gpus_per_node, lease.standing.prices))
    if paid > lease.terms.rate_micro_usd_per_hour:
        found.append(f"price: {event.lease_id} would cost {paid}, was {lease.terms.rate_micro_usd_per_hour}")
    return found


def no_ground_lost(market: Upkept) -> list[str]:
    """After the work no lease stands on a DOWN node, nor on one whose notice is over."""
    state, found = market.state, []
    for lease in state.leases.values():
        nodes = lease.standing.node_numbers.tolist() if lease.runs else []
        for number in nodes:
            over = state.liveness.drains.get(number, market.clock_us + 1) <= market.clock_us
            if state.inventory.state[number] == 2 or over:
                found.append(f"{lease.lease_id} is still on {state.inventory.node_ids[number]}")
    return found


def all_told(market: Upkept) -> list[str]:
    """After the work a lease has the notice of the drain that comes first on its nodes, and no other one does."""
    state, found = market.state, []
    for lease in state.leases.values():
        if not lease.runs:
            continue
        ends = [state.liveness.drains.get(number, 2**62) for number in lease.standing.node_numbers.tolist()]
        wanted = (
            ("RECLAIMING", "SUPPLIER_DRAINED", min(ends)) if min(ends) < lease.ends_at_us else ("ACTIVE", "", 0)
        )
        told = lease.state, lease.reclaim_reason, lease.reclaim_at_us
        if told != wanted:
            found.append(f"{lease.lease_id} is told {told}, not {wanted}")
    return found


def refunds(event: LeaseEnded, lease: Any) -> list[str]:
    """A lease lost by its supplier gives back all seconds that had not begun, half up; no more than was paid."""
    if event.reason not in LOST:
        return []
    rest_s = lease.terms.duration_s - -(-(event.ended_at_us - lease.starts_at_us) // 1_000_000)
    if lease.terms.profile is not None or lease.terms.duration_s > 3_600:
        within = 0 <= event.refund_micro_usd <= lease.paid_micro_usd and (event.refund_micro_usd > 0) == (
            rest_s > 0
        )
        return [] if within else [f"refunds {event.refund_micro_usd} of {lease.paid_micro_usd}"]
    wanted = (Fraction(lease.terms.rate_micro_usd_per_hour * rest_s, 3_600) + Fraction(1, 2)).__floor__()
    return [] if event.refund_micro_usd == wanted else [f"refunds {event.refund_micro_usd}, due is {wanted}"]


def given_up(market: Upkept, event: LeaseEnded, lease: Any) -> list[str]:
    """A lease ends by a loss only if its request finds no place whose asks its price covers: tried anew here."""
    if event.reason not in LOST:
        return []
    try:
        request = replace(lease.terms.request, max_price_micro_usd_per_gpu_hour=None)
        place = terms_of(market.state, request, market.book)
    except WalrasError:
        return []
    asks = market.state.inventory.nodes.ask_micro_usd[place.node_numbers]
    asked = share_of_gpu(int(np.dot(place.gpus_per_node, asks)), request.gpu_milli or 1_000)
    covered = asked <= lease.terms.rate_micro_usd_per_hour
    return [f"{event.lease_id} was ended and could have gone on"] if covered else []


def fills(market: Upkept) -> list[str]:
    """No order is filled above its limit, none twice, none without a lease, none after its end."""
    state, found = market.state, []
    leases = Counter(lease.order_id for lease in state.leases.values() if lease.order_id)
    found += [f"{order_id} was filled {count} times" for order_id, count in leases.items() if count > 1]
    for order in state.orders.values():
        if (order.state == "FILLED") != bool(order.lease_id) or (order.state == "OPEN") != (
            order.order_id in state.open_orders
        ):
            found.append(f"{order.order_id} is {order.state} with the lease {order.lease_id!r}")
        lease = state.leases.get(order.lease_id)
        if lease is None:
            continue
        terms, limit = lease.terms, order.limit_micro_usd
        most = Fraction(share_of_gpu(limit, order.request.gpu_share) * terms.duration_s, 3_600)
        if terms.total_micro_usd > most + Fraction(1, 2):
            found.append(f"{order.order_id} pays {terms.total_micro_usd}, its limit makes {most}")
        if lease.starts_at_us >= order.expires_at_us:
            found.append(f"{order.order_id} was filled after its end")
    return found


def none_forgotten(market: Upkept) -> list[str]:
    """After the work no open order could be served: each is tried here, by brute force."""
    found = []
    for order_id in market.state.open_orders:
        order = market.state.orders[order_id]
        try:
            terms_of(market.state, order.request, market.book)
        except WalrasError:
            continue
        if order.expires_at_us > market.clock_us:
            found.append(f"{order_id} could be served and is not")
    return found


def _placed(terms: Any) -> tuple[list[int], list[int]]:
    return terms.node_numbers.tolist(), terms.gpus_per_node.tolist()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return value.name if hasattr(value, "name") else value
