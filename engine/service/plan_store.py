"""Plans that were made and not thrown away yet: in memory, by tenant, bounded in number and age."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.domain.cluster_request import ClusterRequest
from engine.planning.queue_plan import QueuePlan
from engine.planning.snapshot import Rules
from solvers.planning.plan import Limits

KEPT_US = 3_600 * 1_000_000
TENANT_PLANS_MAX, PLANS_MAX = 4, 16


@dataclass(frozen=True, slots=True)
class KeptPlan:
    """A plan of a tenant. `wall_s`: how long making it took. `last_plan_id`: what it started from, if anything.

    `messages`: its requests by the bytes of their messages, for a queue that starts from it.
    """

    plan_id: str
    tenant_id: str
    created_at_us: int
    expires_at_us: int
    made: QueuePlan
    rules: Rules
    limits: Limits
    wall_s: float
    last_plan_id: str
    messages: Mapping[bytes, ClusterRequest]


class PlanStore:
    """The latest TENANT_PLANS_MAX plans of each tenant, PLANS_MAX in all, none older than KEPT_US.

    Beyond PLANS_MAX the tenant that keeps most loses its oldest: nobody pushes out the only plan of another one
    while it keeps two.
    """

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._plans: dict[str, KeptPlan] = {}
        self._made = 0

    def add(
        self,
        tenant_id: str,
        made: QueuePlan,
        rules: Rules,
        limits: Limits,
        wall_s: float,
        last_plan_id: str,
        messages: Mapping[bytes, ClusterRequest],
    ) -> KeptPlan:
        """Keep a plan under a new id, dropping what is beyond the limits."""
        now_us, self._made = self._now_us(), self._made + 1
        plan_id = f"p-{now_us}-{self._made}"
        expires_us = now_us + KEPT_US
        kept = KeptPlan(
            plan_id, tenant_id, now_us, expires_us, made, rules, limits, wall_s, last_plan_id, messages
        )
        self._plans[kept.plan_id] = kept
        counts = Counter(plan.tenant_id for plan in self._plans.values())
        if counts[tenant_id] > TENANT_PLANS_MAX:
            self._drop_oldest(tenant_id)
        elif len(self._plans) > PLANS_MAX:
            self._drop_oldest(counts.most_common(1)[0][0])
        return kept

    def _drop_oldest(self, tenant_id: str) -> None:
        del self._plans[next(plan_id for plan_id, plan in self._plans.items() if plan.tenant_id == tenant_id)]

    def find(self, tenant_id: str, plan_id: str) -> KeptPlan | None:
        """The tenant's plan; None for another tenant's, as for one that is not kept."""
        now_us = self._now_us()
        self._plans = {key: plan for key, plan in self._plans.items() if now_us < plan.expires_at_us}
        kept = self._plans.get(plan_id)
        return kept if kept is not None and kept.tenant_id == tenant_id else None
