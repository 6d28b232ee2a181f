"""What can be asked of the market. Values are checked before they become a command."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from engine.domain.cluster_request import ClusterRequest
from engine.domain.tiers import NodeState
from engine.market.events import Key


@dataclass(frozen=True, slots=True)
class LoadFleet:
    """Add or update nodes and measured pairs; frames of the contract's columns, checked by `domain.tables`."""

    nodes: pl.DataFrame
    rtt: pl.DataFrame
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class SetNodeState:
    """Make a node READY, DRAINING or DOWN."""

    node_id: str
    state: NodeState
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class IssueQuote:
    """Give a price that is firm for `ttl_s` seconds."""

    tenant_id: str
    request: ClusterRequest
    ttl_s: int
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class DeployCluster:
    """Place a request and lease it."""

    tenant_id: str
    request: ClusterRequest
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class DeployQuote:
    """Lease the placement of a quote at its price."""

    tenant_id: str
    quote_id: str
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class ReleaseLease:
    """End a lease now."""

    tenant_id: str
    lease_id: str
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class EndDueLeases:
    """End the leases whose agreed end has come."""


Command = LoadFleet | SetNodeState | IssueQuote | DeployCluster | DeployQuote | ReleaseLease | EndDueLeases
