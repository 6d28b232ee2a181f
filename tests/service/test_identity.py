"""Who is calling, and what another one's belongings look like (law 8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from walras.v1 import cluster_service_pb2, fleet_service_pb2, oracle_service_pb2, plan_service_pb2

from tests.service.loopback import TIMEOUT_S, Client, Loopback, node, refused, running
from tests.service.planners import Planner, wanted
from tests.service.reflected import services_of

MISSING = "leases/l-0000099999"
METHODS: dict[str, Callable[[Client], Any]] = {
    "QuoteCluster": lambda client: client.quote(),
    "DeployCluster": lambda client: client.deploy(),
    "DeployCluster of a quote": lambda client: client.deploy_quote("quotes/q-0000000001"),
    "ExplainCluster": lambda client: client.explain(),
    "GetLease": lambda client: client.lease(MISSING),
    "ListLeases": lambda client: client.leases(),
    "ReleaseLease": lambda client: client.release(MISSING),
    "ListLeaseNodes": lambda client: client.lease_nodes(MISSING),
    "ExtendLease": lambda client: client.extend(MISSING),
    "ShrinkLease": lambda client: client.shrink(MISSING),
    "LoadFleet": lambda client: client.load([node("n1")]),
    "LoadFleet of nothing": lambda client: client.load_messages([]),
    "GetNode": lambda client: client.node("nodes/h1"),
    "ListNodes": lambda client: client.nodes(),
    "SetNodeState": lambda client: client.set_state("nodes/h1", "DOWN"),
    "GetFleetStats": lambda client: client.stats(),
    "GetPrice": lambda client: client.price(gpu_model="H100", region="us-east", security_tier="SECURE"),
    "ListPrices": lambda client: client.prices(),
    "RunPlan": lambda client: Planner(client).run(wanted("a")),
    "RunPlan of nothing": lambda client: list(Planner(client).start()),
    "GetPlan": lambda client: Planner(client).page("plans/p-1-1"),
    "ApplyPlan": lambda client: Planner(client).apply("plans/p-1-1"),
}


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """An engine that is not in development mode."""
    yield from running(tmp_path_factory.mktemp("closed"), dev=False)


def assert_unauthenticated(refusal: Any) -> None:
    assert refusal.code is grpc.StatusCode.UNAUTHENTICATED, refusal
    assert (refusal.reason, refusal.domain) == ("UNAUTHENTICATED", "walras")


@pytest.mark.parametrize("method", METHODS)
def test_nobody_gets_nothing(shared: Loopback, method: str) -> None:
    """Law 8: a call without a credential is UNAUTHENTICATED, whatever it asks, and changes nothing."""
    before = shared.hash()
    assert_unauthenticated(refused(METHODS[method], shared.client.as_tenant(None)))
    assert shared.hash() == before


@pytest.mark.parametrize("tenant", ["", "a" * 129])
def test_a_name_that_is_no_name(shared: Loopback, tenant: str) -> None:
    """Law 8: an empty or endless tenant is nobody."""
    assert_unauthenticated(refused(shared.client.as_tenant(tenant).stats))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tenant", ["alice", None])
def test_without_development_mode_nobody_is_believed(closed: Loopback, method: str, tenant: str | None) -> None:
    """Law 8: an engine that cannot verify credentials refuses every call, also one that names its tenant."""
    assert_unauthenticated(refused(METHODS[method], closed.client.as_tenant(tenant)))
    assert closed.engine.state.version == 0


def test_health_and_reflection_are_open(closed: Loopback) -> None:
    """Law 8: health and reflection tell nothing of anybody and are answered to anybody."""
    stub = health_pb2_grpc.HealthStub(closed.channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert services_of(closed.channel)


@pytest.mark.parametrize("method", [Client.lease, Client.release, Client.extend, Client.shrink])
@pytest.mark.parametrize("ended", [False, True], ids=["active", "ended"])
def test_a_foreign_lease_is_a_missing_one(loopback: Loopback, method: Any, ended: bool) -> None:
    """Law 8: no answer reveals that another tenant's lease exists: same code, text apart from the id, details."""
    alice, bob = loopback.client, loopback.client.as_tenant("bob")
    lease = alice.deploy()
    if ended:
        alice.release(lease.name)
    before = loopback.hash()
    foreign, missing = refused(method, bob, lease.name), refused(method, bob, MISSING)
    assert foreign.code is missing.code is grpc.StatusCode.NOT_FOUND
    assert foreign.message.replace(lease.name, "?") == missing.message.replace(MISSING, "?")
    for part in ("reason", "domain", "fields", "explanation", "metadata"):
        assert getattr(foreign, part) == getattr(missing, part)
    assert "alice" not in foreign.message
    assert loopback.hash() == before


