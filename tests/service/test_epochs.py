"""Epochs in a running engine: prices move by supply and demand, are shown, stored, replayed and charged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.domain.money import total_micro_usd
from engine.journal import replay_files
from engine.oracle.forward import ForwardCurve
from engine.oracle.parameters import OracleParameters
from engine.oracle.quote_lines import Part, quote_price
from engine.service.engine import replayed
from engine.service.options import default_parameters
from tests.service.loopback import Client, Loopback, node, refused, running, small_fleet

H100 = {"gpu_model": "H100", "region": "us-east", "security_tier": "SECURE"}
SCARCE = {"gpu_models": ["H100"], "regions": ["us-east"], "gpu_count": 16, "duration_s": 400_000}
OPENING = 2_702_500
"""Reference of the H100, 2.50 USD, times the factor of its tier, 1.081."""
TOO_DEAR = "MAX_PRICE_MICRO_USD_PER_GPU_HOUR"
TENANTS = ("alice", "bob", "carol", "dave")


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Loopback]:
    """An engine whose oracle takes every wish at its full size, so that a few quotes make GPUs scarce."""
    yield from running(tmp_path / "engine", oracle=replace(default_parameters(()), wish_share=1.0))


def compete(client: Client, price: int = 2_900_000) -> None:
    """Four tenants want far more GPU-hours than there are, at this price."""
    for tenant in TENANTS:
        client.as_tenant(tenant).quote(**SCARCE, max_price_micro_usd_per_gpu_hour=price)


def epochs(loopback: Loopback, count: int, demand: bool = True) -> None:
    """So many epochs, under the same demand."""
    for _ in range(count):
        if demand:
            compete(loopback.client)
        assert loopback.epoch()


def test_what_tenants_only_ask_for_moves_nothing(tmp_path: Path) -> None:
    """Law: asking is free, so what a tenant does not lease counts as at most 1 % of what its markets can sell."""
    for loopback in running(tmp_path / "engine"):
        loopback.client.load(small_fleet())
        epochs(loopback, 4)
        price = loopback.client.price(**H100)
        assert price.posted_price_micro_usd_per_gpu_hour < OPENING
        assert price.limited_by == "RATE"


def test_before_the_first_epoch(client: Client) -> None:
    """Law: an engine without an epoch says so: epoch 0, the book's source, nothing of the oracle."""
    price = client.price(**H100)
    assert (price.epoch, price.source, price.HasField("health")) == (0, "REFERENCE", False)
    assert client.history(**H100).points == []


def test_prices_rise_where_gpus_are_scarce_and_fall_where_nobody_bids(loopback: Loopback) -> None:
    """Law: posted prices follow the clearing price, within bounds, and say what sets and limits them."""
    epochs(loopback, 4)
    scarce, idle = loopback.client.price(**H100), loopback.client.price(**{**H100, "region": "us-west"})
    assert scarce.posted_price_micro_usd_per_gpu_hour == OPENING == scarce.cap_micro_usd_per_gpu_hour
    assert (scarce.source, scarce.binding_reason, scarce.limited_by) == ("ORACLE", "DEMAND", "CAP")
    assert scarce.clearing_price_micro_usd_per_gpu_hour == scarce.bracket_low_micro_usd_per_gpu_hour == 2_900_000
    assert scarce.health.is_healthy and list(scarce.health.sources) == ["BUILT_IN"]
    assert idle.posted_price_micro_usd_per_gpu_hour < OPENING
    assert (idle.binding_reason, idle.limited_by) == ("NO_TRADE", "RATE")
    assert not idle.HasField("clearing_price_micro_usd_per_gpu_hour")
    assert idle.floor_micro_usd_per_gpu_hour <= idle.posted_price_micro_usd_per_gpu_hour
    assert idle.posted_price_micro_usd_per_gpu_hour * 9 >= OPENING * 8, "at most 12.5 % an hour"


def test_what_too_few_tenants_set_is_hidden(loopback: Loopback) -> None:
    """Law: a price that two tenants set shows neither clearing price, nor bracket, nor demand step."""
    for tenant in TENANTS[:2]:
        loopback.client.as_tenant(tenant).quote(**SCARCE, max_price_micro_usd_per_gpu_hour=2_711_111)
    loopback.epoch()
    price, curve = loopback.client.price(**H100), loopback.client.supply_curve(**H100)
    assert not price.HasField("clearing_price_micro_usd_per_gpu_hour")
    assert not price.HasField("bracket_low_micro_usd_per_gpu_hour")
    assert curve.supply and not curve.demand


