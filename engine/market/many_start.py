"""Applying that many leases began together: what applying each of them does, over the columns of the event."""

from __future__ import annotations

import heapq

import numpy as np

from engine.market.changes import LEASE
from engine.market.events import LeasesStarted
from engine.market.many_leases import column, kinds_of, lease_ids_of, spans_of, terms_of_many
from engine.market.state import MarketState, started
from engine.market.use import Use


def start_many(state: MarketState, event: LeasesStarted) -> None:
    """The leases run."""
    tenant_id, lease_ids, terms_of = event.tenant_id, lease_ids_of(event), terms_of_many(event)
    kinds, sizes = kinds_of(event), column(event.size_of).tolist()
    for number, (lease_id, terms, size) in enumerate(zip(lease_ids, terms_of, sizes, strict=True), event.first):
        lease = started(lease_id, tenant_id, terms, event.at_us)
        lease.retry_on_loss_s = kinds[size].retry_on_loss_s
        state.leases[lease_id] = lease
        heapq.heappush(state.due, (lease.ends_at_us, lease_id))
        state.changes.note(number, LEASE, tenant_id, lease_id)
    state.leases_of.setdefault(tenant_id, {}).update(dict.fromkeys(lease_ids))
    state.active += event.count
    _take(state, event)
    _note_demand(state, event, lease_ids)
    _remember(state, event, lease_ids)
    totals, credited = (column(each, "<i8").tolist() for each in (event.totals_micro_usd, event.credits_micro_usd))
    state.books.begin(event.at_us, list(spans_of(event, lease_ids)), totals, credited)


def _take(state: MarketState, event: LeasesStarted) -> None:
    nodes, place = np.unique(column(event.nodes), return_inverse=True)
    gpus = np.zeros(nodes.size, dtype=np.int64)
    np.add.at(gpus, place, column(event.gpus))
    state.inventory.take(Use(nodes, gpus))


def _note_demand(state: MarketState, event: LeasesStarted, lease_ids: list[str]) -> None:
    kinds, sizes = kinds_of(event), column(event.size_of).tolist()
    wanted = {size: state.demand.serve(event.at_us, event.tenant_id, kinds[size].request) for size in set(sizes)}
    state.demand.leased.update(zip(lease_ids, (wanted[size] for size in sizes), strict=True))


def _remember(state: MarketState, event: LeasesStarted, lease_ids: list[str]) -> None:
    for lease_id, key, size in zip(lease_ids, event.keys, column(event.size_of).tolist(), strict=True):
        if key:
            name = (event.tenant_id, event.method, key)
            state.subjects[name] = (event.sizes[size][1], lease_id)
            state.keys_of[lease_id] = [name]
