"""The rows of the authorisation matrix: by method, who may call it, an honest call, which fields name an object.

A method of the contract that has no row here fails `test_access_matrix`, as does a text field that is neither
named as an identifier nor listed as none. What is expected is written here, not read from the engine's table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from walras.v1 import cluster_service_pb2 as clusters
from walras.v1 import fleet_service_pb2 as fleet
from walras.v1 import ledger_service_pb2 as ledger
from walras.v1 import oracle_service_pb2 as oracle
from walras.v1 import order_service_pb2 as orders
from walras.v1 import plan_service_pb2 as plans

from tests.service.loopback import cluster, load_chunks, node
from tests.service.planners import wanted

NO_IDENTIFIERS = {
    *(
        "idempotency_key",
        "idempotency_keys",
        "page_token",
        "request_id",
        "state",
        "gpu_model",
        "region",
        "security_tier",
    ),
    *("gpu_models", "regions", "countries", "sites", "excluded_regions", "excluded_countries", "excluded_sites"),
    *("client_site", "certifications", "allowed_suppliers", "excluded_suppliers"),
    "node_ids",  # of heartbeats: foreign and missing ones come back alike, which a test of its own shows
    *("account_kind", "site_id", "country", "connectivity_tier", "interconnect", "fabric_id", "site_a", "site_b"),
}
"""Text fields that name no object with an owner: labels of the caller's own, grades, places, filters."""

MARKET = {"gpu_model": "H100", "region": "us-east", "security_tier": "SECURE"}


@dataclass(frozen=True)
class Row:
    """`roles`: who may call. `call`: an honest message, given ids by kind. `identifiers`: field path → kind.

    `confined`: identifiers whose foreign value is bad input rather than missing, with the reason.
    """

    roles: str
    call: Callable[[dict[str, str]], Any]
    identifiers: dict[str, str] = field(default_factory=dict)
    confined: dict[str, str] = field(default_factory=dict)


def _loaded(ids: dict[str, str]) -> Any:
    (chunk,) = load_chunks([node(ids["node_id"], supplier_id=ids["supplier_id"])])
    return chunk


CUSTOMERS = "tenant supplier operator"