def test_a_supply_curve(loopback: Loopback) -> None:
    """Law: steps are η·GPUs·window at each ask, and bids of at least three tenants, rounded down to a cent."""
    compete(loopback.client, 2_711_111)
    loopback.epoch()
    curve = loopback.client.supply_curve(**H100)
    assert [(step.price_micro_usd_per_gpu_hour, step.gpu_seconds) for step in curve.supply] == [
        (2_000_000, int(16 * 0.92 * 14_400))
    ]
    assert [step.price_micro_usd_per_gpu_hour for step in curve.demand] == [2_710_000]
    assert curve.demand[0].gpu_seconds == 3 * int(16 * 0.92 * 14_400), "no tenant counts for more than all supply"
    assert curve.window_s == 14_400 and curve.price == loopback.client.price(**H100)


def test_one_epoch_a_period(loopback: Loopback) -> None:
    """Law: same id, same content: within a period nothing is published again."""
    assert loopback.epoch()
    before = loopback.client.prices()
    assert not loopback.epoch(after_s=0)
    assert loopback.client.prices() == before


@pytest.mark.parametrize("duration_s", [1, 3_599, 3_600, 3_601, 86_400, 700_001])
def test_charged_is_shown(loopback: Loopback, duration_s: int) -> None:
    """Laws 5 and 7: lines sum to the total; the lease is the quote's; the total is the forward curve's."""
    epochs(loopback, 3)
    wanted = {"gpu_models": ["H100"], "regions": ["us-west"], "gpu_count": 8, "duration_s": duration_s}
    quote = loopback.client.quote(**wanted, ttl_s=600)
    loopback.epoch()
    lease = loopback.client.deploy_quote(quote.name)
    assert lease.price == quote.price and lease.placement == quote.placement
    price = quote.price
    assert sum(line.amount_micro_usd for line in price.lines) == price.total_micro_usd
    assert price.network_fee_micro_usd == price.total_micro_usd * 50_000 // 1_000_000
    assert price.price_epoch > 0 and price.price_snapshot_id
    assert price.total_micro_usd == total_micro_usd(8 * 3_000_001, duration_s), "the ask is above the curve"
    assert {line.set_by for line in price.lines} == {"ASK"}


@pytest.mark.parametrize("duration_s", [3_601, 86_400, 700_001])
def test_the_forward_curve_is_what_is_charged(loopback: Loopback, duration_s: int) -> None:
    """Law: a placement's total is the sum over its hours, as the oracle's own quotes have it, up to rounding."""
    client = loopback.client
    client.load([node("h7", site_id="fra1", ask_micro_usd_per_gpu_hour=2_600_000), node("h8", site_id="fra1")])
    epochs(loopback, 6, demand=False)
    inventory = loopback.engine.state.inventory
    place = inventory.market_index["H100", "eu-central", "SECURE"]
    posted, long_run = int(inventory.posted_of_market[place]), int(inventory.long_run[place])
    assert posted < 2_600_000 < long_run < OPENING
    curve = ForwardCurve(posted, long_run, inventory.half_life_h)
    parts = [Part(0, 8, ask, curve) for ask in (2_600_000, 2_000_000)]
    price = client.quote(gpu_models=["H100"], regions=["eu-central"], gpu_count=16, duration_s=duration_s).price
    twin = quote_price(parts, 0, duration_s, loopback.server.oracle.parameters)
    assert abs(price.total_micro_usd - twin.total_micro_usd) <= 16
    bands = [line for line in price.lines if line.from_s == 0]
    assert {line.kind for line in price.lines} <= {"GPU_HOURS", "LOCALITY"}
    assert sum(line.gpus for line in bands if line.kind == "GPU_HOURS") == 16
    assert max(line.to_s for line in price.lines) == duration_s


def test_a_dear_place_is_itemised(loopback: Loopback) -> None:
    """Law: what a place costs above the cheapest region of the same model and tier is a line of its own."""
    loopback.client.load([node("w1", site_id="sfo1", ask_micro_usd_per_gpu_hour=1_000_000)])
    epochs(loopback, 4)
    price = loopback.client.quote(gpu_models=["H100"], regions=["us-east"], gpu_count=8).price
    here, there = (loopback.client.price(**{**H100, "region": region}) for region in ("us-east", "us-west"))
    premium = here.posted_price_micro_usd_per_gpu_hour - there.posted_price_micro_usd_per_gpu_hour
    amounts = {line.kind: line.amount_micro_usd for line in price.lines}
    assert amounts == {"LOCALITY": 8 * premium, "GPU_HOURS": 8 * there.posted_price_micro_usd_per_gpu_hour}


def test_holding_costs_a_spread(loopback: Loopback) -> None:
    """Law: a held quote's total is the unheld one's plus the spread line, which grows with its time to live."""
    epochs(loopback, 4)
    wanted = {"gpu_models": ["A100"], "gpu_count": 4, "duration_s": 90_000}
    free = loopback.client.quote(**wanted).price
    spreads = []
    for ttl_s in (60, 3_600):
        held = loopback.client.quote(**wanted, hold=True, ttl_s=ttl_s)
        lines = {line.kind: line.amount_micro_usd for line in held.price.lines if line.kind == "SPREAD"}
        assert held.price.total_micro_usd == free.total_micro_usd + lines["SPREAD"]
        spreads.append(lines["SPREAD"])
        loopback.client.release_quote(held.name)
    assert 0 < spreads[0] < spreads[1]


