"""What can be asked of the market. Values are checked before they become a command."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.domain.tiers import NodeState
from engine.market.events import Key, Terms

Int = NDArray[np.int64]


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


@dataclass(frozen=True, slots=True)
class PlannedStop:
    """A lease that the plan ends. `standing`: its terms when the plan was made; `reason` as in `LeaseEnded`."""

    lease_id: str
    standing: Terms
    reason: str


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """A lease that is to run as `terms` say, GPUs that stay where they are included.

    `asks_micro_usd` (nodes,): what the nodes of `terms` asked per GPU-hour when the plan was made.
    """

    lease_id: str
    standing: Terms
    terms: Terms
    asks_micro_usd: Int


@dataclass(frozen=True, slots=True)
class PlannedStart:
    """A new lease; `asks_micro_usd` as in `PlannedMove`."""

    terms: Terms
    asks_micro_usd: Int


@dataclass(frozen=True, slots=True)
class PlanChanges:
    """What a joint plan changes: first the stops, then the moves in their order, then the starts.

    `fleet_version`: the fleet that the plan was made for.
    """

    fleet_version: int
    stops: tuple[PlannedStop, ...]
    moves: tuple[PlannedMove, ...]
    starts: tuple[PlannedStart, ...]


@dataclass(frozen=True, slots=True)
class ApplyPlan:
    """Make the changes of a plan that still hold. `changes` is None if no such plan of the tenant is kept."""

    tenant_id: str
    plan_id: str
    changes: PlanChanges | None
    key: Key | None = None


Command = (
    LoadFleet | SetNodeState | IssueQuote | DeployCluster | DeployQuote | ReleaseLease | EndDueLeases | ApplyPlan
)
