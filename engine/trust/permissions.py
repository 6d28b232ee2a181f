"""What a caller may do. One table, one function, default deny: what has no row is refused to everybody.

A row says which roles may call a method at all. Whose an object is, is asked of the object: its `Resource` lists
the accounts that own it, and another one's answers exactly like a missing one. Changes are checked once more where
they are decided, against the row's owner at that moment (`engine.market.decide`).
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.domain.errors import NotFound, PermissionDenied
from engine.trust.principal import Principal, Role

TENANTS = frozenset({Role.TENANT})
OPERATORS = frozenset({Role.OPERATOR})
ACCOUNT_HOLDERS = frozenset({Role.TENANT, Role.SUPPLIER})
OWNERS = frozenset({Role.OPERATOR, Role.SUPPLIER})
NODE_KEEPERS = OWNERS | {Role.NODE}
CUSTOMERS = frozenset({Role.OPERATOR, Role.SUPPLIER, Role.TENANT})
EVERYBODY = frozenset(Role)


@dataclass(frozen=True, slots=True)
class Permission:
    """Who may call a method. `cost`: calls that one of it counts as, against the caller's quota."""

    roles: frozenset[Role]
    mutates: bool = False
    cost: int = 1


METHODS: dict[str, Permission] = {
    "ClusterService/QuoteCluster": Permission(TENANTS, mutates=True),
    "ClusterService/GetQuote": Permission(TENANTS),
    "ClusterService/ReleaseQuote": Permission(TENANTS, mutates=True),
    "ClusterService/DeployCluster": Permission(TENANTS, mutates=True),
    "ClusterService/DeployClusters": Permission(TENANTS, mutates=True),
    "ClusterService/ExplainCluster": Permission(TENANTS, cost=5),
    "ClusterService/GetLease": Permission(TENANTS),
    "ClusterService/ListLeases": Permission(TENANTS, cost=2),
    "ClusterService/ListLeaseNodes": Permission(TENANTS, cost=2),
    "ClusterService/ReleaseLease": Permission(TENANTS, mutates=True),
    "ClusterService/ExtendLease": Permission(TENANTS, mutates=True),
    "ClusterService/ShrinkLease": Permission(TENANTS, mutates=True),
    "ClusterService/WatchLeases": Permission(TENANTS, cost=5),
    "OrderService/PlaceOrder": Permission(TENANTS, mutates=True),
    "OrderService/GetOrder": Permission(TENANTS),
    "OrderService/ListOrders": Permission(TENANTS, cost=2),
    "OrderService/CancelOrder": Permission(TENANTS, mutates=True),
    "OrderService/WatchOrders": Permission(TENANTS, cost=5),
    "FleetService/ReportHeartbeats": Permission(NODE_KEEPERS),
    "FleetService/LoadFleet": Permission(OWNERS, mutates=True, cost=20),
    "FleetService/GetNode": Permission(EVERYBODY),
    "FleetService/ListNodes": Permission(CUSTOMERS, cost=5),
    "FleetService/SetNodeState": Permission(NODE_KEEPERS, mutates=True),
    "FleetService/GetFleetStats": Permission(CUSTOMERS, cost=2),
    "LedgerService/GetBalance": Permission(ACCOUNT_HOLDERS),
    "LedgerService/ListEntries": Permission(ACCOUNT_HOLDERS, cost=2),
    "LedgerService/Deposit": Permission(OPERATORS, mutates=True),
    "LedgerService/Withdraw": Permission(OPERATORS, mutates=True),
    "OracleService/GetPrice": Permission(CUSTOMERS),
    "OracleService/ListPrices": Permission(CUSTOMERS, cost=5),
    "OracleService/WatchPrices": Permission(CUSTOMERS, cost=5),
    "OracleService/GetPriceHistory": Permission(CUSTOMERS, cost=5),
    "OracleService/EstimateCost": Permission(CUSTOMERS),
    "OracleService/GetSupplyCurve": Permission(CUSTOMERS, cost=5),
    "OracleService/GetIndicativePrice": Permission(CUSTOMERS, cost=5),
    "PlanService/RunPlan": Permission(TENANTS, mutates=True, cost=50),
    "PlanService/GetPlan": Permission(TENANTS, cost=2),
    "PlanService/ApplyPlan": Permission(TENANTS, mutates=True, cost=5),
}
"""By service and method of `walras.v1`. A test fails for a method that has no row here."""


@dataclass(frozen=True, slots=True)
class Resource:
    """An object and the accounts it belongs to. A missing one belongs to nobody and does not exist.

    `operated`: operators keep it, too.
    """

    kind: str
    name: str
    exists: bool
    owners: frozenset[str] = frozenset()
    operated: bool = False


def authorize(principal: Principal, action: str, resource: Resource | None = None) -> None:
    """Let the call pass, or raise: PermissionDenied if the role may not, NotFound if the object is not its own."""
    permission = METHODS.get(action)
    if permission is None or not principal.has(*permission.roles):
        raise PermissionDenied(f"this credential does not permit {action}")
    if resource is not None and not _may_know(principal, resource):
        raise NotFound(f"there is no {resource.kind} {resource.name}")


def _may_know(principal: Principal, resource: Resource) -> bool:
    owned = principal.account in resource.owners
    return resource.exists and (owned or (resource.operated and principal.has(Role.OPERATOR)))