def test_a_restart_keeps_prices_history_and_demand(loopback: Loopback, reopened: Callable[[], Client]) -> None:
    """Laws 4 and 10: replaying gives the same state byte for byte, and the next epoch the same prices."""
    epochs(loopback, 3)
    compete(loopback.client)
    prices, history, before = loopback.client.prices(), loopback.client.history(**H100), loopback.hash()
    demand = list(loopback.engine.state.demand.since(0))
    client = reopened()
    assert (client.prices(), client.history(**H100)) == (prices, history)
    state, _ = replayed(replay_files(loopback.data_dir))
    assert (state.hash(), list(state.demand.since(0))) == (before, demand)
    assert len(demand) == len(TENANTS)


def test_refusals_are_demand_and_last(loopback: Loopback) -> None:
    """Law: a refused request counts once however often it comes, is journaled, and survives a restart."""
    for _ in range(5):
        refused(loopback.client.deploy, gpu_models=["H100"], gpu_count=400, duration_s=7_200)
    loopback.epoch()
    loopback.client.stats()  # a reply leaves once all before it is durable
    state, _ = replayed(replay_files(loopback.data_dir))
    assert [wanted.request.gpu_count for wanted in state.demand.since(0)] == [400]


def test_demand_is_forgotten(loopback: Loopback) -> None:
    """Law: what is older than the window neither counts nor stays."""
    compete(loopback.client)
    loopback.epoch(after_s=14_401)
    assert list(loopback.engine.state.demand.since(0)) == []
    assert loopback.client.price(**H100).binding_reason == "NO_TRADE"


def test_history_pages(loopback: Loopback) -> None:
    """Law: pages give every point once, oldest first, within the times asked for."""
    epochs(loopback, 5, demand=False)
    whole = list(loopback.client.history(**H100).points)
    assert [point.epoch for point in whole] == sorted({point.epoch for point in whole}) and len(whole) == 5
    found, token = [], ""
    while True:
        page = loopback.client.history(**H100, page_size=2, page_token=token)
        found += page.points
        if not (token := page.next_page_token):
            break
    assert found == whole
    middle = whole[1].taken_time_us, whole[3].taken_time_us
    part = loopback.client.history(**H100, start_time_us=middle[0], end_time_us=middle[1]).points
    assert list(part) == whole[1:3]


def test_history_is_bounded(loopback: Loopback) -> None:
    """Law: points older than the retention are dropped."""
    loopback.epoch()
    retention_s = loopback.client.history(**H100).retention_s
    loopback.epoch(after_s=retention_s + 1)
    assert len(loopback.client.history(**H100).points) == 1


def test_a_watch_sends_what_is_new_and_can_be_resumed(loopback: Loopback) -> None:
    """Law: a watch begins with now, sends every later epoch once, and goes on where it is told to."""
    loopback.epoch()
    stream = loopback.client.watch(gpu_model="H100")
    first = next(stream)
    assert first.last_part and {price.gpu_model for price in first.prices} == {"H100"}
    loopback.epoch()
    second = next(stream)
    assert second.epoch == first.epoch + 1 and second.price_snapshot_id != first.price_snapshot_id
    stream.cancel()
    assert next(loopback.client.watch(after_epoch=first.epoch)).epoch == second.epoch
    assert list(loopback.client.watch(after_epoch=second.epoch, timeout_s=0.5)) == [], "ends by itself"


def test_an_estimate_is_what_the_curve_costs(loopback: Loopback) -> None:
    """Law: an estimate equals the quote of GPUs whose asks are below the curve, up to rounding by GPU."""
    epochs(loopback, 4, demand=False)
    for duration_s in (3_600, 100_000):
        estimate = loopback.client.estimate(**H100, gpu_count=8, duration_s=duration_s)
        quote = loopback.client.quote(gpu_models=["H100"], regions=["us-east"], gpu_count=8, duration_s=duration_s)
        assert abs(estimate.price.total_micro_usd - quote.price.total_micro_usd) <= 8
        assert sum(line.amount_micro_usd for line in estimate.price.lines) == estimate.price.total_micro_usd
    held = loopback.client.estimate(**H100, gpu_count=8, duration_s=100_000, hold_s=3_600).price
    assert held.total_micro_usd > estimate.price.total_micro_usd


