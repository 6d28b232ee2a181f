"""Parts of GPUs, CPU and memory through the whole engine: over gRPC, in the fleet's view, after a restart."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from engine.service.market_view import _gpu_seconds
from tests.service.loopback import Client, Loopback, node, refused

SHARE = {"gpu_count": 1, "gpu_models": ["H100"], "duration_s": 7_200}


def test_a_part_is_leased_shown_and_given_back(loopback: Loopback, reopened: Callable[[], Client]) -> None:
    """Laws 1, 4, 7: two parts share a card, each pays its share, and after a restart everything is as it was."""
    client = loopback.client
    away = [node(name, state="DOWN") for name in ("h1", "h2", "h3", "a1", "a2", "l1")]
    client.load(
        [*away, node("n1", gpu_count=2, cpu_milli=16_000, memory_mib=64_000), node("n2", gpu_model="A100")]
    )
    first = client.deploy(**SHARE, gpu_milli=160, cpu_milli=4_000, memory_mib=1_000)
    second = client.deploy(**SHARE, gpu_milli=840)
    assert [lease.placement.card for lease in (first, second)] == [0, 0]
    assert not client.deploy(gpu_count=1, gpu_models=["A100"]).placement.HasField("card")
    whole = client.quote(**SHARE)
    (rate,) = whole.placement.prices_micro_usd_per_gpu_hour
    rates = [lease.price.rate_micro_usd_per_hour for lease in (first, second)]
    assert rates == [-(-rate * 160 // 1_000), -(-rate * 840 // 1_000)]
    assert first.price.total_micro_usd == 2 * rates[0] == sum(line.amount_micro_usd for line in first.price.lines)
    client = reopened()
    seen = client.node("nodes/n1")
    assert (seen.gpu_free, seen.gpu_leased, seen.cpu_milli_free, seen.memory_mib_free) == (1, 1, 12_000, 63_000)
    assert [(card.card, card.gpu_milli_free) for card in seen.shared_cards] == [(0, 0)]
    assert not client.node("nodes/n2").HasField("cpu_milli")
    client.release(second.name)
    assert [card.gpu_milli_free for card in client.node("nodes/n1").shared_cards] == [840]
    client.release(first.name)
    assert client.node("nodes/n1").gpu_free == 2 and not client.node("nodes/n1").shared_cards


def test_a_part_that_fits_nowhere_is_refused_with_what_would_fit(empty: Loopback) -> None:
    """Law 9: the refusal names the constraint, counts cards, and offers the part that is left, with its price."""
    client = empty.client
    client.load([node("n1", gpu_count=1)])
    client.deploy(**SHARE, gpu_milli=700)
    refusal = refused(client.deploy, **SHARE, gpu_milli=400)
    assert refusal.reason == "GPU_MILLI"
    explanation = client.explain(**SHARE, gpu_milli=400)
    assert [(each.field, each.to_value) for each in explanation.relaxations] == [("gpu_milli", "300")]
    wrong = refused(client.deploy, gpu_count=2, gpu_milli=500, cpu_milli=-1, memory_mib=0)
    assert wrong.code is grpc.StatusCode.INVALID_ARGUMENT
    assert set(wrong.fields) == {"cluster.gpu_milli", "cluster.cpu_milli", "cluster.memory_mib"}


def test_a_part_counts_as_its_share_of_demand(empty: Loopback) -> None:
    """Law: to the oracle a part of a GPU is that part of its seconds, rounded up."""
    client = empty.client
    client.load([node("n1", gpu_count=1)])
    client.deploy(**SHARE, gpu_milli=160)
    (wanted,) = empty.engine.state.demand.leased.values()
    assert _gpu_seconds(wanted.request, wanted.duration_s) == 1_152


def test_what_demand_would_pay_decides_among_equal_prices(empty: Loopback) -> None:
    """Law: once epochs know what is wanted, a part that needs no CPU leaves the CPU to those who do; at no cost.

    A fleet that changed has to be looked at anew.
    """
    client = empty.client
    client.load([node("n1", cpu_milli=800_000), node("n2", cpu_milli=8_000)])
    placed = [client.deploy(**SHARE, gpu_milli=100)]
    assert placed[0].placement.node_ids == ["n1"], "by the id: nothing else tells them apart"
    client.release(placed[0].name)
    for _ in range(3):
        lease = client.deploy(**SHARE, cpu_milli=100_000)
        assert lease.placement.node_ids == ["n1"]
        client.release(lease.name)
        client.quote(**SHARE, cpu_milli=100_000)
    assert empty.epoch() and empty.epoch()
    part = client.deploy(**SHARE, gpu_milli=100)
    assert part.placement.node_ids == ["n2"]
    (whole,) = client.quote(**SHARE).placement.prices_micro_usd_per_gpu_hour
    assert 0 <= part.price.rate_micro_usd_per_hour - whole * 100 // 1_000 <= 1
    client.load([node("n3")])
    assert empty.engine.state.inventory.spare.worth is None
