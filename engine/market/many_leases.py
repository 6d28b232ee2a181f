"""Leases that began together: from the columns of their event to what each says for itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise, repeat
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest, with_gpu_count, with_request_id
from engine.domain.money import part_micro_usd
from engine.market.charges import KINDS, SET_BY
from engine.market.events import Key, Kind, LeasesStarted, LeaseStarted
from engine.market.lease_terms import PriceLine, Profile, Terms
from engine.market.ledger.bookings import set_aside
from engine.market.ledger.entries import Money, Span
from engine.market.ledger.rules import PPM

Int = NDArray[np.int64]
TAILS = tuple(f"{tail:03d}" for tail in range(1_000))


def column(packed: bytes, kind: str = "<i4") -> Int:
    """A column of the event, int64."""
    return np.frombuffer(packed, dtype=kind).astype(np.int64)


def lease_ids_of(event: LeasesStarted) -> list[str]:
    """The leases' ids."""
    return _numbered("l-", event)


def _numbered(prefix: str, event: LeasesStarted) -> list[str]:
    """The prefix and ten digits of each lease's number; formatting them one by one takes ten times as long."""
    first, last, ids = event.first, event.first + event.count - 1, list[str]()
    for head in range(first // 1_000, last // 1_000 + 1):
        begin = f"{prefix}{head:07d}"
        ids += [begin + tail for tail in TAILS[max(0, first - 1_000 * head) : last - 1_000 * head + 1]]
    return ids


def ends_of(counts: bytes) -> list[int]:
    """[0, where the rows of the first lease end, of the second, ...]."""
    return list(accumulate(column(counts).tolist(), initial=0))


def kinds_of(event: LeasesStarted) -> list[Kind]:
    """What leases of each size are for."""
    retry_s, has_profile = event.retry_on_loss_s, bool(event.curves)
    alike = [Kind(with_gpu_count(event.request, gpus), retry_s, has_profile) for gpus, _ in event.sizes]
    return event.kinds or alike


def terms_of_many(event: LeasesStarted) -> Iterator[Terms]:
    """The terms of each lease."""
    fee_ppm = event.parts_ppm[0]
    templates = [_template(event, kind.request) for kind in kinds_of(event)]
    columns = (
        _numbered("req-", event),
        column(event.size_of).tolist(),
        column(event.rates_micro_usd_per_hour, "<i8").tolist(),
        column(event.totals_micro_usd, "<i8").tolist(),
        column(event.idle_nodes_broken).tolist(),
        pairwise(ends_of(event.node_counts)),
        _lines(event),
        _profiles(event),
    )
    for name, size, rate, total, broken, (begin, end), lines, profile in zip(*columns, strict=True):
        alike = templates[size]
        yield replace(
            alike,
            request=alike.request if alike.request.request_id else with_request_id(alike.request, name),
            nodes=event.nodes[4 * begin : 4 * end],
            gpus=event.gpus[4 * begin : 4 * end],
            prices_micro_usd_per_gpu_hour=event.prices_micro_usd_per_gpu_hour[8 * begin : 8 * end],
            lines=lines,
            rate_micro_usd_per_hour=rate,
            total_micro_usd=total,
            lower_bound_micro_usd_per_hour=rate,
            idle_nodes_broken=broken,
            network_fee_micro_usd=part_micro_usd(total, fee_ppm, PPM),
            profile=profile,
        )


def _template(event: LeasesStarted, request: ClusterRequest) -> Terms:
    """What the leases of one size have in common; filling it in takes a quarter of what making each takes."""
    return Terms(
        request=request,
        nodes=b"",
        gpus=b"",
        prices_micro_usd_per_gpu_hour=b"",
        lines=[],
        rate_micro_usd_per_hour=0,
        duration_s=request.priced_duration_s,
        total_micro_usd=0,
        price_snapshot_id=event.price_snapshot_id,
        lower_bound_micro_usd_per_hour=0,
        idle_nodes_broken=0,
        relaxations_solved=1,
        fleet_version=event.fleet_version,
        price_epoch=event.price_epoch,
        network_fee_ppm=event.parts_ppm[0],
    )


def _lines(event: LeasesStarted) -> Iterator[list[PriceLine]]:
    """Of each lease; alike ones share a list, which nobody changes."""
    made: dict[bytes, list[PriceLine]] = {}
    for begin, end in pairwise(ends_of(event.line_counts)):
        packed = event.lines[64 * begin : 64 * end]
        if packed not in made:
            made[packed] = [
                PriceLine(*event.markets[market], SET_BY[set_by], gpus, rate, amount, KINDS[kind], from_s, to_s)
                for market, set_by, kind, from_s, to_s, gpus, rate, amount in column(packed, "<i8")
                .reshape(-1, 8)
                .tolist()
            ]
        yield made[packed]


def _profiles(event: LeasesStarted) -> Iterator[Profile | None]:
    if not event.curves:
        yield from repeat(None, event.count)
        return
    ends, kinds = ends_of(event.node_counts), kinds_of(event)
    markets, asks = column(event.market_of_node).tolist(), event.asks_micro_usd_per_gpu_hour
    for size, (begin, end) in zip(column(event.size_of).tolist(), pairwise(ends), strict=True):
        if not kinds[size].has_profile:
            yield None
            continue
        used = sorted(set(markets[begin:end]))
        place = {market: place for place, market in enumerate(used)}
        row = np.array([place[market] for market in markets[begin:end]], dtype="<i4") if len(used) > 1 else None
        yield Profile(
            asks[8 * begin : 8 * end],
            bytes(4 * (end - begin)) if row is None else row.tobytes(),
            [event.curves[market] for market in used],
            event.half_life_h,
        )


def spans_of(event: LeasesStarted, lease_ids: list[str]) -> Iterator[Span]:
    """How what each lease is charged is shared."""
    made: dict[tuple[bytes, bytes], tuple[list[str], list[int]]] = {}
    for lease_id, (begin, end) in zip(lease_ids, pairwise(ends_of(event.earner_counts)), strict=True):
        packed = event.earners[4 * begin : 4 * end], event.weights[8 * begin : 8 * end]
        if packed not in made:
            earners = [event.suppliers[place] for place in column(packed[0]).tolist()]
            made[packed] = earners, column(packed[1], "<i8").tolist()
        yield Span(lease_id, event.tenant_id, 0, *made[packed], *event.parts_ppm)


def each_of(event: LeasesStarted) -> Iterator[LeaseStarted]:
    """The same as events of their own, as deciding the requests one by one gives them."""
    lease_ids, kinds = lease_ids_of(event), kinds_of(event)
    columns: tuple[Any, ...] = (
        lease_ids,
        terms_of_many(event),
        spans_of(event, lease_ids),
        column(event.credits_micro_usd, "<i8").tolist(),
        event.keys,
        column(event.size_of).tolist(),
    )
    for lease_id, terms, span, credit, key, size in zip(*columns, strict=True):
        booked = set_aside(lease_id, event.tenant_id, terms.total_micro_usd, credit)
        yield LeaseStarted(
            at_us=event.at_us,
            key=Key(event.tenant_id, event.method, key, event.sizes[size][1]) if key else None,
            money=Money(booked, [span]),
            lease_id=lease_id,
            tenant_id=event.tenant_id,
            terms=terms,
            ends_at_us=event.at_us + terms.duration_s * 1_000_000,
            retry_on_loss_s=kinds[size].retry_on_loss_s,
        )
