"""From a request to audited terms: placed, priced, capped, checked. What a quote shows and a lease charges."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import AuditFailed, Refused
from engine.domain.money import part_micro_usd
from engine.market.all_matching import largest
from engine.market.audit import faults_of
from engine.market.charges import SPREAD, Charge, charge_of, cheapest_cap, per_hour, spread_micro_usd
from engine.market.demand import known_demand
from engine.market.fleet_columns import Glance
from engine.market.inventory import Inventory
from engine.market.lease_terms import PriceLine, Profile, Terms
from engine.market.ledger.rules import PPM
from engine.market.priced_fleet import numbered
from engine.market.prices import PriceBook
from engine.market.state import MarketState
from engine.market.stopwatch import NO_STOPWATCH, Stopwatch
from solvers.placement import NoPlacement, Placement

Int = NDArray[np.int64]
NO_CAPACITY, PRICE_CAP, SEARCH_LIMIT = "NO_CAPACITY", "PRICE_CAP", "SEARCH_LIMIT"


def terms_of(
    state: MarketState,
    request: ClusterRequest,
    book: PriceBook,
    stopwatch: Stopwatch = NO_STOPWATCH,
    *,
    hold_s: int = 0,
    lock_extension: bool = False,
) -> Terms:
    """Place and price a request, audited. Refused if impossible.

    A spread is charged for holding it `hold_s`, and for locking its price for an extension until the end.
    """
    inventory, duration_s = state.inventory.sold_as(interruptible=request.interruptible), request.priced_duration_s
    demand = known_demand(inventory, request, book.models())
    most = 0
    if request.all_matching:
        request, demand, most, _ = largest(inventory, request, demand)
    found = inventory.placer_for(duration_s, demand.models, request.gpu_count).place(demand)
    if isinstance(found, NoPlacement):
        raise _refusal(found)
    seen = inventory.glance(found.nodes)
    charge = charge_of(inventory, found, duration_s, seen, request.gpu_milli)
    terms = _terms(state, request, found, charge, profile_of(inventory, seen, duration_s))
    terms = _with_spread(state, terms, (hold_s, duration_s if lock_extension else 0))
    fee_ppm = state.books.rules.network_fee_ppm
    terms = msgspec.structs.replace(
        terms,
        network_fee_ppm=fee_ppm,
        network_fee_micro_usd=part_micro_usd(terms.total_micro_usd, fee_ppm, PPM),
        extension_locked=lock_extension,
        gpu_count_bound=most,
    )
    _check_cap(state, terms, found)
    stopwatch.lap("decision")
    if faults := faults_of(state, terms):
        raise AuditFailed("the placement failed its audit: " + "; ".join(faults))
    stopwatch.lap("audit")
    return terms


def _refusal(found: NoPlacement) -> Refused:
    if found.proven:
        return Refused(NO_CAPACITY, "no placement keeps all constraints")
    return Refused(
        SEARCH_LIMIT,
        f"no placement was found within {found.relaxations} relaxations over close sites; there may be one",
    )


def _check_cap(state: MarketState, terms: Terms, found: Placement) -> None:
    """Refuse what costs more than the cap on average, spread included."""
    request, cap = terms.request, terms.request.max_price_micro_usd_per_gpu_hour
    if cap is None:
        return
    inventory, spread = state.inventory.sold_as(interruptible=request.interruptible), terms.spread_micro_usd
    cheapest = cheapest_cap(inventory, found.rate, spread, request)
    if cheapest <= cap:
        return
    if cheapest_cap(inventory, found.lower_bound, spread, request) <= cap:
        raise Refused(SEARCH_LIMIT, "the search over close sites ended before a placement within the cap")
    raise Refused(
        PRICE_CAP,
        f"the cheapest placement averages {cheapest} micro-USD per GPU-hour, above the cap of {cap}",
        cheapest_micro_usd_per_gpu_hour=str(cheapest),
    )


def _terms(
    state: MarketState, request: ClusterRequest, found: Placement, charge: Charge, profile: Profile | None
) -> Terms:
    return Terms(
        request=request,
        nodes=found.nodes.astype("<i4").tobytes(),
        gpus=found.gpus.astype("<i4").tobytes(),
        prices_micro_usd_per_gpu_hour=charge.prices.astype("<i8").tobytes(),
        lines=charge.lines,
        rate_micro_usd_per_hour=charge.rate_micro_usd_per_hour,
        duration_s=request.priced_duration_s,
        total_micro_usd=charge.total_micro_usd,
        price_snapshot_id=state.inventory.price_snapshot_id,
        lower_bound_micro_usd_per_hour=charge.bound_micro_usd_per_hour,
        idle_nodes_broken=int(found.idle_broken),
        relaxations_solved=found.relaxations,
        fleet_version=state.fleet_version,
        price_epoch=state.oracle.epoch,
        profile=profile,
        card=found.card,
    )


def with_network_fee(state: MarketState, terms: Terms) -> Terms:
    """The terms with the network's part of the total, by the ledger's rules of now."""
    terms = msgspec.structs.replace(terms, network_fee_ppm=state.books.rules.network_fee_ppm)
    return msgspec.structs.replace(terms, network_fee_micro_usd=network_fee_of(terms, terms.total_micro_usd))


def network_fee_of(terms: Terms, amount_micro_usd: int) -> int:
    """The network's part of an amount charged under some terms: a lease keeps the fee it was sold with."""
    return part_micro_usd(amount_micro_usd, terms.network_fee_ppm, PPM)


def profile_of(inventory: Inventory, seen: Glance, last_s: int) -> Profile | None:
    """How prices of nodes run until a second from now; None if they stay the posted ones."""
    if inventory.is_flat(last_s):
        return None
    markets, row = numbered(seen.market, inventory.markets.size)
    curves = zip(inventory.posted_of_market[markets].tolist(), inventory.long_run[markets].tolist(), strict=True)
    asks = seen.ask_micro_usd.astype("<i8").tobytes()
    return Profile(asks, row.astype("<i4").tobytes(), list(curves), inventory.half_life_h)


def _with_spread(state: MarketState, terms: Terms, held_s: tuple[int, ...]) -> Terms:
    """The terms with the price of holding for each of some times; σ is the largest of the markets used."""
    if not any(held_s):
        return terms
    names = {(line.gpu_model, line.region, line.security_tier) for line in terms.lines}
    sigma = max(state.oracle.volatility_ppb.get(name, 0) for name in names)
    factor = state.oracle.spread_factor
    spread = sum(spread_micro_usd(terms.total_micro_usd, factor, sigma, seconds) for seconds in held_s if seconds)
    total, gpus = terms.total_micro_usd + spread, terms.request.gpu_count
    band = 0, terms.duration_s
    line = PriceLine("", "", "", "POSTED", gpus, per_hour(spread, *band), spread, SPREAD, *band)
    return msgspec.structs.replace(
        terms,
        lines=[*terms.lines, line] if spread else terms.lines,
        spread_micro_usd=spread,
        total_micro_usd=total,
    )
