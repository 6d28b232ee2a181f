"""The last screen of the demo: what happened, in twelve lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.cli.amounts import (
    average_price_micro_usd,
    duration,
    milliseconds,
    percent,
    usd,
    usd_per_gpu_hour,
)
from engine.cli.cloud_list_prices import H100_LIST_PRICE, REFERENCE_SOURCE
from engine.cli.cluster_view import certificate_line, gpus_by_region, stages
from engine.cli.demo_queue import PlannedQueue, proof_line, queue_line
from engine.cli.explanation_view import relaxation_sentence
from engine.datasets.reference_prices import REFERENCE_PRICE_MICRO_USD

if TYPE_CHECKING:
    from walras.v1 import cluster_service_pb2, fleet_service_pb2, placement_pb2

    from engine.domain.cluster_request import ClusterRequest

SHOWN_REGIONS = 5
SHOWN_RELAXATIONS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What the demo did and was told."""

    loaded: fleet_service_pb2.LoadFleetResponse
    load_s: float
    sites: int
    wanted: ClusterRequest
    lease: cluster_service_pb2.Lease
    lease_sites: int
    call_us: int
    refused: ClusterRequest
    refusal: cluster_service_pb2.Explanation
    queue: PlannedQueue


def story_lines(story: Story) -> list[str]:
    """Twelve lines."""
    lines = (
        ("fleet", _fleet(story)),
        ("request", _request(story.wanted)),
        ("placement", _placement(story.lease, story.lease_sites)),
        ("proof", certificate_line(story.lease.certificate)),
        ("price", _price(story.lease)),
        ("reference", _reference(story)),
        ("time", _time(story)),
        ("lease", f"{story.lease.lease_id}, written to the journal and on disk before the answer left"),
        ("refused", _refused(story)),
        ("instead", _instead(story.refusal)),
        ("queue", queue_line(story.queue)),
        ("optimum", proof_line(story.queue)),
    )
    return [f"{number:2}. {name:<10}{text}" for number, (name, text) in enumerate(lines, start=1)]


def _fleet(story: Story) -> str:
    loaded = story.loaded
    return (
        f"{loaded.gpus_registered:,} GPUs on {loaded.nodes_added:,} nodes at {story.sites:,} sites, folded into "
        f"{loaded.pools:,} pools, loaded in {story.load_s:.1f} s"
    )


def _request(request: ClusterRequest) -> str:
    models, tier = "/".join(request.gpu_models), request.min_security_tier
    trust = f", {tier.name} or better" if tier is not None else ""
    return (
        f"{request.gpu_count:,} × {models}, {request.gpus_per_node} to a node{trust}, at most "
        f"{request.max_client_rtt_ms:g} ms from New York, for {duration(request.priced_duration_s)}"
    )


def _placement(lease: cluster_service_pb2.Lease, sites: int) -> str:
    regions = gpus_by_region(lease.price)
    shown = [f"{region} {gpus:,}" for region, gpus in list(regions.items())[:SHOWN_REGIONS]]
    rest = len(regions) - len(shown)
    more = f" and {rest} more" if rest else ""
    nodes = f"{len(lease.placement.node_ids):,} nodes at {sites:,} sites in {len(regions)} regions"
    return f"{nodes}: {', '.join(shown)}{more}"


def _price(lease: cluster_service_pb2.Lease) -> str:
    price = lease.price
    average = usd_per_gpu_hour(_average(price, lease.gpu_count))
    return f"{usd(price.total_micro_usd)} for {duration(price.duration_s)}, {average} per GPU-hour on average"


def _reference(story: Story) -> str:
    average, listed = _average(story.lease.price, story.lease.gpu_count), H100_LIST_PRICE.micro_usd_per_gpu_hour
    reference = REFERENCE_PRICE_MICRO_USD[story.wanted.gpu_models[0]]
    listing = f"{H100_LIST_PRICE.cloud}'s {usd_per_gpu_hour(listed)} ({H100_LIST_PRICE.source})"
    return (
        f"{percent(listed - average, listed)} below {listing}; {_against(average, reference)} ({REFERENCE_SOURCE})"
    )


def _against(average: int, reference: int) -> str:
    difference, shown = average - reference, usd_per_gpu_hour(reference)
    if not difference:
        return f"equal to the reference price of {shown}"
    side = "above" if difference > 0 else "below"
    return f"{percent(abs(difference), reference)} {side} the reference price of {shown}"


def _time(story: Story) -> str:
    parts = [f"{name} {milliseconds(spent)}" for name, spent in stages(story.lease.timings)]
    return f"{', '.join(parts)}; whole call {milliseconds(story.call_us)}"


def _refused(story: Story) -> str:
    limit = f"the same, but at most {story.refused.max_client_rtt_ms:g} ms away"
    return f"{limit}: {story.refusal.reason}: {story.refusal.detail}"


def _instead(refusal: cluster_service_pb2.Explanation) -> str:
    cheapest = refusal.relaxations[:SHOWN_RELAXATIONS]
    if not cheapest:
        return "no single change of the request makes it feasible"
    return " or ".join(relaxation_sentence(each) for each in cheapest)


def _average(price: placement_pb2.Price, gpus: int) -> int:
    return average_price_micro_usd(price.rate_micro_usd_per_hour, gpus)
