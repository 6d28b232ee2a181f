"""A quote or a lease as tables for people: asked, placed where, priced how, how good, how fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.cli.amounts import (
    average_price_micro_usd,
    duration,
    milliseconds,
    moment,
    percent,
    usd,
    usd_per_gpu_hour,
)
from engine.cli.text_table import Row, pair_table, shortened, text_table
from engine.domain.cluster_request import REQUEST_FIELDS
from engine.domain.money import SECONDS_PER_HOUR

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from walras.v1 import cluster_service_pb2, placement_pb2

    from engine.domain.cluster_request import ClusterRequest


def show_request(console: Console, request: ClusterRequest) -> None:
    """The fields that constrain, and the duration that is priced."""
    console.print(pair_table("asked", asked_rows(request)))


def show_quote(console: Console, quote: cluster_service_pb2.Quote) -> None:
    """Placement, price and certificate of a quote."""
    _show_cluster(console, quote.placement, quote.price, quote.certificate)
    firm = "firm, and its capacity held," if quote.hold else "firm"
    console.print(f"{quote.name} is {firm} until {moment(quote.expire_time_us)}; deploy it with:")
    console.print(f"  walras deploy --quote {quote.name}")


def show_lease(console: Console, lease: cluster_service_pb2.Lease) -> None:
    """Placement, price, certificate and timings of a lease."""
    _show_cluster(console, lease.placement, lease.price, lease.certificate)
    if lease.HasField("timings"):
        console.print(pair_table("time", [(name, milliseconds(spent)) for name, spent in stages(lease.timings)]))
    console.print(_lease_line(lease))
    if lease.refund_micro_usd:
        console.print(charged_line(lease))


def asked_rows(request: ClusterRequest) -> list[tuple[str, str]]:
    """Name and value of every field that says something, in the order of the contract."""
    rows = [(name, getattr(request, name)) for name in REQUEST_FIELDS if name != "duration_s"]
    said = [(name, _text(value)) for name, value in rows if value not in (None, (), "", False)]
    return [*said, ("duration", duration(request.priced_duration_s))]


def gpus_by_region(price: placement_pb2.Price) -> dict[str, int]:
    """GPUs by region, most first, ties by name: from the lines of the first hours; later ones repeat them."""
    regions: dict[str, int] = {}
    for line in price.lines:
        if line.region and line.from_s == 0 and line.kind in ("", "GPU_HOURS"):
            regions[line.region] = regions.get(line.region, 0) + line.gpus
    return dict(sorted(regions.items(), key=lambda item: (-item[1], item[0])))


def stages(timings: cluster_service_pb2.Timings) -> list[tuple[str, int]]:
    """Where the engine's time went, microseconds by stage, in order."""
    return [
        ("decision", timings.decision_us),
        ("audit", timings.audit_us),
        ("apply", timings.apply_us),
        ("commit", timings.commit_us),
    ]


def certificate_line(certificate: placement_pb2.PlacementCertificate) -> str:
    """How good the placement provably is, in one line."""
    if certificate.optimal:
        proof = "proven cheapest: no placement that keeps the constraints costs less"
    else:
        bound = usd(certificate.lower_bound_micro_usd_per_hour)
        proof = f"within {100 * certificate.gap:.4g} % of the cheapest: none costs less than {bound} per hour"
    return f"{proof} ({certificate.method}); {certificate.idle_nodes_broken} idle nodes broken"


def _show_cluster(
    console: Console,
    placement: placement_pb2.Placement,
    price: placement_pb2.Price,
    certificate: placement_pb2.PlacementCertificate,
) -> None:
    if placement.node_ids:
        gpus = sum(placement.gpus)
        on_card = f", a part of card {placement.card}" if placement.HasField("card") else ""
        console.print(f"{gpus:,} GPUs on {len(placement.node_ids):,} nodes{on_card}")
    show_price(console, price)
    console.print(certificate_line(certificate), soft_wrap=True)


def show_price(console: Console, price: placement_pb2.Price) -> None:
    """A price by region and by line."""
    console.print(region_table(price))
    console.print(_price_line_table(price))
    console.print(total_line(price))


def region_table(price: placement_pb2.Price) -> Table:
    """GPUs and hourly price by region."""
    amounts: dict[str, int] = {}
    for line in price.lines:
        amounts[line.region] = amounts.get(line.region, 0) + line.amount_micro_usd
    rates = {region: amount * SECONDS_PER_HOUR // max(price.duration_s, 1) for region, amount in amounts.items()}
    regions = gpus_by_region(price)
    total = sum(regions.values())
    rows: list[Row] = [
        (region, f"{gpus:,}", percent(gpus, total), usd_per_gpu_hour(average_price_micro_usd(rates[region], gpus)))
        for region, gpus in regions.items()
    ]
    return text_table(
        "placement by region", ("region",), ("GPUs", "share", "average per GPU-hour"), shortened(rows)
    )


def total_line(price: placement_pb2.Price) -> str:
    """The price in one line."""
    total, length = usd(price.total_micro_usd), duration(price.duration_s)
    return f"total {total} for {length} ({usd(price.rate_micro_usd_per_hour)} per hour)"


def charged_line(lease: cluster_service_pb2.Lease) -> str:
    """What was charged and what of it was paid back, in one line."""
    paid, back = usd(lease.price.total_micro_usd), usd(lease.refund_micro_usd)
    return f"{paid} paid, {back} paid back: {usd(lease.charged_micro_usd)} charged"


def _price_line_table(price: placement_pb2.Price) -> Table:
    rows: list[Row] = [
        (
            f"{line.gpu_model} {line.region} {line.security_tier}",
            line.set_by,
            f"{line.gpus:,}",
            usd_per_gpu_hour(average_price_micro_usd(line.rate_micro_usd_per_hour, line.gpus)),
            usd(line.amount_micro_usd),
        )
        for line in sorted(price.lines, key=lambda line: -line.amount_micro_usd)
    ]
    numbers = ("GPUs", "average per GPU-hour", "amount")
    return text_table("price lines", ("market", "set by"), numbers, shortened(rows))


def _lease_line(lease: cluster_service_pb2.Lease) -> str:
    start, end = moment(lease.start_time_us), moment(lease.end_time_us)
    if lease.reclaim_time_us:
        ends = moment(lease.reclaim_time_us)
        return f"{lease.name}: from {start}, will end {ends} ({lease.end_reason}), request {lease.request_id}"
    if lease.end_reason:
        return f"{lease.name}: ended {end} ({lease.end_reason}), request {lease.request_id}"
    return f"{lease.name}: from {start} until {end}, request {lease.request_id}"


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    if value is True:
        return "yes"
    if hasattr(value, "name"):
        return str(value.name)
    return f"{value:,}" if isinstance(value, int) else str(value)
