"""What can be asked of the market. Values are checked before they become a command."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest, with_gpu_count
from engine.domain.errors import InvalidInput, Violation
from engine.domain.limits import MAX_GPU_COUNT
from engine.domain.tiers import NodeState
from engine.market.events import Key, PricesPublished, WantedRequest
from engine.market.lease_terms import Terms
from engine.market.ledger.rules import LedgerRules

Int = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LoadFleet:
    """Add or update nodes and measured pairs; frames of the contract's columns, checked by `domain.tables`.

    `supplier_id`: the supplier whose nodes these must be, None for an operator's load of anybody's.
    """

    nodes: pl.DataFrame
    rtt: pl.DataFrame
    key: Key | None = None
    supplier_id: str | None = None


@dataclass(frozen=True, slots=True)
class SetNodeState:
    """Make a node READY, DRAINING or DOWN. `supplier_id`: whose it must be, None if that does not matter."""

    node_id: str
    state: NodeState
    key: Key | None = None
    supplier_id: str | None = None


@dataclass(frozen=True, slots=True)
class DrainNode:
    """Make a node DRAINING; what runs there has left or ended after `notice_s` seconds."""

    node_id: str
    notice_s: int
    key: Key | None = None
    supplier_id: str | None = None


@dataclass(frozen=True, slots=True)
class NoteHeartbeats:
    """What heartbeats mean by now; node numbers, each ascending. What no longer fits is left out.

    `first`: heard for the first time; `lost`: silent for too long; `back`: steady again after a loss.
    """

    first: Int
    lost: Int
    back: Int


@dataclass(frozen=True, slots=True)
class RepairLease:
    """Take a lease off the nodes it must leave, or end it."""

    lease_id: str


@dataclass(frozen=True, slots=True)
class OrderLimits:
    """How many orders may be open: of one tenant, and in all."""

    tenant_open_max: int = 2_000
    open_max: int = 50_000

    def __post_init__(self) -> None:
        found = [
            Violation(name, "must be between 0 and 1,000,000")
            for name in ("tenant_open_max", "open_max")
            if not 0 <= getattr(self, name) <= 1_000_000
        ]
        if found:
            raise InvalidInput(found)


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """Let a request wait for `ttl_s` seconds. It must have a price limit; fields as in `orders.Order`."""

    tenant_id: str
    request: ClusterRequest
    ttl_s: int
    priority: int = 0
    once: bool = False
    retry_on_loss_s: int = 0
    key: Key | None = None
    limits: OrderLimits = field(default_factory=OrderLimits)


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """End an order now."""

    tenant_id: str
    order_id: str
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class ServeOrder:
    """Try to fill an order."""

    order_id: str


@dataclass(frozen=True, slots=True)
class HoldLimits:
    """How much quotes may hold: GPUs and quotes of a tenant, and the share of a pool's GPUs.

    Of any pool `pool_gpus_free_of_limit` may be held whatever the share: else small ones could not be held at all.
    """

    tenant_gpus_max: int = 16_384
    tenant_quotes_max: int = 16
    pool_share_max: float = 0.5
    pool_gpus_free_of_limit: int = 64

    def __post_init__(self) -> None:
        ranges = {
            "tenant_gpus_max": MAX_GPU_COUNT,
            "tenant_quotes_max": 10_000,
            "pool_share_max": 1,
            "pool_gpus_free_of_limit": MAX_GPU_COUNT,
        }
        found = [
            Violation(name, f"must be between 0 and {most:,}")
            for name, most in ranges.items()
            if not 0 <= getattr(self, name) <= most
        ]
        if found:
            raise InvalidInput(found)


@dataclass(frozen=True, slots=True)
class IssueQuote:
    """Give a price that is firm for `ttl_s` seconds; within `hold`, if given, set the GPUs aside for as long."""

    tenant_id: str
    request: ClusterRequest
    ttl_s: int
    key: Key | None = None
    hold: HoldLimits | None = None
    lock_extension: bool = False


@dataclass(frozen=True, slots=True)
class ReleaseQuote:
    """End a quote now."""

    tenant_id: str
    quote_id: str
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class PublishPrices:
    """Take over an epoch of the oracle; fields as in the event."""

    event: PricesPublished


@dataclass(frozen=True, slots=True)
class NoteDemand:
    """Remember refused requests as demand."""

    refused: tuple[WantedRequest, ...]


@dataclass(frozen=True, slots=True)
class DeployCluster:
    """Place a request and lease it. `lock_extension`: its price is to hold for an extension, too.

    `retry_on_loss_s`: as in `LeaseStarted`.
    """

    tenant_id: str
    request: ClusterRequest
    key: Key | None = None
    lock_extension: bool = False
    retry_on_loss_s: int = 0


@dataclass(frozen=True, slots=True)
class DeployMany:
    """Lease one request in some sizes, one after another: the first so many of them that nothing stands against.

    `sizes`: GPUs, and the body hash that goes with a key; `size_of`, `keys`: of each lease, an empty key is none.
    `kinds`: the request and the seconds for a retry of each size, where they are not all alike; else empty.
    """

    tenant_id: str
    request: ClusterRequest
    sizes: tuple[tuple[int, bytes], ...]
    size_of: list[int]
    keys: list[str]
    method: str
    retry_on_loss_s: int = 0
    kinds: tuple[tuple[ClusterRequest, int], ...] = ()

    @property
    def requests(self) -> list[ClusterRequest]:
        """Of each size."""
        if self.kinds:
            return [request for request, _ in self.kinds]
        return [with_gpu_count(self.request, gpus) for gpus, _ in self.sizes]


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
class ExtendLease:
    """Let a lease run so much longer; refused if that costs more than `max_amount_micro_usd`."""

    tenant_id: str
    lease_id: str
    duration_s: int
    max_amount_micro_usd: int | None = None
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class ShrinkLease:
    """Give back so many replicas of a lease."""

    tenant_id: str
    lease_id: str
    replicas: int
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class EndDueLeases:
    """End the leases, held quotes and orders whose end has come."""


@dataclass(frozen=True, slots=True)
class SettleInterruptible:
    """Let interruptible leases pay the prices of now; give notice to those that will not."""

    lease_ids: tuple[str, ...]
    notice_us: int


@dataclass(frozen=True, slots=True)
class MakeRoom:
    """Give notice to the interruptible leases that a waiting request was found to need, which bid less."""

    request: ClusterRequest
    lease_ids: tuple[str, ...]
    notice_us: int


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


@dataclass(frozen=True, slots=True)
class DepositFunds:
    """Put money into a tenant's account."""

    tenant_id: str
    amount_micro_usd: int
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class WithdrawFunds:
    """Pay a tenant out of its account."""

    tenant_id: str
    amount_micro_usd: int
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class SettleLeases:
    """Charge the leases that were not settled for a period."""


@dataclass(frozen=True, slots=True)
class SetLedgerRules:
    """Let the ledger go by other rules."""

    rules: LedgerRules


Keyless = (
    EndDueLeases
    | PublishPrices
    | NoteDemand
    | SettleInterruptible
    | MakeRoom
    | NoteHeartbeats
    | RepairLease
    | ServeOrder
    | SettleLeases
    | SetLedgerRules
    | DeployMany
)
Command = (
    LoadFleet
    | SetNodeState
    | DrainNode
    | PlaceOrder
    | CancelOrder
    | IssueQuote
    | ReleaseQuote
    | DeployCluster
    | DeployQuote
    | ReleaseLease
    | ExtendLease
    | ShrinkLease
    | ApplyPlan
    | DepositFunds
    | WithdrawFunds
    | Keyless
)
