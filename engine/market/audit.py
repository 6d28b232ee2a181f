"""The audit: every placement is checked against its request before it becomes an event.

It shares no code with the solver, on purpose: it reads the inventory's own columns, computes distances by a
formula of its own, and looks at nodes, never at pools. If solver and audit disagree, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.domain.tiers import NodeState
from engine.market.audit_distances import client_rtt_ms, pairwise_rtt_ms
from engine.market.audit_prices import of_part, price_faults
from engine.market.fleet_columns import Glance
from engine.market.inventory import Inventory
from engine.market.lease_terms import Terms
from engine.market.state import MarketState
from engine.market.use import use_of
from solvers.audited import Gang, gang_of

Int = NDArray[np.int64]
TOLERANCE_MS = 1e-6


def faults_of(state: MarketState, terms: Terms, *, at_posted_prices: bool = True, own: bool = False) -> list[str]:
    """Every rule that the placement breaks, in words; empty if it is sound.

    `at_posted_prices`: also check prices against asks and posted prices of now (a quote keeps those of its time).
    `own`: its GPUs are held for it already.
    """
    inventory = state.inventory.sold_as(interruptible=terms.request.interruptible)
    nodes = terms.node_numbers
    if not nodes.size or nodes.min() < 0 or nodes.max() >= inventory.node_ids.size:
        return ["names a node that does not exist"]
    seen = inventory.glance(nodes)
    if own:
        seen = seen.with_own(use_of(terms))
    gpus, prices = terms.gpus_per_node, terms.prices
    rules = *_placement(inventory, terms, nodes, gpus, seen), *_money(terms, gpus, prices)
    faults = [fault for holds, fault in rules if not holds]
    if at_posted_prices:
        faults += price_faults(inventory, terms, gpus, prices, seen)
    return faults


def placement_faults(inventory: Inventory, terms: Terms, seen: Glance) -> list[str]:
    """Every rule that the GPUs on existing nodes break; `seen` says what is free there."""
    rules = _placement(inventory, terms, terms.node_numbers, terms.gpus_per_node, seen)
    return [fault for holds, fault in rules if not holds]


def money_faults(terms: Terms) -> list[str]:
    """Every rule that the sums of the terms break."""
    return [fault for holds, fault in _money(terms, terms.gpus_per_node, terms.prices) if not holds]


def node_faults(inventory: Inventory, request: ClusterRequest, nodes: Int, seen: Glance) -> list[str]:
    """Every rule of a request that nodes break one by one: their models, what they are, where they stand."""
    rules = (
        *_models(inventory, request, seen.model, mixed=True),
        *_node_rules(inventory, request, nodes),
        *_location(inventory, request, seen.site),
    )
    return [fault for holds, fault in rules if not holds]


Rules = Iterator[tuple[bool, str]]


def _placement(inventory: Inventory, terms: Terms, nodes: Int, gpus: Int, seen: Glance) -> Rules:
    request = terms.request
    gang = gang_of(seen.rank, seen.state, seen.unused, seen.model, gpus)
    yield from _capacity(request, seen, gpus, gang)
    yield from _beside(inventory, terms, seen)
    models = seen.model[:1] if gang.one_model else seen.model
    yield from _models(inventory, request, models, mixed=request.allow_mixed_models)
    yield from _node_rules(inventory, request, nodes)
    yield from _location(inventory, request, seen.site)
    yield from _together(inventory, request, nodes, gpus)


def _capacity(request: ClusterRequest, seen: Glance, gpus: Int, gang: Gang) -> Rules:
    yield gang.in_order, "names a node twice, or nodes out of the order of their ids"
    yield gang.gpus == request.gpu_count, "does not place the whole gang"
    yield gang.least_gpus > 0, "takes no GPU from a node"
    if request.gpus_per_node > 1:
        yield not (gpus % request.gpus_per_node).any(), "splits a replica between nodes"
    if request.gpu_milli is None:
        yield gang.is_free, "takes more GPUs than are free"
    yield gang.one_state and int(seen.state[0]) == int(NodeState.READY), "uses a node that is not READY"


def _beside(inventory: Inventory, terms: Terms, seen: Glance) -> Rules:
    """CPU and memory by node, and the card that a part stands on."""
    request, nodes, spare = terms.request, terms.node_numbers, inventory.spare
    yield (terms.card >= 0) == (request.gpu_milli is not None), "names a card without need, or none where it must"
    if request.is_plain:
        return
    replicas = terms.gpus_per_node // request.gpus_per_node
    for wanted, left, own, name in (
        (request.cpu_milli, spare.cpu_milli, seen.own.cpu_milli if seen.own else 0, "CPU"),
        (request.memory_mib, spare.memory_mib, seen.own.memory_mib if seen.own else 0, "memory"),
    ):
        if wanted is not None:
            back = own * seen.own.replicas if seen.own else 0
            yield bool((replicas * wanted <= left[nodes] + back).all()), f"takes more {name} than is left"
    if request.gpu_milli is not None:
        yield from _on_card(inventory, terms, seen)


def _on_card(inventory: Inventory, terms: Terms, seen: Glance) -> Rules:
    """A part stands on one card of one node, with room for it; a card that is not shared must be unused."""
    yield terms.node_numbers.size == 1, "spreads a part of a GPU over nodes"
    node = int(terms.node_numbers[0])
    yield terms.card < inventory.nodes.gpu_count[node], "stands on a card that its node does not have"
    left = inventory.spare.cards.of(node).get(terms.card)
    if left is None:
        yield int(seen.unused[0]) >= 1, "takes more GPUs than are free"
        return
    own = seen.own
    back = own.gpu_milli if own is not None and own.card == terms.card else 0
    yield left + back >= (terms.request.gpu_milli or 0), "takes more of a card than is left of it"


def _models(inventory: Inventory, request: ClusterRequest, model: Int, *, mixed: bool) -> Rules:
    one = bool((model == model[0]).all())
    if request.gpu_models:
        used = {inventory.models.names[code] for code in (model[:1] if one else np.unique(model)).tolist()}
        yield used <= set(request.gpu_models), "uses a GPU model that was not asked for"
    yield one or mixed, "mixes GPU models"


def _node_rules(inventory: Inventory, request: ClusterRequest, nodes: Int) -> Rules:
    columns = inventory.nodes
    if request.min_security_tier is not None:
        yield bool((columns.tier[nodes] >= request.min_security_tier).all()), "is below the security tier"
    for name in request.certifications:
        bit = inventory.certifications.code.get(name)
        held = bit is not None and bool(((columns.certifications[nodes] >> bit) & 1).all())
        yield held, f"uses a node without {name}"
    if request.min_connectivity_tier is not None:
        enough = columns.connectivity[nodes] >= request.min_connectivity_tier
        yield bool(enough.all()), "is below the connectivity tier"
    if request.min_interconnect is not None:
        yield bool((columns.interconnect[nodes] >= request.min_interconnect).all()), "is below the interconnect"
    if request.min_reliability is not None:
        yield bool((columns.reliability[nodes] >= request.min_reliability).all()), "is below the reliability"
    if request.allowed_suppliers or request.excluded_suppliers:
        suppliers = {inventory.suppliers.names[code] for code in set(columns.supplier[nodes].tolist())}
        allowed = not request.allowed_suppliers or suppliers <= set(request.allowed_suppliers)
        yield allowed, "uses a supplier that was not allowed"
        yield not suppliers & set(request.excluded_suppliers), "uses an excluded supplier"


def _location(inventory: Inventory, request: ClusterRequest, site_of_node: Int) -> Rules:
    limits = request.max_client_rtt_ms, request.max_cluster_rtt_ms
    wanted = bool(request.regions or request.countries or request.sites)
    barred = bool(request.excluded_regions or request.excluded_countries or request.excluded_sites)
    if not wanted and not barred and limits == (None, None):
        return
    used = np.unique(site_of_node)
    for site in used.tolist() if wanted or barred else ():
        yield from _site_rules(inventory, request, site, wanted)
    if request.max_client_rtt_ms is not None:
        rtt = client_rtt_ms(inventory, request, used)
        near = bool((rtt <= request.max_client_rtt_ms + TOLERANCE_MS).all())
        yield near, "is too far from the client"
    if request.max_cluster_rtt_ms is not None:
        rtt = pairwise_rtt_ms(inventory, used)
        near = bool((rtt <= request.max_cluster_rtt_ms + TOLERANCE_MS).all())
        yield near, "uses two sites that are too far from each other"


def _site_rules(inventory: Inventory, request: ClusterRequest, site: int, wanted: bool) -> Rules:
    sites = inventory.sites
    name = sites.names.names[site]
    region = inventory.regions.names[sites.region[site]]
    country = inventory.countries.names[sites.country[site]]
    if wanted:
        named = region in request.regions or country in request.countries or name in request.sites
        yield named, f"uses {name}, which no location list names"
    barred = (
        region in request.excluded_regions
        or country in request.excluded_countries
        or name in request.excluded_sites
    )
    yield not barred, f"uses {name}, which is excluded"


def _together(inventory: Inventory, request: ClusterRequest, nodes: Int, gpus: Int) -> Rules:
    columns = inventory.nodes
    if request.same_fabric:
        fabrics = columns.fabric[nodes]
        yield int(fabrics[0]) >= 0 and bool((fabrics == fabrics[0]).all()), "is not on one fabric"
    if request.max_supplier_share is not None:
        given = np.bincount(columns.supplier[nodes], weights=gpus)
        limit = np.floor(request.max_supplier_share * request.gpu_count + 1e-9)
        yield bool((given <= limit).all()), "takes more than its share from a supplier"


def _money(terms: Terms, gpus: Int, prices: Int) -> Rules:
    rate, request_gpus = int(np.dot(gpus, prices)), terms.request.gpu_count
    yield rate == terms.rate_micro_usd_per_hour, "has a rate that is not the sum of its parts"
    unheld = terms.total_micro_usd - terms.spread_micro_usd
    bands: dict[tuple[int, int], int] = {}
    for line in terms.lines:
        if line.kind in ("", "GPU_HOURS"):
            bands[line.from_s, line.to_s] = bands.get((line.from_s, line.to_s), 0) + line.gpus
    rounding = 3_600 if len(bands) == 1 else 3_600 + request_gpus * terms.duration_s
    off = abs(unheld * 3_600 - rate * terms.duration_s)
    yield off * 2 <= rounding, "has a total that is not its rate times its duration"
    itemised = sum(line.amount_micro_usd for line in terms.lines)
    yield itemised == terms.total_micro_usd, "has lines that miss the total"
    yield set(bands.values()) == {request_gpus}, "has lines that miss GPUs"
    yield terms.lower_bound_micro_usd_per_hour <= rate, "has a bound above its rate"
    yield terms.spread_micro_usd >= 0, "has a negative spread"
    budget = terms.request.budget_micro_usd
    yield budget is None or terms.total_micro_usd <= budget, "is above the budget"
    cap = terms.request.max_price_micro_usd_per_gpu_hour
    if cap is not None:
        averaged = request_gpus if len(bands) > 1 else 0
        most = of_part(terms.request, cap * request_gpus)
        within = terms.total_micro_usd * 7_200 <= 2 * most * terms.duration_s + 3_600
        yield within and 2 * rate <= 2 * most + averaged, "is above the price cap"