def test_a_key_does_not_open_a_foreign_lease(loopback: Loopback) -> None:
    """Laws 4 and 8: neither a known key nor a fresh one makes another tenant's lease answer otherwise."""
    alice, bob = loopback.client, loopback.client.as_tenant("bob")
    lease = alice.deploy(key="k", gpu_count=1)
    alice.release(lease.name, key="k")
    before = loopback.hash()
    for key in ("k", "fresh"):
        foreign = refused(bob.release, lease.name, key=key)
        missing = refused(bob.release, MISSING, key=key)
        assert foreign.code is missing.code is grpc.StatusCode.NOT_FOUND
        assert foreign.reason == missing.reason
    assert loopback.hash() == before


def test_lists_show_ones_own(client: Client) -> None:
    """Law 8: page by page, ended or not, each tenant sees all of its leases and none of the others'."""
    tenants = [client, client.as_tenant("bob"), client.as_tenant("carol")]
    mine: dict[str, list[str]] = {}
    for round_ in range(12):
        tenant = tenants[round_ % 2]
        lease = tenant.deploy(gpu_count=1)
        mine.setdefault(str(tenant.tenant), []).append(lease.name)
        if round_ % 3 == 0:
            tenant.release(lease.name)
    for tenant in tenants:
        for page_size in (1, 2, 5, 100):
            listed = list(_pages(tenant, page_size=page_size, show_ended=True))
            assert [lease.name for lease in listed] == mine.get(str(tenant.tenant), [])
            assert {lease.tenant_id for lease in listed} <= {tenant.tenant}
        active = [lease.name for lease in _pages(tenant, page_size=2)]
        ended = [lease.name for lease in listed if lease.state == lease.STATE_ENDED]
        assert sorted([*active, *ended]) == mine.get(str(tenant.tenant), [])


def _pages(client: Client, **fields: Any) -> Iterator[Any]:
    """All leases of a list, page by page."""
    token = ""
    while True:
        page = client.leases(page_token=token, **fields)
        assert len(page.leases) <= fields["page_size"]
        yield from page.leases
        token = page.next_page_token
        if not token:
            return


def test_a_foreign_page_token(client: Client) -> None:
    """Law 8: a token is a place in a list, not a key to it: with alice's token bob reads his own list."""
    for _ in range(4):
        client.deploy(gpu_count=1)
    bob = client.as_tenant("bob")
    his = bob.deploy(gpu_count=1)
    token = client.leases(page_size=2).next_page_token
    assert [lease.name for lease in bob.leases(page_token=token).leases] == [his.name]


def test_requests_cannot_say_who_asks() -> None:
    """Law 8: no message that a caller sends has a field for the tenant."""
    seen: set[str] = set()

    def walk(message: Any) -> None:
        if message.full_name in seen:
            return
        seen.add(message.full_name)
        for field in message.fields:
            assert "tenant" not in field.name, field.full_name
            if field.message_type is not None:
                walk(field.message_type)

    for module in (cluster_service_pb2, fleet_service_pb2, oracle_service_pb2, plan_service_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                walk(method.input_type)
    assert "walras.v1.ClusterRequest" in seen
