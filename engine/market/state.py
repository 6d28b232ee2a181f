"""The state of the market: what replaying the events gives. Only `apply` changes it.

Ended leases, expired quotes, applied plans and the idempotency keys behind them are kept for `KEPT_US` and then
forgotten, driven by the times inside events, so that a replay forgets the same.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from dataclasses import dataclass, field

import msgspec
import numpy as np

from engine.market import orders
from engine.market.changes import Changes
from engine.market.demand_window import DemandWindow
from engine.market.end_reasons import EndReason
from engine.market.events import Key, PlanOutcome
from engine.market.failure import Liveness
from engine.market.inventory import Inventory
from engine.market.lease_terms import PriceLine, Terms
from engine.market.ledger.books import Books
from engine.market.orders import Order
from engine.market.periods import Period
from engine.market.published import OracleState

KEPT_US = 24 * 3_600 * 1_000_000
ACTIVE, RECLAIMING, ENDED = "ACTIVE", "RECLAIMING", "ENDED"


class Lease(msgspec.Struct, gc=False):
    """GPUs committed to a tenant. `ends_at_us`: agreed end while it runs, real end once ended.

    `terms`: as they were sold. `moved`: the same with the placement of now, None if it never changed.
    `changed_periods`: what is paid over its hours, None if that is as sold. `paid_micro_usd`: all that was
    charged, `refunded_micro_usd`: what of it was paid back. `order_id`, `retry_on_loss_s`: as in the event.
    """

    lease_id: str
    tenant_id: str
    terms: Terms
    starts_at_us: int
    ends_at_us: int
    quote_id: str
    state: str = ACTIVE
    end_reason: str = ""
    moved: Terms | None = None
    order_id: str = ""
    retry_on_loss_s: int = 0
    changed_periods: tuple[Period, ...] | None = None
    paid_micro_usd: int = 0
    refunded_micro_usd: int = 0
    network_fee_micro_usd: int = 0
    earned_micro_usd: int = 0
    """What was due when it was last extended, shrunk or repriced. Each change is rounded for itself; this keeps
    what is due from falling by that."""
    added_lines: list[PriceLine] = []
    """What was charged beside the terms."""
    locked_s: int = 0
    """Seconds by which it was extended at its locked price."""
    reclaim_at_us: int = 0
    reclaim_reason: str = ""
    """While RECLAIMING: when it will end, and why."""
    fencing_epoch: int = 1
    """Grows whenever its placement, its size or its end changes: who acts on an older one is out of date."""

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.state != ENDED

    @property
    def must_move(self) -> bool:
        """Whether it has the notice of a drain: it ends then only if it still finds no other place."""
        return self.state == RECLAIMING and self.reclaim_reason == EndReason.SUPPLIER_DRAINED

    @property
    def due_at_us(self) -> int:
        """When it ends by itself: at its agreed end, or before it, where it is reclaimed."""
        by_itself = self.state == RECLAIMING and not self.must_move
        return min(self.ends_at_us, self.reclaim_at_us) if by_itself else self.ends_at_us

    @property
    def duration_s(self) -> int:
        """Seconds from its start to its agreed end."""
        return self.periods[-1].to_s

    @property
    def periods(self) -> tuple[Period, ...]:
        """What is paid over its hours."""
        return (Period.of(self.terms),) if self.changed_periods is None else self.changed_periods

    @property
    def charged_micro_usd(self) -> int:
        """What was charged and not paid back."""
        return self.paid_micro_usd - self.refunded_micro_usd

    @property
    def refundable_micro_usd(self) -> int:
        """The most that can still be paid back: what is earned, or the price of holding and locking, is not."""
        return self.charged_micro_usd - max(self.terms.spread_micro_usd, self.earned_micro_usd)

    @property
    def standing(self) -> Terms:
        """The terms with the nodes on which it runs now, or ran last."""
        return self.moved or self.terms


def started(lease_id: str, tenant_id: str, terms: Terms, starts_at_us: int, quote_id: str = "") -> Lease:
    """A lease at its start."""
    return Lease(
        lease_id=lease_id,
        tenant_id=tenant_id,
        terms=terms,
        starts_at_us=starts_at_us,
        ends_at_us=starts_at_us + terms.duration_s * 1_000_000,
        quote_id=quote_id,
        paid_micro_usd=terms.total_micro_usd,
        network_fee_micro_usd=terms.network_fee_micro_usd,
    )


@dataclass(slots=True)
class Quote:
    """A firm price until `expires_at_us`; usable once, by its tenant.

    `hold`: its GPUs are set aside while it is open. `end_reason`: RELEASED or, of a hold, EXPIRED; empty if it was
    deployed, is open, or expired without having held anything.
    """

    quote_id: str
    tenant_id: str
    terms: Terms
    created_at_us: int
    expires_at_us: int
    lease_id: str = ""
    hold: bool = False
    end_reason: str = ""

    @property
    def holds(self) -> bool:
        """Whether it holds GPUs now."""
        return self.hold and not self.lease_id and not self.end_reason


@dataclass(slots=True)
class Load:
    """What a fleet load did. The last three are of the whole fleet, once its prices were posted."""

    nodes_added: int
    nodes_updated: int
    rtt_pairs: int
    gpus_registered: int = 0
    pools: int = 0
    fleet_version: int = 0


@dataclass(frozen=True, slots=True)
class Application:
    """What applying a joint plan did, in the order of the plan's changes."""

    tenant_id: str
    outcomes: list[PlanOutcome]