ROWS: dict[str, Row] = {
    "ClusterService/QuoteCluster": Row(
        "tenant", lambda ids: clusters.QuoteClusterRequest(cluster=cluster(gpu_count=1))
    ),
    "ClusterService/GetQuote": Row(
        "tenant", lambda ids: clusters.GetQuoteRequest(name=ids["quote"]), {"name": "quote"}
    ),
    "ClusterService/ReleaseQuote": Row(
        "tenant", lambda ids: clusters.ReleaseQuoteRequest(name=ids["quote"]), {"name": "quote"}
    ),
    "ClusterService/DeployCluster": Row(
        "tenant", lambda ids: clusters.DeployClusterRequest(quote=ids["quote"]), {"quote": "quote"}
    ),
    "ClusterService/DeployClusters": Row(
        "tenant",
        lambda ids: clusters.DeployClustersRequest(
            items=[clusters.ClusterDeployment(cluster=cluster(gpu_count=1)), clusters.ClusterDeployment()]
        ),
    ),
    "ClusterService/ExplainCluster": Row(
        "tenant", lambda ids: clusters.ExplainClusterRequest(cluster=cluster(gpu_count=1))
    ),
    "ClusterService/GetLease": Row(
        "tenant", lambda ids: clusters.GetLeaseRequest(name=ids["lease"]), {"name": "lease"}
    ),
    "ClusterService/ListLeases": Row("tenant", lambda ids: clusters.ListLeasesRequest(show_ended=True)),
    "ClusterService/ListLeaseNodes": Row(
        "tenant", lambda ids: clusters.ListLeaseNodesRequest(name=ids["lease"]), {"name": "lease"}
    ),
    "ClusterService/ReleaseLease": Row(
        "tenant", lambda ids: clusters.ReleaseLeaseRequest(name=ids["lease"]), {"name": "lease"}
    ),
    "ClusterService/ExtendLease": Row(
        "tenant", lambda ids: clusters.ExtendLeaseRequest(name=ids["lease"], duration_s=60), {"name": "lease"}
    ),
    "ClusterService/ShrinkLease": Row(
        "tenant", lambda ids: clusters.ShrinkLeaseRequest(name=ids["lease"], replicas=1), {"name": "lease"}
    ),
    "ClusterService/WatchLeases": Row("tenant", lambda ids: clusters.WatchLeasesRequest()),
    "OrderService/PlaceOrder": Row("tenant", lambda ids: orders.PlaceOrderRequest(cluster=wanted("o", 1))),
    "OrderService/GetOrder": Row(
        "tenant", lambda ids: orders.GetOrderRequest(name=ids["order"]), {"name": "order"}
    ),
    "OrderService/ListOrders": Row("tenant", lambda ids: orders.ListOrdersRequest(show_ended=True)),
    "OrderService/CancelOrder": Row(
        "tenant", lambda ids: orders.CancelOrderRequest(name=ids["order"]), {"name": "order"}
    ),
    "OrderService/WatchOrders": Row("tenant", lambda ids: orders.WatchOrdersRequest()),
    "FleetService/ReportHeartbeats": Row(
        "supplier operator node",
        lambda ids: fleet.ReportHeartbeatsRequest(node_ids=[ids["node_id"]]),
    ),
    "FleetService/LoadFleet": Row(
        "supplier operator",
        _loaded,
        {"nodes.node_id": "node_id", "nodes.supplier_id": "supplier_id"},
        {
            "nodes.node_id": "node ids are one name space: a taken one is refused, and not said whose it is",
            "nodes.supplier_id": "any id but one's own is refused, whether there is such a supplier or not",
        },
    ),
    "FleetService/GetNode": Row(
        "tenant supplier operator node", lambda ids: fleet.GetNodeRequest(name=ids["node"]), {"name": "node"}
    ),
    "FleetService/ListNodes": Row(CUSTOMERS, lambda ids: fleet.ListNodesRequest()),
    "FleetService/SetNodeState": Row(
        "supplier operator node",
        lambda ids: fleet.SetNodeStateRequest(name=ids["node"], state="DRAINING"),
        {"name": "node"},
    ),
    "FleetService/GetFleetStats": Row(CUSTOMERS, lambda ids: fleet.GetFleetStatsRequest()),
    "LedgerService/GetBalance": Row("tenant supplier", lambda ids: ledger.GetBalanceRequest()),
    "LedgerService/ListEntries": Row("tenant supplier", lambda ids: ledger.ListEntriesRequest()),
    "LedgerService/Deposit": Row(
        "operator",
        lambda ids: ledger.DepositRequest(account="tenants/alice", amount_micro_usd=5),
        {"account": "account"},
    ),
    "LedgerService/Withdraw": Row(
        "operator",
        lambda ids: ledger.WithdrawRequest(account="tenants/alice", amount_micro_usd=1),
        {"account": "account"},
    ),
    "OracleService/GetPrice": Row(CUSTOMERS, lambda ids: oracle.GetPriceRequest(**MARKET)),
    "OracleService/ListPrices": Row(CUSTOMERS, lambda ids: oracle.ListPricesRequest()),
    "OracleService/WatchPrices": Row(CUSTOMERS, lambda ids: oracle.WatchPricesRequest()),
    "OracleService/GetPriceHistory": Row(CUSTOMERS, lambda ids: oracle.GetPriceHistoryRequest(**MARKET)),
    "OracleService/EstimateCost": Row(CUSTOMERS, lambda ids: oracle.EstimateCostRequest(**MARKET, gpu_count=1)),
    "OracleService/GetSupplyCurve": Row(CUSTOMERS, lambda ids: oracle.GetSupplyCurveRequest(**MARKET)),
    "OracleService/GetIndicativePrice": Row(
        CUSTOMERS, lambda ids: oracle.GetIndicativePriceRequest(cluster=cluster(gpu_count=1))
    ),
    "PlanService/RunPlan": Row(
        "tenant",
        lambda ids: plans.RunPlanRequest(
            requests=[wanted("m", 1)], options=plans.PlanOptions(last_plan_id=ids["plan_id"])
        ),
        {"options.last_plan_id": "plan_id"},
    ),
    "PlanService/GetPlan": Row("tenant", lambda ids: plans.GetPlanRequest(name=ids["plan"]), {"name": "plan"}),
    "PlanService/ApplyPlan": Row("tenant", lambda ids: plans.ApplyPlanRequest(name=ids["plan"]), {"name": "plan"}),
}
