"""The audit of a whole plan before it becomes part of the market.

It keeps books of its own from the events alone, so it also finds what no single placement shows: GPUs given twice
within one plan, a move onto GPUs that are not free yet, a lease touched twice.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.market.audit import money_faults, placement_faults
from engine.market.audit_prices import of_part
from engine.market.events import AnyEvent, LeaseEnded, LeaseMoved, LeaseStarted
from engine.market.inventory import Inventory
from engine.market.lease_terms import Terms
from engine.market.state import MarketState

Int = NDArray[np.int64]


Changing = LeaseStarted | LeaseMoved | LeaseEnded


def plan_faults(state: MarketState, events: Sequence[AnyEvent]) -> list[str]:
    """The rules that the first unsound event breaks if they are applied in this order; empty if none does."""
    books, touched = _Books(state.inventory), set[str]()
    for event in events:
        if not isinstance(event, Changing):
            continue
        if faults := ["is changed twice"] if event.lease_id in touched else _faults(state, event, books):
            return [f"leases/{event.lease_id} {fault}" for fault in faults]
        touched.add(event.lease_id)
    return []


class _Books:
    """What is left of every node after the events so far. `fleet`: an inventory that shows it of what is no
    GPU.
    """

    def __init__(self, inventory: Inventory) -> None:
        self.unused = inventory.unused.copy()
        self.fleet = copy.copy(inventory)
        self._is_copied = False

    def book(self, terms: Terms, sign: int) -> None:
        """Add what a lease uses (1), or take it off again (-1)."""
        request, nodes, gpus = terms.request, terms.node_numbers, terms.gpus_per_node
        if not request.is_plain:
            if not self._is_copied:
                self.fleet.spare, self._is_copied = copy.deepcopy(self.fleet.spare), True
            replicas = sign * gpus // request.gpus_per_node
            np.subtract.at(self.fleet.spare.cpu_milli, nodes, replicas * (request.cpu_milli or 0))
            np.subtract.at(self.fleet.spare.memory_mib, nodes, replicas * (request.memory_mib or 0))
        if request.gpu_milli is None:
            np.subtract.at(self.unused, nodes, sign * gpus)
            return
        cards, node = self.fleet.spare.cards, int(nodes[0])
        shared_before = len(cards.of(node))
        if sign > 0:
            cards.take(node, terms.card, request.gpu_milli)
        else:
            cards.give(node, terms.card, request.gpu_milli)
        self.unused[node] -= len(cards.of(node)) - shared_before


def _faults(state: MarketState, event: Changing, books: _Books) -> list[str]:
    """What is wrong with one event; the books are carried on."""
    if not isinstance(event, LeaseStarted):
        books.book(state.leases[event.lease_id].standing, -1)
    if isinstance(event, LeaseEnded):
        return []
    terms = event.terms if isinstance(event, LeaseStarted) else _moved(state, event)
    inventory, nodes = books.fleet, terms.node_numbers
    if not nodes.size or nodes.min() < 0 or nodes.max() >= books.unused.size:
        return ["names a node that does not exist"]
    seen = inventory.glance(nodes)
    faults = placement_faults(inventory, terms, seen._replace(unused=books.unused[nodes]))
    if isinstance(event, LeaseStarted):
        faults += money_faults(terms)
        asks = np.array([of_part(terms.request, ask) for ask in seen.ask_micro_usd.tolist()])
        if (terms.prices < asks).any():
            faults.append("is sold below an ask")
    if not faults:
        books.book(terms, 1)
    return faults


def _moved(state: MarketState, event: LeaseMoved) -> Terms:
    now = state.leases[event.lease_id].standing
    return msgspec.structs.replace(now, nodes=event.nodes, gpus=event.gpus, card=event.card)