def test_an_indicative_price_tells_where_feasibility_begins(loopback: Loopback) -> None:
    """Law: at the price it names a quote is given, a micro-dollar below it is refused; it changes nothing."""
    client, version = loopback.client, loopback.client.stats().state_version
    wanted = {"gpu_models": ["H100"], "gpu_count": 20, "duration_s": 3_600}
    found = client.indicative(**wanted)
    assert found.evaluated and found.schedulable and found.price == client.quote(**wanted).price
    needed = found.feasible_from_micro_usd_per_gpu_hour
    low = client.indicative(**wanted, max_price_micro_usd_per_gpu_hour=needed - 1)
    assert (low.schedulable, low.reason, low.feasible_from_micro_usd_per_gpu_hour) == (False, TOO_DEAR, needed)
    client.quote(**wanted, max_price_micro_usd_per_gpu_hour=needed)
    assert refused(client.quote, **wanted, max_price_micro_usd_per_gpu_hour=needed - 1).reason == TOO_DEAR
    never = client.indicative(gpu_models=["H100"], gpu_count=4_000)
    assert never.evaluated and not never.schedulable and never.reason
    assert not never.HasField("feasible_from_micro_usd_per_gpu_hour")
    assert client.stats().state_version == version + 2, "the two quotes alone"


def test_what_is_too_dear_to_charge(loopback: Loopback) -> None:
    """Law 7: where a total could leave 64 bits the answer is a violation, never a wrong sum."""
    loopback.client.load([node("x1", gpu_model="X", ask_micro_usd_per_gpu_hour=10**11)])
    epochs(loopback, 3)
    for gpu_count, duration_s in ((8, 315_359_999), (1, 315_359_999), (8, 315_360_000)):
        wanted = {"gpu_models": ["X"], "gpu_count": gpu_count, "duration_s": duration_s}
        total = total_micro_usd(gpu_count * 10**11, duration_s)
        if total * 7_200 < 2**62 or duration_s % 3_600 == 0:
            assert loopback.client.quote(**wanted).price.total_micro_usd == total
        else:
            assert refused(loopback.client.quote, **wanted).fields == ("cluster.duration_s",)


MARKET_CALLS = ("history", "estimate", "supply_curve")


@pytest.mark.parametrize(
    ("call", "fields", "named"),
    [
        *((call, {}, {"gpu_model", "region", "security_tier"}) for call in MARKET_CALLS),
        (
            "estimate",
            {**H100, "gpu_count": 0, "duration_s": 0, "hold_s": 0},
            {"gpu_count", "duration_s", "hold_s"},
        ),
        ("estimate", {**H100, "gpu_count": 10**8, "hold_s": 3_601}, {"gpu_count", "hold_s"}),
        (
            "history",
            {**H100, "start_time_us": -1, "page_size": -1, "page_token": "!"},
            {"start_time_us", "page_size", "page_token"},
        ),
        ("history", {**H100, "start_time_us": 5, "end_time_us": 4}, {"end_time_us"}),
        ("indicative", {"gpu_count": 0, "deadline_ms": 0}, {"cluster.gpu_count", "deadline_ms"}),
        ("indicative", {"gpu_models": ["nothing"]}, {"cluster.gpu_models[0]"}),
    ],
)
def test_bad_input_is_listed(shared: Loopback, call: str, fields: dict[str, Any], named: set[str]) -> None:
    """Law 9: every violation of every new field is named."""
    refusal = refused(getattr(shared.client, call), **fields)
    assert refusal.reason == "INVALID_INPUT" and named <= set(refusal.fields), refusal


@pytest.mark.parametrize("fields", [{"after_epoch": -1}, {"security_tier": "TOP"}])
def test_a_bad_watch(shared: Loopback, fields: dict[str, Any]) -> None:
    """Law 9: a watch is checked like any call."""
    refusal = refused(lambda: list(shared.client.watch(**fields)))
    assert refusal.reason == "INVALID_INPUT" and refusal.fields == tuple(fields)


def test_unknown_markets(shared: Loopback) -> None:
    """Law 9: a market that is not there is NOT_FOUND."""
    nowhere = {**H100, "region": "mars"}
    for call in (shared.client.price, shared.client.history, shared.client.supply_curve):
        assert refused(call, **nowhere).reason == "NOT_FOUND"
    assert refused(shared.client.estimate, **nowhere, gpu_count=1).reason == "NOT_FOUND"


def test_frozen_without_enough_sources(tmp_path: Path) -> None:
    """Law: below its quorum the price stays, says that it is frozen, and why; quotes go on."""
    for loopback in running(tmp_path / "quorum", oracle=OracleParameters(quorum=3)):
        loopback.client.load(small_fleet())
        epochs(loopback, 3)
        price = loopback.client.price(**H100)
        assert (price.posted_price_micro_usd_per_gpu_hour, price.limited_by) == (OPENING, "FROZEN")
        assert not price.health.is_healthy and "BELOW_QUORUM" in price.health.failure_reasons