@dataclass(slots=True)
class MarketState:
    """All that the engine knows. `sequence` counts events; `version` does, too, but leases that one event begins
    each by itself; `fleet_version` changes of nodes and prices."""

    inventory: Inventory = field(default_factory=Inventory.empty)
    leases: dict[str, Lease] = field(default_factory=dict)
    leases_of: dict[str, dict[str, None]] = field(default_factory=dict)
    interruptible: dict[str, None] = field(default_factory=dict)
    """Interruptible leases that run, also under notice, oldest first."""
    quotes: dict[str, Quote] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    orders_of: dict[str, dict[str, None]] = field(default_factory=dict)
    open_orders: dict[str, None] = field(default_factory=dict)
    """Oldest first."""
    liveness: Liveness = field(default_factory=Liveness)
    changes: Changes = field(default_factory=Changes)
    loads: dict[str, Load] = field(default_factory=dict)
    applied: dict[str, Application] = field(default_factory=dict)
    """By plan, each applied at most once."""
    price_sources: list[str] = field(default_factory=list)
    oracle: OracleState = field(default_factory=OracleState)
    demand: DemandWindow = field(default_factory=DemandWindow)
    books: Books = field(default_factory=Books)
    held_by: dict[str, dict[str, int]] = field(default_factory=dict)
    """Tenant → its quotes that hold GPUs now, with how many."""
    subjects: dict[tuple[str, str, str], tuple[bytes, str]] = field(default_factory=dict)
    """(tenant, method, key) → (body hash, id of the object that the first call was about)."""
    keys_of: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    """Lease or order → its idempotency keys."""
    sequence: int = 0
    version: int = 0
    fleet_version: int = 0
    active: int = 0
    due: list[tuple[int, str]] = field(default_factory=list)
    """Heap of (agreed end, lease, held quote or order); entries of what ended early are skipped when met."""
    forgettable: deque[tuple[int, str | tuple[str, str, str]]] = field(default_factory=deque)
    """(since, what) by age: ids of ended leases and orders, quotes and applied plans; keys of other things."""

    def remember(self, key: Key | None, subject: str, at_us: int) -> None:
        """Bind an idempotency key to what its call was about; those of leases and orders live as long as they."""
        if key is None:
            return
        name = (key.tenant_id, key.method, key.key)
        self.subjects[name] = (key.body_hash, subject)
        if subject in self.leases or subject in self.orders:
            self.keys_of.setdefault(subject, []).append(name)
        else:
            self.forgettable.append((at_us, name))

    def forget(self, now_us: int) -> None:
        """Drop what has been over for longer than KEPT_US, and demand and history beyond their times."""
        self.demand.forget(now_us)
        self.oracle.forget(now_us)
        while self.forgettable and self.forgettable[0][0] < now_us - KEPT_US:
            _, name = self.forgettable.popleft()
            if isinstance(name, tuple):
                del self.subjects[name]
            elif name in self.quotes:
                del self.quotes[name]
            elif name in self.applied:
                del self.applied[name]
            elif name in self.orders:
                orders.forget(self, name)
            else:
                self._forget_lease(name)

    def _forget_lease(self, lease_id: str) -> None:
        lease = self.leases.pop(lease_id)
        del self.leases_of[lease.tenant_id][lease_id]
        for name in self.keys_of.pop(lease_id, ()):
            del self.subjects[name]

    def next_due(self) -> tuple[int, str] | None:
        """(end, id) of the running lease, held quote or open order that ends first."""
        while self.due and not self._is_due(self.due[0]):
            heapq.heappop(self.due)
        return self.due[0] if self.due else None

    def due_by(self, now_us: int) -> list[tuple[int, str]]:
        """(end, id) of all running leases, held quotes and open orders that end by then: the top of the heap."""
        found, places = [], [0]
        for place in places:
            if place < len(self.due) and self.due[place][0] <= now_us:
                found.append(self.due[place])
                places += [2 * place + 1, 2 * place + 2]
        return sorted({entry for entry in found if self._is_due(entry)})

    def _is_due(self, entry: tuple[int, str]) -> bool:
        """Whether an entry of the heap still says when something ends; an extension leaves its old one behind."""
        ends_at_us, name = entry
        lease, quote = self.leases.get(name), self.quotes.get(name)
        if name in self.open_orders:
            return True
        if lease is not None:
            return lease.runs and lease.due_at_us == ends_at_us
        return quote is not None and quote.holds

    def hash(self) -> str:
        """SHA-256 over everything a reply can depend on, in a canonical order."""
        digest = hashlib.sha256()
        inventory = self.inventory
        counts = inventory.leased, inventory.held, inventory.state, inventory.posted, inventory.long_run
        for array in (*counts, *inventory.beside()):
            digest.update(np.ascontiguousarray(array).tobytes())
        encode = msgspec.msgpack.Encoder(order="deterministic").encode
        for column in (*inventory.frame, *inventory.rtt):
            digest.update(encode(column.to_list()))
        facts = (
            self.version,
            self.fleet_version,
            inventory.price_snapshot_id,
            inventory.half_life_h,
            self.price_sources,
            self.oracle.facts(),
            self.books.facts(),
            self.demand.kept_us,
            list(self.demand.leased),
            [(tenant_id, list(own.values())) for tenant_id, own in self.demand.wished.items()],
            sorted((tenant_id, sorted(own.items())) for tenant_id, own in self.held_by.items()),
            sorted(self.leases.items()),
            sorted(self.quotes.items()),
            sorted(self.orders.items()),
            self.liveness.facts(),
            sorted(self.loads.items()),
            sorted(self.applied.items()),
            sorted(self.subjects.items()),
            sorted(self.keys_of.items()),
            list(self.forgettable),
        )
        for fact in facts:
            digest.update(encode(fact))
        return digest.hexdigest()
