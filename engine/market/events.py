"""What has happened: the events of the journal, and their bytes.

Events are facts with all their results inside (placements, prices, times): replaying them computes nothing
anew, so it gives the same state whatever the solver has become since. The codec is MessagePack with a tag per
kind; fields are only ever added, with defaults. Node columns travel as little-endian arrays: int32 numbers and
GPUs, int64 prices.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.market.lease_terms import PriceLine, Profile, Terms
from engine.market.ledger.entries import Money
from engine.market.ledger.rules import LedgerRules

Int = NDArray[np.int64]


class Key(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An idempotency key: who said what under it."""

    tenant_id: str
    method: str
    key: str
    body_hash: bytes


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Root of all events. `at_us`: when it was decided, microseconds since the epoch, UTC.

    `money`: what it moves in the books, if anything.
    """

    at_us: int
    key: Key | None = None
    money: Money | None = None


class FleetLoaded(Event, frozen=True, kw_only=True, tag="fleet_loaded"):
    """Nodes were added or updated. `nodes` and `rtt` are Arrow IPC files (zstd) of the contract's columns."""

    load_id: str
    nodes: bytes
    rtt: bytes
    nodes_added: int
    nodes_updated: int


class PricesPosted(Event, frozen=True, kw_only=True, tag="prices_posted"):
    """New prices for all markets, in the order of `Inventory.markets`. `load_id`: the load behind them.

    No long-run prices: the forward curves are flat.
    """

    load_id: str = ""
    price_snapshot_id: str
    posted_micro_usd_per_gpu_hour: bytes
    sources: list[str]
    long_run_micro_usd_per_gpu_hour: bytes = b""
    half_life_h: float = 1.0


class NodeStateSet(Event, frozen=True, kw_only=True, tag="node_state_set"):
    """A node became READY, DRAINING or DOWN."""

    node: int
    state: str


class NodesStateSet(Event, frozen=True, kw_only=True, tag="nodes_state_set"):
    """Many nodes changed their state at once. `nodes`: little-endian int32 numbers, ascending.

    `cause`: OPERATOR or HEARTBEAT. `deadline_us`: when leases must have left DRAINING nodes; 0: they may stay.
    """

    nodes: bytes
    state: str
    cause: str
    deadline_us: int = 0


class NodesHeard(Event, frozen=True, kw_only=True, tag="nodes_heard"):
    """Nodes sent their first heartbeat: from now on their silence means loss. `nodes` as in `NodesStateSet`."""

    nodes: bytes


class QuoteIssued(Event, frozen=True, kw_only=True, tag="quote_issued"):
    """A firm price was given. `hold`: its GPUs are set aside until the quote ends."""

    quote_id: str
    tenant_id: str
    terms: Terms
    expires_at_us: int
    hold: bool = False


class QuoteEnded(Event, frozen=True, kw_only=True, tag="quote_ended"):
    """A quote is over without a lease; what it holds is given back. `reason`: RELEASED, or EXPIRED of a hold."""

    quote_id: str
    reason: str


class PricesPublished(Event, frozen=True, kw_only=True, tag="prices_published"):
    """An epoch of the oracle. Markets that are not named keep their prices.

    `snapshot`: the whole price snapshot in the oracle's own code, opaque here. `columns`: zlib of int64
    (7, markets), little-endian: posted, floor, cap and long-run price, shown clearing price or -1, all micro-USD
    per GPU-hour; σ of the posted price in 10^-9 per √hour; and the frozen flag.
    """

    price_snapshot_id: str
    epoch: int
    taken_at_us: int
    markets: list[tuple[str, str, str]]
    columns: bytes
    snapshot: bytes
    half_life_h: float
    spread_factor: float
    network_fee_ppm: int
    demand_kept_us: int
    history_kept_us: int
    interruptible: bytes = b""
    """zlib of int64 (markets,): prices of interruptible GPUs; empty: they cost what others cost."""


class WantedRequest(msgspec.Struct, frozen=True, array_like=True):
    """A request that was refused."""

    tenant_id: str
    request: ClusterRequest


class DemandNoted(Event, frozen=True, kw_only=True, tag="demand_noted"):
    """Requests were refused since the last such event; they count as demand."""

    refused: list[WantedRequest]


class LeaseStarted(Event, frozen=True, kw_only=True, tag="lease_started"):
    """GPUs were committed. `quote_id` is empty if no quote was used.

    `order_id`: the order that it fills, or empty. `retry_on_loss_s`: how long an order for the rest is to wait if
    nodes fail and the lease cannot go on elsewhere; 0: no order.
    """

    lease_id: str
    tenant_id: str
    terms: Terms
    ends_at_us: int
    quote_id: str = ""
    order_id: str = ""
    retry_on_loss_s: int = 0


