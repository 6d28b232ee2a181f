"""Quotes (law 5): honoured at their price until their end, once, for their tenant; refused typed otherwise."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from tests.service.loopback import Client, Loopback, node, refused

EAST = {"gpu_models": ["H100"], "regions": ["us-east"], "gpu_count": 16}


def unusable(refusal: Any, reason: str) -> None:
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION, refusal
    assert (refusal.reason, refusal.domain) == (reason, "walras")


def test_what_is_charged_is_what_was_shown(client: Client) -> None:
    """Law 5: price, placement and proof of the lease are the quote's, also after dearer asks were loaded."""
    quote = client.quote(**EAST, duration_s=1_234)
    client.load([node("h1", ask_micro_usd_per_gpu_hour=9_000_000)])
    lease = client.deploy_quote(quote.name)
    assert (lease.price.total_micro_usd, lease.price.rate_micro_usd_per_hour) == (
        quote.price.total_micro_usd,
        quote.price.rate_micro_usd_per_hour,
    )
    assert lease.placement == quote.placement
    assert lease.price == quote.price
    assert lease.certificate == quote.certificate
    assert lease.request_id == quote.request_id


@pytest.mark.parametrize(("early_us", "usable"), [(1, True), (0, False), (-1, False)])
def test_a_quote_ends_at_its_ttl(loopback: Loopback, early_us: int, usable: bool) -> None:
    """Law 5: firm up to the microsecond before its end."""
    quote = loopback.client.quote(ttl_s=60)
    assert quote.expire_time_us == quote.create_time_us + 60_000_000
    loopback.clock.now_us = quote.expire_time_us - early_us
    if usable:
        loopback.client.deploy_quote(quote.name)
    else:
        unusable(refused(loopback.client.deploy_quote, quote.name), "QUOTE_EXPIRED")


def test_a_quote_is_used_once(client: Client) -> None:
    """Law 5: once, also after its lease was released."""
    quote = client.quote()
    lease = client.deploy_quote(quote.name)
    unusable(refused(client.deploy_quote, quote.name), "QUOTE_USED")
    client.release(lease.name)
    unusable(refused(client.deploy_quote, quote.name), "QUOTE_USED")


def test_a_foreign_quote_is_a_missing_one(client: Client) -> None:
    """Laws 5 and 8: another tenant's quote answers exactly like one that never was."""
    quote = client.quote()
    bob = client.as_tenant("bob")
    foreign, missing = refused(bob.deploy_quote, quote.name), refused(bob.deploy_quote, "quotes/q-0000099999")
    assert foreign.code is missing.code is grpc.StatusCode.NOT_FOUND
    assert foreign.message.replace(quote.name, "") == missing.message.replace("quotes/q-0000099999", "")
    assert (foreign.reason, foreign.fields, foreign.metadata) == (missing.reason, missing.fields, missing.metadata)
    client.deploy_quote(quote.name)


def test_capacity_that_is_gone(client: Client) -> None:
    """Laws 1 and 5: a quote holds nothing; when its GPUs are taken it is refused typed."""
    quote = client.quote(**EAST)
    lease = client.deploy(gpu_models=["H100"], regions=["us-east"], gpu_count=1)
    unusable(refused(client.deploy_quote, quote.name), "QUOTE_CAPACITY_GONE")
    client.release(lease.name)
    client.deploy_quote(quote.name)


@pytest.mark.parametrize("state", ["DRAINING", "DOWN"])
def test_a_quote_for_a_node_that_is_not_ready(client: Client, state: str) -> None:
    """Law 3: a node that drains takes no new work, quoted or not; the refusal names it and its state."""
    quote = client.quote(**EAST)
    client.set_state("nodes/h1", state)
    refusal = refused(client.deploy_quote, quote.name)
    unusable(refusal, "QUOTE_CAPACITY_GONE")
    assert f"nodes/h1 is {state};" in refusal.message and "taken" not in refusal.message


@pytest.mark.parametrize(
    "change",
    [
        {"security_tier": "COMMUNITY"},
        {"reliability": 0.5},
        {"certifications": []},
        {"gpu_model": "A100"},
        {"interconnect": "ETHERNET"},
        {"connectivity_tier": "LOW"},
        {"supplier_id": "evil"},
    ],
)
def test_a_quote_whose_node_became_another(loopback: Loopback, change: dict[str, Any]) -> None:
    """Laws 3 and 5: constraints hold at commit time; a quote that no longer keeps them is refused typed."""
    client = loopback.client
    quote = client.quote(
        **EAST,
        min_security_tier="SECURITY_TIER_SECURE",
        min_reliability=0.9,
        certifications=["SOC2"],
        min_interconnect="INTERCONNECT_ROCE",
        min_connectivity_tier="CONNECTIVITY_TIER_HIGH",
        excluded_suppliers=["evil"],
    )
    client.load([node("h1", **change)])
    version = client.stats().state_version
    refusal = refused(client.deploy_quote, quote.name)
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION, refusal
    assert refusal.reason.startswith("QUOTE_")
    assert client.stats().state_version == version
