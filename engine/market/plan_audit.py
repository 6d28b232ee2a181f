"""The audit of a whole plan before it becomes part of the market.

It keeps books of its own from the events alone, so it also finds what no single placement shows: GPUs given twice
within one plan, a move onto GPUs that are not free yet, a lease touched twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.market.audit import money_faults, placement_faults
from engine.market.events import AnyEvent, LeaseEnded, LeaseMoved, LeaseStarted, Terms
from engine.market.state import MarketState

Int = NDArray[np.int64]


Changing = LeaseStarted | LeaseMoved | LeaseEnded


def plan_faults(state: MarketState, events: Sequence[AnyEvent]) -> list[str]:
    """The rules that the first unsound event breaks if they are applied in this order; empty if none does."""
    unused, touched = state.inventory.unused.copy(), set[str]()
    for event in events:
        if not isinstance(event, Changing):
            continue
        if faults := ["is changed twice"] if event.lease_id in touched else _faults(state, event, unused):
            return [f"leases/{event.lease_id} {fault}" for fault in faults]
        touched.add(event.lease_id)
    return []


def _faults(state: MarketState, event: Changing, unused: Int) -> list[str]:
    """What is wrong with one event; `unused` (nodes,) is carried on, in place. It knows whole GPUs alone."""
    own = event.terms if isinstance(event, LeaseStarted) else state.leases[event.lease_id].standing
    if not own.request.is_plain:
        return ["has a part of a GPU, CPU or memory"]
    if not isinstance(event, LeaseStarted):
        left = state.leases[event.lease_id].standing
        np.add.at(unused, left.node_numbers, left.gpus_per_node)
    if isinstance(event, LeaseEnded):
        return []
    terms = event.terms if isinstance(event, LeaseStarted) else _moved(state, event)
    inventory, nodes = state.inventory, terms.node_numbers
    if not nodes.size or nodes.min() < 0 or nodes.max() >= unused.size:
        return ["names a node that does not exist"]
    seen = inventory.glance(nodes)
    faults = placement_faults(inventory, terms, seen._replace(unused=unused[nodes]))
    if isinstance(event, LeaseStarted):
        faults += money_faults(terms)
        if (terms.prices < seen.ask_micro_usd).any():
            faults.append("is sold below an ask")
    np.subtract.at(unused, nodes, terms.gpus_per_node)
    return faults


def _moved(state: MarketState, event: LeaseMoved) -> Terms:
    return msgspec.structs.replace(state.leases[event.lease_id].standing, nodes=event.nodes, gpus=event.gpus)
