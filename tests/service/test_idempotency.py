"""Idempotency keys (law 4): the same key and body give the same answer and no second effect."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from tests.service.loopback import Client, Loopback, load_chunks, node, refused, small_fleet

RTTS = [{"site_a": "iad1", "site_b": "sfo1", "rtt_ms": 60.0}]


def without_timings(lease: Any) -> Any:
    lease.ClearField("timings")
    return lease


def in_use(refusal: Any) -> None:
    assert refusal.code is grpc.StatusCode.ALREADY_EXISTS, refusal
    assert (refusal.reason, refusal.domain) == ("IDEMPOTENCY_KEY_REUSED", "walras")


def test_deploy_twice(client: Client) -> None:
    """Law 4: the second call answers with the first one's lease, field for field, and leases nothing."""
    first = without_timings(client.deploy(key="k"))
    version = client.stats().state_version
    assert without_timings(client.deploy(key="k")) == first
    assert client.stats().state_version == version
    in_use(refused(client.deploy, key="k", gpu_count=4))
    in_use(refused(client.deploy_quote, "quotes/q-1", key="k"))
    assert client.stats().state_version == version


def test_deploy_again_after_everything_changed(client: Client) -> None:
    """Law 4: the answer stays the same after a release, another ask, a node's end, and a full fleet."""
    first = without_timings(client.deploy(key="k", gpu_models=["H100"], gpu_count=16, regions=["us-east"]))
    client.release(first.name)
    client.load([node("h1", ask_micro_usd_per_gpu_hour=2_500_000)])
    client.set_state("nodes/h2", "DOWN")
    client.deploy(gpu_models=["A100"], gpu_count=12, allow_mixed_models=True)
    again = client.deploy(key="k", gpu_models=["H100"], gpu_count=16, regions=["us-east"])
    assert without_timings(again) == first


def test_quote_twice(client: Client) -> None:
    """Law 4: a repeated quote is the first quote."""
    first = client.quote(key="k", ttl_s=60)
    assert client.quote(key="k", ttl_s=60) == first
    in_use(refused(client.quote, key="k", ttl_s=61))
    in_use(refused(client.quote, key="k", ttl_s=60, gpu_count=4))


def test_quote_again_after_its_prices_line_moved(client: Client) -> None:
    """Law 4: a repeated quote shows the same lines after the asks behind it have changed."""
    first = client.quote(key="k", ttl_s=60, gpu_models=["H100"], gpu_count=16, regions=["us-east"])
    client.load([node("h1", ask_micro_usd_per_gpu_hour=2_500_000)])
    assert client.quote(key="k", ttl_s=60, gpu_models=["H100"], gpu_count=16, regions=["us-east"]) == first


def test_deploy_quote_twice(client: Client) -> None:
    """Laws 4 and 5: a quote deployed twice under one key is one lease."""
    quote = client.quote()
    first = without_timings(client.deploy_quote(quote.name, key="k"))
    assert without_timings(client.deploy_quote(quote.name, key="k")) == first
    assert client.stats().leases_active == 1


def test_release_twice(client: Client) -> None:
    """Law 4: the same of releases; a key that came with one lease does not release another."""
    one, two = client.deploy(gpu_count=1), client.deploy(gpu_count=1)
    first = client.release(one.name, key="k")
    assert client.release(one.name, key="k") == first
    in_use(refused(client.release, two.name, key="k"))
    assert client.lease(two.name).state == two.STATE_ACTIVE


def test_a_key_used_on_a_lease_that_was_over(client: Client) -> None:
    """Law 4: a call that changed nothing used its key, too."""
    one, two = client.deploy(gpu_count=1), client.deploy(gpu_count=1)
    client.release(one.name)
    client.release(one.name, key="k")
    in_use(refused(client.release, two.name, key="k"))


def test_set_state_twice(client: Client) -> None:
    """Law 4: a repeated SetNodeState does not undo what came after; it answers with the node as it is by then."""
    client.set_state("nodes/h1", "DOWN", key="k")
    client.set_state("nodes/h1", "READY")
    version = client.stats().state_version
    assert client.set_state("nodes/h1", "DOWN", key="k") == client.node("nodes/h1")
    assert client.node("nodes/h1").state == "READY"
    assert client.stats().state_version == version
    in_use(refused(client.set_state, "nodes/h1", "DRAINING", key="k"))
    in_use(refused(client.set_state, "nodes/h2", "DOWN", key="k"))


