"""Laws: demand that costs nothing moves little; a lease counts for as long as it ran; the window is bounded."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.cluster_request import ClusterRequest, parse_cluster_request
from engine.market.demand_window import TENANT_WISHES_MAX, DemandWindow
from engine.service.market_view import UNLIMITED, bounded_wishes

SECOND_US = 1_000_000


def request(gpus: int = 8, duration_s: int = 3_600) -> ClusterRequest:
    return parse_cluster_request(
        {"request_id": "any", "gpu_models": ["H100"], "gpu_count": gpus, "duration_s": duration_s}
    )


def gpu_seconds(window: DemandWindow) -> int:
    return sum(wanted.request.gpu_count * wanted.duration_s for wanted in window.since(0))


@given(ran_s=st.integers(0, 10_000))
def test_a_lease_counts_for_as_long_as_it_ran(ran_s: int) -> None:
    window = DemandWindow()
    window.lease(0, "tenant", request(), "lease")
    assert gpu_seconds(window) == 8 * 3_600
    window.end("lease", ran_s * SECOND_US)
    assert gpu_seconds(window) == 8 * min(ran_s, 3_600)


def test_the_end_of_a_lease_that_is_forgotten_changes_nothing() -> None:
    window = DemandWindow(kept_us=SECOND_US)
    window.lease(0, "tenant", request(), "lease")
    window.forget(3 * SECOND_US)
    window.end("lease", 3 * SECOND_US)
    assert list(window.since(0)) == []


def test_a_wish_counts_once_and_not_beside_its_lease() -> None:
    window = DemandWindow()
    for at_us in range(5):
        window.wish(at_us, "tenant", request())
    assert gpu_seconds(window) == 8 * 3_600
    window.lease(9, "tenant", request(), "lease")
    assert gpu_seconds(window) == 8 * 3_600


def test_the_wishes_of_a_tenant_are_bounded_in_number() -> None:
    window = DemandWindow()
    for gpus in range(1, 3 * TENANT_WISHES_MAX):
        window.wish(gpus, "tenant", request(gpus))
    assert len(list(window.since(0))) == TENANT_WISHES_MAX


bids = st.lists(
    st.tuples(st.integers(0, 10**12), st.integers(0, 3), st.sampled_from((UNLIMITED, 1, 50_000, 10**9))),
    min_size=1,
    max_size=20,
)


@given(bids)
def test_no_tenant_wishes_for_more_than_its_share(rows: list[tuple[int, int, int]]) -> None:
    """Shares of a tenant add up to at most 1; leases stay as they are, and so do wishes that keep the bound."""
    asked, tenant, most = np.array(rows, dtype=np.int64).T
    counted = bounded_wishes(asked, tenant, most)
    leased = most == UNLIMITED
    assert np.array_equal(counted[leased], asked[leased])
    assert np.all((counted >= 0) & (counted <= asked))
    for one in np.unique(tenant):
        mine = ~leased & (tenant == one)
        assert (counted[mine] / most[mine]).sum() <= 1 + 1e-9
        if (asked[mine] / most[mine]).sum() <= 1:
            assert np.array_equal(counted[mine], asked[mine])