class Kind(msgspec.Struct, frozen=True, array_like=True):
    """What leases of one size are for. `has_profile`: their prices change by the hour."""

    request: ClusterRequest
    retry_on_loss_s: int
    has_profile: bool


class LeasesStarted(Event, frozen=True, kw_only=True, tag="leases_started"):
    """Leases of one tenant began, of some kinds or alike but for sizes: a `LeaseStarted` for each, in columns.

    `many_leases.each_of` gives those events. Columns are little-endian, "<i4" but for money ("<i8"); by lease if
    not said otherwise. What they move in the books is here, too: `money` is None.
    """

    first: int
    """Number of the first lease; each counts as an event of its own."""
    tenant_id: str
    request: ClusterRequest
    """Of some size; without an id each is named after its lease."""
    sizes: list[tuple[int, bytes]]
    """(GPUs, the body hash that goes with keys) of each size."""
    size_of: bytes
    method: str
    keys: list[str]
    """Of calls of `method`; empty: none."""
    retry_on_loss_s: int
    node_counts: bytes
    nodes: bytes
    """As `gpus`, prices, `asks` and `market_of_node` by node, lease after lease; in each as in `Terms`."""
    gpus: bytes
    prices_micro_usd_per_gpu_hour: bytes
    asks_micro_usd_per_gpu_hour: bytes
    market_of_node: bytes
    """Place in `markets`."""
    markets: list[tuple[str, str, str]]
    curves: list[tuple[int, int]]
    """(posted, long-run) price of each market; none: prices stay the posted ones, and there are no profiles."""
    half_life_h: float
    line_counts: bytes
    lines: bytes
    """"<i8" (lines, 8), lease after lease: market, places in `charges.SET_BY` and `KINDS`, from_s, to_s, GPUs,
    rate, amount."""
    rates_micro_usd_per_hour: bytes
    totals_micro_usd: bytes
    idle_nodes_broken: bytes
    price_snapshot_id: str
    price_epoch: int
    fleet_version: int
    parts_ppm: tuple[int, int, int]
    """What the network, the burn and make-whole get of what is charged."""
    credits_micro_usd: bytes
    """What the tenant lacked and was credited for each."""
    earner_counts: bytes
    earners: bytes
    """Places in `suppliers`, as `weights` lease after lease; see `ledger.entries.Span`."""
    weights: bytes
    suppliers: list[str]
    kinds: list[Kind] = []
    """Of each size; none: all are for `request` in their size, with `retry_on_loss_s`."""

    @property
    def count(self) -> int:
        """Number of leases."""
        return len(self.keys)


class LeaseMoved(Event, frozen=True, kw_only=True, tag="lease_moved"):
    """A lease runs elsewhere from now on. Columns and card are as in `Terms`, of its whole placement."""

    lease_id: str
    nodes: bytes
    gpus: bytes
    prices_micro_usd_per_gpu_hour: bytes
    card: int = -1


class LeaseEnded(Event, frozen=True, kw_only=True, tag="lease_ended"):
    """GPUs were given back. `ended_at_us` may lie before `at_us`.

    `reason`: one of `engine.market.end_reasons`. `refund_micro_usd`: paid back of what was paid for the lease.
    """

    lease_id: str
    reason: str
    ended_at_us: int
    refund_micro_usd: int = 0


class OrderPlaced(Event, frozen=True, kw_only=True, tag="order_placed"):
    """A request waits for GPUs; fields as in `orders.Order`."""

    order_id: str
    tenant_id: str
    request: ClusterRequest
    expires_at_us: int
    priority: int = 0
    once: bool = False
    retry_on_loss_s: int = 0
    retry_of: str = ""


class OrderFilled(Event, frozen=True, kw_only=True, tag="order_filled"):
    """An order became the lease of the LeaseStarted just before, which has the terms."""

    order_id: str
    lease_id: str


class OrderEnded(Event, frozen=True, kw_only=True, tag="order_ended"):
    """An order is over without a lease. `reason`: CANCELLED or EXPIRED; `detail`: why the only try failed."""

    order_id: str
    reason: str
    detail: str = ""


class LeaseExtended(Event, frozen=True, kw_only=True, tag="lease_extended"):
    """A lease runs `duration_s` longer, on the nodes it has, until `ends_at_us`.

    `lines` sum to `amount_micro_usd`. `prices_micro_usd_per_gpu_hour` of its nodes and `profile` are as in `Terms`
    and of the added seconds; `curve_from_s`: the second of the profile's curves at which they begin. `locked`: at
    the price locked when it was sold.
    """

    lease_id: str
    ends_at_us: int
    duration_s: int
    lines: list[PriceLine]
    amount_micro_usd: int
    prices_micro_usd_per_gpu_hour: bytes
    profile: Profile | None = None
    curve_from_s: int = 0
    locked: bool = False
    network_fee_micro_usd: int = 0
    earned_micro_usd: int = 0
    """Of what was charged before, what is due by now: it is not paid back any more."""


