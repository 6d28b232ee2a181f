"""The demand of the last hours, as the oracle reads it: every lease counts, an unserved wish once a tenant.

A quote or a refusal costs its caller nothing, so repeating one must not look like more demand: what was wanted
and not leased counts once per tenant and request, however often it was asked for, and is forgotten when the same
request is leased. A lease that ends early was demand only for as long as it ran (docs/manipulation.md). Bounded in
age and number; what is over the bounds goes, oldest first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

from engine.domain.cluster_request import ClusterRequest, with_gpu_count, with_request_id

KEPT_US_DEFAULT = 4 * 3_600 * 1_000_000
LEASES_MAX, TENANT_WISHES_MAX, TENANTS_MAX = 50_000, 100, 1_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request (without its id) of a tenant: when it was made, how long it counts for, whether it was served."""

    at_us: int
    tenant_id: str
    request: ClusterRequest
    duration_s: int
    is_leased: bool


@dataclass(slots=True)
class DemandWindow:
    """`leased` by lease, `wished` by tenant and request, both in the order of their latest time."""

    kept_us: int = KEPT_US_DEFAULT
    leased: dict[str, Wanted] = field(default_factory=dict)
    wished: dict[str, dict[ClusterRequest, Wanted]] = field(default_factory=dict)

    def lease(self, at_us: int, tenant_id: str, request: ClusterRequest, lease_id: str) -> None:
        """A request was served."""
        self.leased[lease_id] = self.serve(at_us, tenant_id, request)

    def serve(self, at_us: int, tenant_id: str, request: ClusterRequest) -> Wanted:
        """What `leased` is to say of a lease: its request is no wish any more."""
        wanted = _wanted(at_us, tenant_id, request, is_leased=True)
        self._no_wish(wanted)
        return wanted

    def wait(self, tenant_id: str, request: ClusterRequest) -> None:
        """A request became an order, which is demand of its own: no wish any more."""
        self._no_wish(_wanted(0, tenant_id, request, is_leased=False))

    def _no_wish(self, wanted: Wanted) -> None:
        own = self.wished.get(wanted.tenant_id)
        if own is not None:
            own.pop(wanted.request, None)
            if not own:
                del self.wished[wanted.tenant_id]

    def extend(self, at_us: int, tenant_id: str, request: ClusterRequest, lease_id: str, added_s: int) -> None:
        """A lease was extended: as if it had been longer from the start, or new demand if that is forgotten."""
        wanted = self.leased.get(lease_id)
        if wanted is None:
            wanted = replace(_wanted(at_us, tenant_id, request, is_leased=True), duration_s=0)
        self.leased[lease_id] = replace(wanted, duration_s=wanted.duration_s + added_s)

    def shrink(self, lease_id: str, gpu_count: int) -> None:
        """A lease gave GPUs back: they do not count, however long they ran."""
        wanted = self.leased.get(lease_id)
        if wanted is not None:
            self.leased[lease_id] = replace(wanted, request=with_gpu_count(wanted.request, gpu_count))

    def end(self, lease_id: str, ended_at_us: int) -> None:
        """A lease ended: it counts for no longer than it ran."""
        wanted = self.leased.get(lease_id)
        if wanted is not None:
            ran_s = min(wanted.duration_s, (ended_at_us - wanted.at_us) // 1_000_000)
            self.leased[lease_id] = replace(wanted, duration_s=ran_s)

    def wish(self, at_us: int, tenant_id: str, request: ClusterRequest) -> None:
        """A request was quoted or refused."""
        wanted, own = _wanted(at_us, tenant_id, request, is_leased=False), self.wished.pop(tenant_id, {})
        own.pop(wanted.request, None)
        own[wanted.request] = wanted
        self.wished[tenant_id] = own
        if len(own) > TENANT_WISHES_MAX:
            del own[next(iter(own))]

    def forget(self, now_us: int) -> None:
        """Drop what is too old or too much."""
        oldest_us = now_us - self.kept_us
        gone: list[str] = []
        for lease_id, wanted in self.leased.items():
            if wanted.at_us >= oldest_us and len(self.leased) - len(gone) <= LEASES_MAX:
                break
            gone.append(lease_id)
        for lease_id in gone:
            del self.leased[lease_id]
        while self.wished:
            tenant_id, own = next(iter(self.wished.items()))
            newest = next(reversed(own.values()))
            if newest.at_us >= oldest_us and len(self.wished) <= TENANTS_MAX:
                break
            del self.wished[tenant_id]

    def since(self, oldest_us: int) -> Iterator[Wanted]:
        """Everything wanted at or after a time."""
        everything = chain(self.leased.values(), *(own.values() for own in self.wished.values()))
        return (wanted for wanted in everything if wanted.at_us >= oldest_us)


def _wanted(at_us: int, tenant_id: str, request: ClusterRequest, is_leased: bool) -> Wanted:
    return Wanted(at_us, tenant_id, with_request_id(request, ""), request.priced_duration_s, is_leased)
