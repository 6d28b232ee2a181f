"""From a cluster request in words to a demand in codes, as the solver takes it."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest, wish_of
from engine.domain.errors import InvalidInput, Refused, Violation
from engine.market.inventory import Inventory
from solvers.distances import RTT_TOLERANCE_MS
from solvers.placement import Demand

Flags = NDArray[np.bool_]
KNOWN_MAX = 256


def demand_of(inventory: Inventory, request: ClusterRequest, catalogue: Collection[str] = frozenset()) -> Demand:
    """The solver's view of a request. `catalogue`: GPU models known to exist beside those of the fleet.

    InvalidInput lists names that nobody knows; Refused (FLEET_EMPTY) if there is no fleet at all.
    """
    check_names(inventory, request, catalogue)
    models = inventory.models.code
    codes = [models[name] for name in request.gpu_models if name in models]
    if not request.gpu_models:
        codes = list(range(len(models)))
    cap = request.max_gpus_per_supplier
    return Demand(
        replicas=request.replicas,
        gpus_per_replica=request.gpus_per_node,
        models=np.array(codes, dtype=np.int64),
        site_ok=sites_ok(inventory, request),
        supplier_ok=suppliers_ok(inventory, request),
        one_model=not request.allow_mixed_models,
        tier=int(request.min_security_tier or 0),
        certifications=certification_mask(inventory, request),
        connectivity=int(request.min_connectivity_tier or 0),
        interconnect=int(request.min_interconnect or 0),
        one_fabric=request.same_fabric,
        reliability=request.min_reliability or 0.0,
        max_replicas_per_supplier=None if cap is None else cap // request.gpus_per_node,
        max_cluster_rtt_ms=request.max_cluster_rtt_ms,
        cpu_milli=request.cpu_milli or 0,
        memory_mib=request.memory_mib or 0,
        gpu_milli=request.gpu_milli or 0,
    )


def known_demand(inventory: Inventory, request: ClusterRequest, catalogue: Collection[str]) -> Demand:
    """`demand_of`, kept for the requests of late: what it reads of a fleet never changes."""
    known, wish = inventory.demands, wish_of(request)
    demand = known.get(wish)
    if demand is None:
        demand = known[wish] = demand_of(inventory, request, catalogue)
        if len(known) > KNOWN_MAX:
            del known[next(iter(known))]
    return demand


def check_names(inventory: Inventory, request: ClusterRequest, catalogue: Collection[str]) -> None:
    """Raise InvalidInput for models, regions and sites that nobody knows: a typing error, not scarcity."""
    if not len(inventory.models):
        raise Refused("FLEET_EMPTY", "no fleet is loaded")
    violations = [
        Violation(f"{field}[{index}]", f"{name!r} is unknown; known: {_some(known.names)}")
        for field, known in (
            ("gpu_models", inventory.models),
            ("regions", inventory.regions),
            ("sites", inventory.sites.names),
        )
        for index, name in enumerate(getattr(request, field))
        if name not in known.code and not (field == "gpu_models" and name in catalogue)
    ]
    if request.client_site is not None and np.isnan(inventory.rtt_from(request.client_site)).any():
        violations.append(
            Violation(
                "client_site", f"{request.client_site!r} is no site of the fleet, and its RTT is not measured"
            )
        )
    if violations:
        raise InvalidInput(violations)


def sites_ok(inventory: Inventory, request: ClusterRequest) -> Flags:
    """Sites that keep location and client RTT, shape (sites,). Read only."""
    ok = inventory.all_sites
    if request.regions or request.countries or request.sites:
        ok = wanted_sites(inventory, request)
    if request.excluded_regions or request.excluded_countries or request.excluded_sites:
        ok = ok & ~excluded_sites(inventory, request)
    return ok if request.max_client_rtt_ms is None else ok & near_sites(inventory, request)


def wanted_sites(inventory: Inventory, request: ClusterRequest) -> Flags:
    """Sites that any of the given lists names."""
    return _in_lists(inventory, request.regions, request.countries, request.sites)


def excluded_sites(inventory: Inventory, request: ClusterRequest) -> Flags:
    """Sites that any exclusion names."""
    return _in_lists(inventory, request.excluded_regions, request.excluded_countries, request.excluded_sites)


def near_sites(inventory: Inventory, request: ClusterRequest) -> Flags:
    """Sites within the client's RTT limit, which the request has."""
    assert request.max_client_rtt_ms is not None
    row = client_rtt_ms(inventory, request)
    return row <= request.max_client_rtt_ms + RTT_TOLERANCE_MS


def client_rtt_ms(inventory: Inventory, request: ClusterRequest) -> NDArray[np.float64]:
    """RTT from the request's client to every site; the request names a client."""
    if request.client_site is not None:
        return inventory.rtt_from(request.client_site)
    assert request.client_latitude is not None and request.client_longitude is not None
    return inventory.distances.from_position(request.client_latitude, request.client_longitude)


def suppliers_ok(inventory: Inventory, request: ClusterRequest) -> Flags:
    """Suppliers that may be used, shape (suppliers,); empty if all may."""
    if not request.allowed_suppliers and not request.excluded_suppliers:
        return np.empty(0, dtype=bool)
    allowed = inventory.suppliers.mask(request.allowed_suppliers)
    if not request.allowed_suppliers:
        allowed[:] = True
    return allowed & ~inventory.suppliers.mask(request.excluded_suppliers)


def certification_mask(inventory: Inventory, request: ClusterRequest) -> int:
    """Bits of the wanted certifications; one that no node holds sets a bit that no node has."""
    code, unheld = inventory.certifications.code, len(inventory.certifications)
    mask = 0
    for name in request.certifications:
        mask |= 1 << min(code.get(name, unheld), 62)
    return mask


def _in_lists(
    inventory: Inventory, regions: tuple[str, ...], countries: tuple[str, ...], sites: tuple[str, ...]
) -> Flags:
    known = inventory.sites
    return (
        inventory.regions.mask(regions)[known.region]
        | inventory.countries.mask(countries)[known.country]
        | known.names.mask(sites)
    )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:10])
    return shown + (f" and {len(names) - 10} more" if len(names) > 10 else "")
