"""The demand of the last hours, as the oracle reads it: every lease counts, an unserved wish once a tenant.

A quote or a refusal costs its caller nothing, so repeating one must not look like more demand: what was wanted
and not leased counts once per tenant and request, however often it was asked for, and is forgotten when the same
request is leased. Bounded in age and number; what is over the bounds goes, oldest first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

from engine.domain.cluster_request import ClusterRequest

KEPT_US_DEFAULT = 4 * 3_600 * 1_000_000
LEASES_MAX, TENANT_WISHES_MAX, TENANTS_MAX = 50_000, 100, 1_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request (without its id) of a tenant, and when it was made."""

    at_us: int
    tenant_id: str
    request: ClusterRequest


@dataclass(slots=True)
class DemandWindow:
    """`leased` by age; `wished`: by tenant and request, both in the order of their latest time."""

    kept_us: int = KEPT_US_DEFAULT
    leased: deque[Wanted] = field(default_factory=deque)
    wished: dict[str, dict[ClusterRequest, Wanted]] = field(default_factory=dict)

    def lease(self, at_us: int, tenant_id: str, request: ClusterRequest) -> None:
        """A request was served."""
        wanted = _wanted(at_us, tenant_id, request)
        self.leased.append(wanted)
        own = self.wished.get(tenant_id)
        if own is not None:
            own.pop(wanted.request, None)
            if not own:
                del self.wished[tenant_id]

    def wish(self, at_us: int, tenant_id: str, request: ClusterRequest) -> None:
        """A request was quoted or refused."""
        wanted, own = _wanted(at_us, tenant_id, request), self.wished.pop(tenant_id, {})
        own.pop(wanted.request, None)
        own[wanted.request] = wanted
        self.wished[tenant_id] = own
        if len(own) > TENANT_WISHES_MAX:
            del own[next(iter(own))]

    def forget(self, now_us: int) -> None:
        """Drop what is too old or too much."""
        oldest_us = now_us - self.kept_us
        while self.leased and (self.leased[0].at_us < oldest_us or len(self.leased) > LEASES_MAX):
            self.leased.popleft()
        while self.wished:
            tenant_id, own = next(iter(self.wished.items()))
            newest = next(reversed(own.values()))
            if newest.at_us >= oldest_us and len(self.wished) <= TENANTS_MAX:
                break
            del self.wished[tenant_id]

    def since(self, oldest_us: int) -> Iterator[Wanted]:
        """Everything wanted at or after a time."""
        everything = chain(self.leased, *(own.values() for own in self.wished.values()))
        return (wanted for wanted in everything if wanted.at_us >= oldest_us)


def _wanted(at_us: int, tenant_id: str, request: ClusterRequest) -> Wanted:
    return Wanted(at_us, tenant_id, replace(request, request_id="") if request.request_id else request)