class LeaseShrunk(Event, frozen=True, kw_only=True, tag="lease_shrunk"):
    """A lease gave GPUs back and keeps `gpu_count`. The columns are as in `Terms`, of what stays.

    `kept`: for each of its periods the GPUs of every row that stay, "<i4".
    """

    lease_id: str
    gpu_count: int
    nodes: bytes
    gpus: bytes
    prices_micro_usd_per_gpu_hour: bytes
    kept: list[bytes]
    refund_micro_usd: int
    earned_micro_usd: int = 0
    """As in `LeaseExtended`."""


class LeaseRepriced(Event, frozen=True, kw_only=True, tag="lease_repriced"):
    """An interruptible lease pays other prices from second `from_s` on; the columns are as in `Terms`.

    The difference for the time left is charged (`amount_micro_usd`) or paid back (`refund_micro_usd`).
    """

    lease_id: str
    from_s: int
    prices_micro_usd_per_gpu_hour: bytes
    amount_micro_usd: int
    refund_micro_usd: int
    network_fee_micro_usd: int = 0
    earned_micro_usd: int = 0
    """As in `LeaseExtended`."""


class LeaseReclaiming(Event, frozen=True, kw_only=True, tag="lease_reclaiming"):
    """Notice was given: a lease will end at `reclaim_at_us` for `reason` (`engine.market.end_reasons`).

    With SUPPLIER_DRAINED unless it finds another place before: whoever looks after it ends it then. A notice
    replaces an earlier one.
    """

    lease_id: str
    reason: str
    reclaim_at_us: int


class LeaseSpared(Event, frozen=True, kw_only=True, tag="lease_spared"):
    """The notice of a drain was taken back: a lease runs to its agreed end again."""

    lease_id: str


class PlanOutcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of one change of a plan. `change`: START, MOVE or STOP; `reason` is empty if it was made.

    `lease_id` is empty for a START that was not made.
    """

    request_id: str
    lease_id: str
    change: str
    reason: str
    detail: str


class PlanApplied(Event, frozen=True, kw_only=True, tag="plan_applied"):
    """A joint plan was applied as far as it still held; its other events stand just before this one."""

    plan_id: str
    tenant_id: str
    outcomes: list[PlanOutcome]


class LedgerRulesSet(Event, frozen=True, kw_only=True, tag="ledger_rules_set"):
    """The ledger goes by these rules from now on; leases that run keep their parts."""

    rules: LedgerRules


class FundsDeposited(Event, frozen=True, kw_only=True, tag="funds_deposited"):
    """A tenant paid in."""

    transfer_id: str
    tenant_id: str
    amount_micro_usd: int


class FundsWithdrawn(Event, frozen=True, kw_only=True, tag="funds_withdrawn"):
    """A tenant was paid out."""

    transfer_id: str
    tenant_id: str
    amount_micro_usd: int


class LeasesSettled(Event, frozen=True, kw_only=True, tag="leases_settled"):
    """Running leases were charged for what has started of them."""

    leases: list[str]


class KeyUsed(Event, frozen=True, kw_only=True, tag="key_used"):
    """A call with this key changed nothing else; `subject` is the object it was about."""

    subject: str


AnyEvent = (
    FleetLoaded
    | PricesPosted
    | NodeStateSet
    | NodesStateSet
    | NodesHeard
    | PricesPublished
    | DemandNoted
    | QuoteIssued
    | QuoteEnded
    | LeaseStarted
    | LeasesStarted
    | LeaseMoved
    | LeaseExtended
    | LeaseShrunk
    | LeaseRepriced
    | LeaseReclaiming
    | LeaseSpared
    | LeaseEnded
    | OrderPlaced
    | OrderFilled
    | OrderEnded
    | PlanApplied
    | LedgerRulesSet
    | FundsDeposited
    | FundsWithdrawn
    | LeasesSettled
    | KeyUsed
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(AnyEvent)


def encode(event: AnyEvent) -> bytes:
    """The bytes of an event: the same event gives the same bytes."""
    return _encoder.encode(event)


def decode(payload: bytes) -> AnyEvent:
    """The event of some bytes; raises `msgspec.MsgspecError` on others."""
    event: AnyEvent = _decoder.decode(payload)
    return event