def test_load_twice(client: Client) -> None:
    """Law 4: a repeated load changes nothing and says what the first one did."""
    first = client.load([node("n1"), node("n2")], RTTS, key="k")
    client.load([node("n3")])
    version = client.stats().state_version
    assert client.load([node("n1"), node("n2")], RTTS, key="k") == first
    assert client.stats().state_version == version
    in_use(refused(client.load, [node("n1")], RTTS, key="k"))
    in_use(refused(client.load_messages, [*load_chunks([node("n1"), node("n2")], key="k")]))


def test_keys_of_two_tenants_do_not_meet(client: Client) -> None:
    """Laws 4 and 8: a key is its tenant's own, and so is its answer."""
    bob = client.as_tenant("bob")
    mine, his = client.deploy(key="k", gpu_count=1), bob.deploy(key="k", gpu_count=2)
    assert mine.lease_id != his.lease_id
    assert client.quote(key="q", gpu_count=1).name != bob.quote(key="q", gpu_count=2).name
    assert refused(bob.release, mine.name, key="k").code is grpc.StatusCode.NOT_FOUND
    bob.release(his.name, key="k")
    client.release(mine.name, key="k")


def test_keys_of_two_methods_do_not_meet(client: Client) -> None:
    """Law 4: a key belongs to a method."""
    quote = client.quote(key="k")
    lease = client.deploy_quote(quote.name, key="k")
    client.release(lease.name, key="k")
    client.set_state("nodes/h1", "DRAINING", key="k")
    client.load(small_fleet(), key="k")


def test_a_refused_call_does_not_use_its_key(client: Client) -> None:
    """Law 4: a no has no effect to repeat; the same key may ask again."""
    assert refused(client.deploy, key="k", gpu_count=1_000).code is grpc.StatusCode.FAILED_PRECONDITION
    client.deploy(key="k", gpu_count=8)


def test_duplicates_in_flight(client: Client) -> None:
    """Law 4: sixteen copies of one call at once make one lease; a stranger among them is told."""
    with ThreadPoolExecutor(16) as pool:
        leases = list(pool.map(lambda _: client.deploy(key="k", gpu_count=3), range(16)))
    assert len({lease.lease_id for lease in leases}) == 1
    assert client.stats().gpus_leased == 3
    with ThreadPoolExecutor(16) as pool:
        done = list(pool.map(lambda i: _tried(client.deploy, key="j", gpu_count=1 + i % 2), range(16)))
    assert len({lease.lease_id for lease in done if not isinstance(lease, grpc.StatusCode)}) == 1
    assert {code for code in done if isinstance(code, grpc.StatusCode)} == {grpc.StatusCode.ALREADY_EXISTS}


def _tried(call: Callable[..., Any], **fields: Any) -> Any:
    try:
        return call(**fields)
    except grpc.RpcError as error:
        return error.code()


def test_after_a_restart(client: Client, reopened: Callable[[], Client]) -> None:
    """Law 4: an unknown outcome is resolved by its key, also by the next engine."""
    quote = client.quote(key="q", gpu_count=2)
    calls: list[Callable[[Client], Any]] = [
        lambda c: c.deploy(key="d", gpu_count=3),
        lambda c: c.quote(key="q", gpu_count=2),
        lambda c: c.deploy_quote(quote.name, key="dq"),
        lambda c: c.set_state("nodes/h3", "DOWN", key="s"),
        lambda c: c.load([node("n1")], RTTS, key="l"),
    ]
    before = [call(client) for call in calls]
    version = client.stats().state_version
    after = reopened()
    for call, answer in zip(calls, before, strict=True):
        again = call(after)
        for message in (again, answer):
            if hasattr(message, "timings"):
                message.ClearField("timings")
        assert again == answer
    in_use(refused(after.deploy, key="d", gpu_count=4))
    assert after.stats().state_version == version


@pytest.mark.parametrize("hours", [26, 50, 70, 100])
def test_a_key_of_days_ago(loopback: Loopback, hours: int) -> None:
    """Law 4: a key is honoured or, with its lease long over, forgotten; a call never fails over it."""
    client, clock = loopback.client, loopback.clock
    client.deploy(key="k", gpu_count=1, duration_s=40 * 3_600)
    for _ in range(hours):
        clock.advance_s(3_600)
        client.quote(gpu_count=1)
    assert client.deploy(key="k", gpu_count=1, duration_s=40 * 3_600).lease_id
